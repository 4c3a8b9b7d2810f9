"""Winnow: a two-stage recommender over gRPC."""
