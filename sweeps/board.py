"""The progress of a launch: a live table on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table

PLAIN_EVERY = 10.0  # seconds between progress lines where there is no terminal


class Line(NamedTuple):
    """What the board shows of one run or base model."""

    name: str
    step: str = ""
    loss: str = ""
    doing: str = ""


class Progress(Protocol):
    """What the board shows of a launch."""

    started: float
    finished: int
    total: int

    def progress(self) -> list[Line]: ...

    def say(self, text: str) -> None: ...


class Board:
    """Live display on a terminal, a plain line every few seconds elsewhere; yields the function that refreshes it."""

    def __init__(self, launch: Progress, console: Console):
        self.launch, self.console, self.last = launch, console, time.monotonic()
        self.live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> Callable[[], None]:
        if self.live:
            self.live.start()
        return self.show

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def show(self) -> None:
        head = (
            f"{self.launch.finished} of {self.launch.total} runs done, {clock(time.monotonic() - self.launch.started)}"
        )
        if self.live:
            table = Table(box=None, title=head, title_justify="left")
            for name in ("run", "step", "test loss", ""):
                table.add_column(name)
            for line in self.launch.progress():
                table.add_row(line.name, line.step, line.loss, line.doing)
            self.live.update(table)
        elif time.monotonic() - self.last >= PLAIN_EVERY:
            self.last = time.monotonic()
            shown = "; ".join(
                f"{line.name} {line.step or line.doing} {line.loss}".strip() for line in self.launch.progress()
            )
            self.launch.say(f"{head}: {shown}")


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
