"""Recommendations for every user of a log, as a file: for a night's mailing. `winnow recommend --users`."""
