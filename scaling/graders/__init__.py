"""Graders: what judges a response where a rule of the task's own is not enough; one file each."""
