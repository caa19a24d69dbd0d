"""How fast the pipeline is beside what one would use otherwise; nothing here is a stage.

`python -m benchmarks.speed` (`make speed`) runs every comparison, `python -m
benchmarks.speed.growth` measures how time and memory grow; docs/speed.md is made of what they
write.
"""
