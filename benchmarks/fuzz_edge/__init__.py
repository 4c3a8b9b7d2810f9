"""Hostile requests against real services: none may hold an event loop, break the status contract or show in a log."""
