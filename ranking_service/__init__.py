"""The ranking service: watch histories and candidates -> scores."""
