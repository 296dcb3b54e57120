"""The one door to Rust: `handle` says what a data plane is, `native` is the compiled one, `events` listens."""
