"""Two nodes at full load for minutes, and everything that must still be true afterwards. See README.md."""
