"""A control plane that answers the first request with a large message and each ACK with a small one.

Runs on grpcio, whose server is the same for both clients and never the bottleneck. Needs nothing of this project:
`python server.py PORT CERTIFICATE KEY LARGE SMALL UPDATES` (four files, and how many small ones).
"""

from __future__ import annotations

import importlib
import sys
from concurrent import futures
from pathlib import Path
from typing import Any

# Not by `import`: the project's own environment, in which this is checked, has none.
grpc: Any = importlib.import_module("grpc")

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


def main(port: str, certificate: str, key: str, large: str, small: str, updates: str) -> None:
    """Serves until it is killed."""
    first, other = Path(large).read_bytes(), Path(small).read_bytes()

    def answer(requests: Any, context: Any) -> Any:
        del context
        next(requests)
        yield first
        for _ in range(int(updates)):
            next(requests)
            yield other
        for _ in requests:
            pass

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            if details.method == METHOD:
                return grpc.stream_stream_rpc_method_handler(answer)
            return None

    unlimited = [("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(4), options=unlimited)
    server.add_generic_rpc_handlers((Handler(),))
    pair = (Path(key).read_bytes(), Path(certificate).read_bytes())
    server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([pair]))
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
