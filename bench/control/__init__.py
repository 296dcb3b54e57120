"""A large mesh from a control plane, while traffic runs: `python -m bench.control`, as root."""
