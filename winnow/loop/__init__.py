"""From what was served to the next release: the export of logs, and retraining from it."""
