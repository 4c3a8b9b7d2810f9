"""Measures Winnow against the limits of its platform and against a naive implementation."""
