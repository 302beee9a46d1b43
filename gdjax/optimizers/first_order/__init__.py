"""First-order methods: gradient descent with momentum, adaptive rates, clipping, perturbations."""
