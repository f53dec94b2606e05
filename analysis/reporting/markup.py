"""From sentences to HTML: the templates and the filters that turn symbols (k, N0, "Figure 2") into markup."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from analysis.missing import Missing
from analysis.words import number_words, split_symbol, symbol_pattern

TEMPLATES = Path(__file__).parent / "templates"


VARIABLE = re.compile(r"(?<![\w.\-&])([kNCDLEGUTX])(?![\w\-∞])")


def symbols(text: str, known: Sequence[str] = ()) -> Markup:
    """Escaped text with numbers in words and its symbols in italics: k, L, R2, and the `known` ones of a law with
    their subscripts."""
    text = VARIABLE.sub(r"<i>\1</i>", number_words(str(text)))
    return Markup(symbol_pattern(known).sub(lambda symbol: html_symbol(symbol[0]), text))


def html_symbol(symbol: str) -> str:
    letter, below = split_symbol(symbol)
    kind = "sup" if symbol == "R2" else "sub"
    return f"<i>{letter}</i><{kind}>{below}</{kind}>"


def prose(text: str, known: Sequence[str] = ()) -> Markup:
    """A plain sentence as HTML: escaped, symbols in italics, `Figure 2` a link."""
    shown = str(symbols(str(escape(text)).replace(" %", "\u00a0%"), known))
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
        "indistinguishable",
        "no interval",
    ),
}


def tone(word: str) -> str:
    """The colour of a status word; digits in front (`2 done`) do not matter."""
    bare = word.lstrip("0123456789 ")
    return next((name for name, words in TONES.items() if bare in words), "none")


def environment(known: Sequence[str] = ()) -> jinja2.Environment:
    """The templates, with the filters that they use; `known`: the symbols of the page's law."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.tests["missing"] = lambda part: isinstance(part, Missing)
    templates.filters |= {"prose": partial(prose, known=known), "symbols": partial(symbols, known=known), "tone": tone}
    return templates
