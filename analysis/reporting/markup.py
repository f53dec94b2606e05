"""From sentences to HTML: the templates and the filters that turn symbols (k, N0, Kmax, "Figure 2") into markup."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from analysis.missing import Missing

TEMPLATES = Path(__file__).parent / "templates"


VARIABLE = re.compile(r"(?<![\w.\-&])([kNCDLEGUTX])(?![\w\-])")


def symbols(text: str) -> Markup:
    """Escaped text with its symbols in italics: k, N0, Kmax, R2, L."""
    text = VARIABLE.sub(r"<i>\1</i>", str(text))
    text = re.sub(r"\bN0\b", "<i>N</i><sub>0</sub>", text)
    text = re.sub(r"\bKmax\b", "<i>K</i><sub>max</sub>", text)
    return Markup(re.sub(r"\bR2\b", "<i>R</i><sup>2</sup>", text))


def prose(text: str) -> Markup:
    """A plain sentence as HTML: escaped, symbols in italics, `Figure 2` a link."""
    shown = str(symbols(str(escape(text)).replace(" %", "\u00a0%")))
    return Markup(re.sub(r"\bFigure (\d+)", r'<a href="#figure-\1">Figure \1</a>', shown))


TONES = {
    "ok": ("done", "complete", "identified", "right", "scored", "predicted", "reached", "least error"),
    "bad": ("failed", "missing", "not identified", "wrong", "no fit", "leaks", "never", "not fitted"),
    "warning": (
        "incomplete",
        "warning",
        "not established",
        "cut off",
        "uneven",
        "not made",
        "extrapolated",
        "not reached",
        "worse",
        "not told apart",
        "no interval",
    ),
}


def tone(word: str) -> str:
    """The colour of a status word; digits in front (`2 done`) do not matter."""
    bare = word.lstrip("0123456789 ")
    return next((name for name, words in TONES.items() if bare in words), "none")


def environment() -> jinja2.Environment:
    """The templates, with the filters that they use."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.tests["missing"] = lambda part: isinstance(part, Missing)
    found.filters |= {"prose": prose, "symbols": symbols, "tone": tone}
    return found
