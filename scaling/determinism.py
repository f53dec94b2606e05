"""Whether what a run computes follows from its config alone: what torch says of it, and on what it ran.

Equal bytes are promised on equal hardware, with equal versions, where every operation has a deterministic kernel. torch
warns of the operations that have none; which they are is known only once they have run.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from scaling.record import Attempt
from scaling.schema import one_line

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
# What follows the name of the operation in torch's warnings, in the order in which they are tried.
NO_KERNEL = (
    r"(\S+) does not have a deterministic implementation",
    r"(Flash Attention|Memory Efficient attention|.{1,40}?) defaults to a non-deterministic algorithm",
    r"(?s).*(CuBLAS).*",
)


def set_workspace() -> None:
    """Let cuBLAS sum in one order. It reads this when CUDA starts, so call it before; what a user has set stays."""
    os.environ.setdefault(WORKSPACE, ":4096:8")


class Determinism:
    """What torch has said so far of the operations of one process.

    Attributes:
        reasons: names of operations without a deterministic kernel, and what else makes equal bytes a matter of luck.
    """

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self._told: list[str] | None = None

    def add(self, reason: str) -> None:
        if reason not in self.reasons:
            self.reasons.append(reason)

    def hear(self, text: str) -> bool:
        """Take a warning of torch's; False where it is about something else."""
        if "determinis" not in text:
            return False
        match = next(filter(None, (re.match(words, text) for words in NO_KERNEL)), None)
        self.add(match[1] if match else one_line(text, 120))
        return True

    def tell(self, attempt: Attempt) -> None:
        """Into attempt.json, where there is news."""
        if self._told != self.reasons:
            self._told = list(self.reasons)
            attempt.update(deterministic=not self._told, nondeterministic=self._told)


@contextlib.contextmanager
def deterministic() -> Iterator[Determinism]:
    """Ask torch for deterministic kernels, and hear which operations have none."""
    found = Determinism()
    torch.use_deterministic_algorithms(True, warn_only=True)
    with warnings.catch_warnings():
        show: Any = warnings.showwarning

        def hear(message, category, *where, **options) -> None:
            if not found.hear(str(message)):
                show(message, category, *where, **options)

        # Always: the default tells once in a process, which may train several runs.
        warnings.filterwarnings("always", message="(?s).*determinis", category=UserWarning)
        warnings.showwarning = hear
        yield found


def hardware(device: str) -> str:
    """The processor, and the GPU where one computes, as far as the bytes depend on them: its model, not its number.

    A virtual machine may hide the name of its processor, so family, model and the instructions in use stand beside it.
    """
    lines = _lines(Path("/proc/cpuinfo"))
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines[:64])}
    kind = [f"{name} {said[key]}" for name, key in (("family", "cpu family"), ("model", "model")) if key in said]
    parts = [said.get("model name") or platform.machine(), *kind, torch.backends.cpu.get_cpu_capability()]
    if not device.startswith("cuda"):
        return ", ".join(parts)
    gpu = torch.cuda.get_device_properties(device)
    return ", ".join([f"{gpu.name}, capability {gpu.major}.{gpu.minor}, CUDA {torch.version.cuda}", *parts])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
