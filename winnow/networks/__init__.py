"""The two networks of the paper, one a file, and what they are made of."""
