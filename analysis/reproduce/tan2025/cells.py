"""How cells of the reference study's tables are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from analysis.words import interval, short_number


def digits(count: int, *, sign: bool = False) -> Callable[[Any], str]:
    """A number with so many decimals and a true minus sign; a missing one as a dash."""

    def show(value: Any) -> str:
        if value is None or not np.isfinite(value):
            return "–"
        return f"{value:{'+' if sign else ''}.{count}f}".replace("-", "−")

    return show


def size(value: Any) -> str:
    return short_number(float(value))


def billions(ends: Any) -> str:
    return interval(ends, lambda value: f"{value / 1e9:.3g}")


def _ends(row: dict[str, Any], name: str, scale: float = 1.0) -> Any:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return tuple(None if end is None or pd.isna(end) else end / scale for end in (low, high))


def _split(row: dict[str, Any], name: str, ends: Any) -> None:
    row[f"{name}_low"], row[f"{name}_high"] = ends if ends is not None else (None, None)
