"""The HTTP door: the same services, limits and tokens as over gRPC, for callers that speak JSON."""
