"""Measures a release on a log, beside the baselines that a user would try first."""
