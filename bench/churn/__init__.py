"""What traffic feels of a mesh that changes: `python -m bench.churn` (README in this folder)."""
