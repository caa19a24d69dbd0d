"""DeepFD: D1 learns features that all generators share, D2 classifies and localises on them."""
