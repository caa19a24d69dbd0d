"""Machine-made faces: generators, their weights and their samples."""
