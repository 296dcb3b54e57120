"""What the control plane speaks: protobuf messages, and gRPC over TLS.

Bytes and connections; what the messages mean is for `identity` (the CA) and `xds` (the mesh) to say.
"""
