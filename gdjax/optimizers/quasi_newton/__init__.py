"""Quasi-Newton methods and their kin: curvature learnt from gradients."""
