"""Methods, metrics and the leave-one-generator-out matrix."""
