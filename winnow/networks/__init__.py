"""The two networks of the paper, one per file, and the modules that their options add to them."""
