"""Nonsmooth objectives and simple sets: proximal, projected, mirror and splitting methods, subgradients."""
