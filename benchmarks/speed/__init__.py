"""How fast parts of the pipeline are; nothing here is a stage."""
