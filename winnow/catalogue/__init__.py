"""The items of a release: ids and rows, titles and further columns, typed attributes, filters."""
