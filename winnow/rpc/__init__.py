"""What clients and servers share: credentials, health checks, errors and the violations in them. Needs grpcio alone."""
