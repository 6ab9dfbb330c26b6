"""Figures, intervals and comparisons. Knows no heads, encoders or Ray."""
