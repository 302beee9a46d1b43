"""Nonlinear least squares: Gauss-Newton and Levenberg-Marquardt, with the covariance of a fit."""
