"""What an export writes: Parquet, Zarr, Lance."""
