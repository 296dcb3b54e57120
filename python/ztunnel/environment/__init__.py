"""Upstream's environment (spec/control.md §2) as settings: what makes `ztunnel proxy` a drop-in.

    environ ─▶ variables.py ─▶ proxy.py ─▶ ProxySettings ─▶ mesh.py ─▶ the local mesh and who we are in it

Everything takes a mapping: only the command line looks at `os.environ`, and Rust reads no environment at all.
Counterpart: `nodefile`, for a node that is told by its own file.
"""
