"""What families of optimizers share: acceptance of trial points, damping, precision."""
