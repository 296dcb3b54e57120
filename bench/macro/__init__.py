"""Proxies side by side, in network namespaces of their own: see bench/README.md."""
