"""What each option is worth, data set by data set: the paper's Figure 6, and options changed one at a time."""
