"""What clients and servers share: credentials, health checks, the violations in an error. Needs grpcio alone."""
