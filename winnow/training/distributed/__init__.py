"""Training by several processes, which torchrun starts: each has a part of the users and of the rows of every table."""
