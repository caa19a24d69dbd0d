"""How generators are trained: the loop, augmentation, what differs from the paper."""
