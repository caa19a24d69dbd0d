"""The way from photographs and generators to DVC-tracked Parquet, and the flows that run it."""
