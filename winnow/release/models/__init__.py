"""The part of a release that needs torch: networks and index, read and written."""
