"""Training and evaluation data: recipes, fetching, rendering, splits and shards."""
