"""What an export reads: folders, tar shards, tables, lists of paths."""
