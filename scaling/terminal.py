"""What every printer shares: the console, tables, numbers and intervals as people read them, the folder of --out."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def output_folder(path: Path) -> Path:
    """The path, which is a folder or can become one; else InputError."""
    from scaling.schema import InputError

    place = next((p for p in (path, *path.parents) if os.path.lexists(p)), path)
    if os.path.lexists(place) and not os.path.isdir(place):
        raise InputError(f"--out {path}: {place} is not a folder; give another --out.")
    return path


def make_folder(folder: Path) -> None:
    """Make the folder, once the input is known to be good; InputError where nothing can be written there."""
    from scaling.schema import InputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK | os.X_OK) else "permission denied"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise InputError(f"--out {folder}: the folder is not writable ({reason}); give another --out.")


def open_console(stderr: bool = False):
    """A console on stdout; brackets are text, and a pipe is wide enough for our tables."""
    from rich.console import Console

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(markup=False, highlight=False, width=None if terminal else 150, emoji=False, stderr=stderr)


def print_table(console, title: str, columns: list[str], rows: list[list[str]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold")
    for i, name in enumerate(columns):
        # A name is never cut: where the terminal is too narrow it goes on in the next line.
        table.add_column(name, justify="left" if i == 0 or title == "" else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def number(value: float | None, unit: str = "1") -> str:
    """A value with four digits; parameters as 5,296 or 13.1e9; a missing one as a dash."""
    if value is None:
        return "-"
    if unit != "parameters":
        return f"{value:.4g}" if abs(value) > 1e-12 else "0"
    for power in (12, 9, 6):
        if abs(value) >= 10**power:
            return f"{value / 10**power:.4g}e{power}"
    return f"{value:,.0f}"


def interval(ends: list[float | None] | None, unit: str = "1") -> str:
    if ends is None:
        return "no interval"
    low, high = ("open" if end is None else number(end, unit) for end in ends)
    return f"[{low}, {high}]"


def few_names(runs: list[str], most: int = 24) -> str:
    return ", ".join(runs[:most]) + (f" and {len(runs) - most} more" if len(runs) > most else "")
