"""Upstream's environment (spec/control.md §2) as settings: what makes `ztunnel proxy` a drop-in.

    environ ─▶ variables ─▶ reading ─▶ Config ─▶ proxy ─▶ ProxySettings ─▶ mesh ─▶ the local mesh, and who we are
                  ▲                      └─▶ dump ─▶ /config_dump, log
                table ─▶ docs/reference/environment.md

Everything takes a mapping: only the command line looks at `os.environ`, and Rust reads no environment at all.
Counterpart: `nodefile`, for a node that is told by its own file.
"""
