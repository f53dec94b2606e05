"""What is asked of curves and fits: every number that a figure or a table shows is computed here."""
