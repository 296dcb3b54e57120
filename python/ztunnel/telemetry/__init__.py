"""What a node says about itself: log lines, and whether its event loop turns. Metrics are Rust's."""
