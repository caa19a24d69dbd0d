"""What runs the pipeline again and again, and from one profile to the next."""
