"""Two gRPC libraries on the job of learning a mesh: grpclib, which the package uses, and grpcio."""
