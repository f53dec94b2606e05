"""`Drawn`, the figure with its caption and table, and how it is saved: SVG for a page, PNG and CSV; equal input
gives equal bytes.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from analysis.curves.frame import Frame
from analysis.figures.style import style
from scaling.schema import InputError


class Drawn(NamedTuple):
    """A figure with everything that a page needs around it."""

    figure: Figure
    caption: str  # HTML-safe text; begins with `title`
    table: Frame  # what every mark and line was drawn from
    title: str
    finding: str  # one sentence with numbers, for readers who do not see the figure

    def _repr_html_(self) -> str:
        """In a notebook: the figure and its caption."""
        return f"{inline_svg(self.figure, 'notebook')}<p>{self.caption}</p>"


MOST_SVG_BYTES = 300_000
COORDINATES = re.compile(r'(\s(?:d|x|y|points|width|height|viewBox)=")([^"]*)"')
DECIMAL = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


def rounded(match: re.Match[str]) -> str:
    text = f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def inline_svg(figure: Figure, prefix: str) -> str:
    """The figure as an <svg> element for a page: ids start with `prefix`, coordinates have two decimals, no date.

    Numbers inside transforms keep their digits: glyphs are scaled by them, and rounding breaks the text.
    """
    buffer = io.StringIO()
    with style(prefix):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].rstrip()
    svg = re.sub(r"<!--.*?-->\n?|<metadata>.*?</metadata>\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\n\s*", "\n", svg).replace('"\n/>', '"/>')
    svg = short_ids(svg, prefix)
    svg = COORDINATES.sub(lambda match: match[1] + DECIMAL.sub(rounded, match[2]) + '"', svg)
    svg = shared_styles(svg)
    title, _, finding = str(figure.get_label()).partition("\n")
    opening = (
        f'<svg role="img" aria-labelledby="{prefix}-title" aria-describedby="{prefix}-finding"'
        f"{svg[4 : svg.index('>') + 1]}"
        f'<title id="{prefix}-title">{html.escape(title)}</title>'
        f'<desc id="{prefix}-finding">{html.escape(finding)}</desc>'
    )
    svg = opening + svg[svg.index(">") + 1 :]
    if len(svg.encode()) > MOST_SVG_BYTES:
        raise InputError(f"figure {prefix} takes {len(svg) // 1000} kB as SVG; {MOST_SVG_BYTES // 1000} is the most.")
    return svg


def short_ids(svg: str, prefix: str) -> str:
    """Number the ids that something refers to, with the figure's prefix, and drop the others."""
    used = dict.fromkeys(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    short = {name: f"{prefix}-{number}" for number, name in enumerate(used)}
    svg = re.sub(r'\sid="([^"]*)"', lambda match: f' id="{short[match[1]]}"' if match[1] in short else "", svg)
    return re.sub(r'(url\(#|href="#)([^")]+)', lambda match: match[1] + short[match[2]], svg)


def shared_styles(svg: str) -> str:
    """Write the style of equal markers once, on their group: a cloud of a thousand points is then a third as large."""

    def hoist(match: re.Match[str]) -> str:
        styles = set(re.findall(r'<use [^>]*?( style="[^"]*")/>', match[2]))
        if len(styles) != 1:
            return match[0]
        shared = styles.pop()
        return f"<g{match[1]}{shared}>{match[2].replace(shared, '')}</g>"

    return re.sub(r"<g([^<>]*)>((?:\s*<use [^<>]*/>)+\s*)</g>", hoist, svg)


def save(full: Drawn, column: Drawn, folder: Path | str, name: str) -> tuple[str, str]:
    """Write NAME.svg and NAME.png (full), NAME_col.svg (column) and NAME.csv (the data); equal input, equal bytes.

    Returns the two drawings as <svg> elements for a page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    elements = inline_svg(full.figure, f"{name}-full"), inline_svg(column.figure, f"{name}-col")
    for element, ending in zip(elements, ("", "_col"), strict=True):
        text = f'<?xml version="1.0" encoding="utf-8"?>\n{element}\n'
        (folder / f"{name}{ending}.svg").write_text(text, encoding="utf-8")
    with style(name):
        full.figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    full.table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    return elements


def drawn(figure: Figure, title: str, caption: Sequence[str], finding: str, table: Frame) -> Drawn:
    """Put the pieces together; the figure's label carries title and finding into its SVG."""
    figure.set_label(f"{title}\n{finding}")
    text = " ".join([title, *(sentence for sentence in caption if sentence)])
    return Drawn(figure, html.escape(text, quote=False), table.reset_index(drop=True), title, finding)
