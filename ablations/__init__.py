"""Ablations per data set: features and depth as in the paper's Figure 6, and options changed one at a time."""
