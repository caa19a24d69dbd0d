"""The page of a run: tables, figures and pictures that are pure readings of what was measured."""
