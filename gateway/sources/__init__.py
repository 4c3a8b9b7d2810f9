"""Candidate sources, one a file: each turns requests into candidates."""
