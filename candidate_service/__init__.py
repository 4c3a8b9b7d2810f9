"""The candidate service: watch histories -> user vectors -> the best items of the whole catalogue."""
