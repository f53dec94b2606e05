"""Where runs are carried out: one file per executor. The payloads that all of them share are here.

Both are light until they are called: torch and the trainer load inside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

INTERRUPTED = 130


def run_cell(config: dict[str, Any], run: str, artifacts: str, job: Any = None) -> None:
    """Train one run. `job` is the scheduler's job that this process is (scaling.process.Job), None elsewhere."""
    from scaling.config.run import RunConfig
    from scaling.trainer import train_run

    train_run(RunConfig.model_validate(config), Path(run), Path(artifacts), job)


def make_base(config: dict[str, Any], artifacts: str) -> None:
    """Make one base model, unless it is there."""
    from scaling.base_models import ensure_base
    from scaling.config.run import RunConfig

    ensure_base(RunConfig.model_validate(config), Path(artifacts))


def tail(log: Path, lines: int = 5) -> list[str]:
    """The last lines of a log that hold anything."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]
