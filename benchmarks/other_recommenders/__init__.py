"""Recommenders of other libraries, trained and measured as a release is: the same split, all unseen items ranked."""
