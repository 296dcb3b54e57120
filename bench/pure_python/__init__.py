"""The tunnel once more, in plain Python: asyncio, `ssl` and `h2`, written from the protocol alone.

It is two things: the rival in `make bench`, so it is written to be fast for what it is; and an
independent peer in the tests, so it shares no line with the product. Mutual TLS 1.3 with SPIFFE
names, HTTP/2 CONNECT, flow control and half-close both ways. It is not a product: no policy, no
mesh, one identity per process.

* `tunnel.py`: one HTTP/2 connection; `flow.py`: an application's socket in it
* `client.py`: a local port → CONNECT; `server.py`: CONNECT → an application
* `identity.py`: TLS contexts and names; `certs.py`: a throw-away CA for tests and benchmarks
* `python -m bench.pure_python certs | serve | connect`
"""
