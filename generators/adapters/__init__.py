"""Kinds of generators: each turns seeds into images, wherever its weights come from."""
