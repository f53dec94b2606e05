"""Tan et al., arXiv 2509.25300: its tables and figures from the shipped curves, beside the published values."""
