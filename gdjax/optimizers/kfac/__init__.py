"""K-FAC: natural gradient with Kronecker-factored curvature of dense layers."""
