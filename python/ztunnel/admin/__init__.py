"""Telling operators: port 15000 on the loopback addresses, for `istioctl ztunnel-config`, `curl` and a browser.

    server      listens, accepts, bounds              access      who may ask for what
    connection  HTTP/1.1 on one connection            routes      which request gets which answer
    listen      the loopback sockets                  config_dump, levels, index, pprof: the answers
    hangup      is a client still there

What traffic needs is never here: readiness and metrics are Rust's (`rust/proxy/src/telemetry/stats.rs`).
Nothing but `server` is loaded before somebody connects.
"""
