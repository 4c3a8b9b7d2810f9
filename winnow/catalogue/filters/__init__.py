"""The filter language: text -> checked expression -> the rows that match."""
