"""Where the time and the memory of this process go, for `go tool pprof` (spec/control.md §10.1).

    cpu      `/debug/pprof/profile`: both halves' threads, for some seconds       query    what was asked for
    stacks   Python's own threads, sampled by Python                              message  the protobuf
    heap     `/debug/pprof/heap`, `/debug/pprof/heap/profiling`

Rust samples its threads by itself (`rust/proxy/src/profile.rs`).
"""
