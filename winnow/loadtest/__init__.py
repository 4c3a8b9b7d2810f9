"""A load tool for gateways.

`load` describes what to send, `histories` makes the requests, `processes` starts client processes, `caller` is what
each of them does, `measured` holds what they saw, and `summary` shows it.
"""
