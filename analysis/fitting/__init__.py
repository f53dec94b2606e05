"""Fit a law to points: choices, points, solvers, the record."""
