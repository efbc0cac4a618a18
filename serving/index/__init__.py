"""Sparse codes in vector databases: an export goes in, a query finds the nearest rows."""
