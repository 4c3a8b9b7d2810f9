"""Continuous features of a candidate (paper, sections 4.1.1 and 4.1.3): training and serving share this code.

A feature is a function from a FeatureBatch to one number per candidate, in the file of its family, and is listed in
`registry`.
"""
