"""Second-order methods: Newton, trust regions, cubic regularization, natural gradient, Shampoo."""
