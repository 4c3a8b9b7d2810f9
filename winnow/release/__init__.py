"""A release: what training hands to the services, one directory that all three load together.

Nothing here needs torch, so that the gateway can use it, except the package `models`.
"""
