"""Intervals at the level of runs."""
