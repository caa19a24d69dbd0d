"""The way from photographs and generators to DVC-tracked Parquet; operate/ runs it."""
