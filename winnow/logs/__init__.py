"""From files to arrays: interaction logs, impression logs, items files, splits, data sets."""
