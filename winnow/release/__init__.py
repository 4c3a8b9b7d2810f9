"""A release: what training hands to the services, one directory that all three load together.

`manifest`, `reader` and `items` need no torch, so that the gateway can use them; `writer` and `networks` do.
"""
