"""Networks that are trained here, a file each: network, losses, recipe, its paper."""
