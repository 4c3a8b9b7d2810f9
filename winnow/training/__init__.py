"""From an interaction log to a release: examples, the two stages, evaluation."""
