"""The part of a release that needs torch: reading and writing networks and index."""
