"""Learning curves: the frame, its checks, its sources and the row filter."""

from analysis.curves.check import check_where, make_curves
from analysis.curves.frame import CONVENTION, RUN_KEYS, Curves, run_label
from analysis.curves.load import REFERENCE, expect, load

__all__ = ["CONVENTION", "REFERENCE", "RUN_KEYS", "Curves", "check_where", "expect", "load", "make_curves", "run_label"]
