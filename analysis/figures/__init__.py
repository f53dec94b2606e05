"""The figures of a study, each drawn from curves and a fit, with the caption and the table that belong to it.

A figure is a function that returns `Drawn`. It is drawn twice, "full" (6.8 in, panels side by side) and "column"
(3.3 in, panels stacked). Captions and findings are written from the fit: no number in them is typed here. A figure that
its data cannot carry is not drawn: the function raises InputError with the reason. A figure never fits: the numbers
come from `analysis.questions`.

`style`, `axes`, `labels`, `envelope` and `svg` hold what the figures share; every other module holds one figure.

The report draws the figures below, each from the fit that it needs. A file NAME.py that names a section of the report
in `SECTION` is drawn there, too, without another edit: its function NAME takes the curves, the study's fit (None where
no law could be fitted) and `layout`.
"""

import importlib
import pkgutil
from collections.abc import Callable

from analysis.figures.algorithm_comparison import algorithm_comparison
from analysis.figures.compute_split import compute_split
from analysis.figures.efficiency import efficiency
from analysis.figures.frontier import frontier
from analysis.figures.group_size import group_size
from analysis.figures.loss_curves import loss_curves, plot_fit
from analysis.figures.multiplier import multiplier
from analysis.figures.reuse import reuse
from analysis.figures.sensitivity import sensitivity
from analysis.figures.svg import Drawn, inline_svg, save

__all__ = [
    "Drawn",
    "algorithm_comparison",
    "compute_split",
    "efficiency",
    "frontier",
    "group_size",
    "inline_svg",
    "loss_curves",
    "multiplier",
    "plot_fit",
    "reuse",
    "save",
    "sensitivity",
]

BY_SECTION: dict[str, dict[str, Callable[..., Drawn]]] = {}
"""The figures that name their section of the report: {section: {name: function}}."""
for _name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    _module = importlib.import_module(f"{__name__}.{_name}")
    if hasattr(_module, "SECTION"):
        # The import has put the module where users expect the function.
        globals()[_name] = getattr(_module, _name)
        BY_SECTION.setdefault(_module.SECTION, {})[_name] = getattr(_module, _name)
