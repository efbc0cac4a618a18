"""Batch export: a whole collection to sparse codes, shard by shard."""
