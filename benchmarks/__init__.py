"""Measurements of Winnow against the limits of its platform and against the obvious implementation."""
