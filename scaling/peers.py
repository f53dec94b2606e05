"""A process of a run that fails ends the others.

They may wait for it in a collective, where no error of its own reaches them before the timeout of the process group. So
each watches the store that all of them met at, and ends once one has said there that it fails.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import torch.distributed as dist

from scaling.schema import one_line

KEY = "failed"
TICK = 1.0  # seconds between two looks
PATIENCE = 10.0  # seconds to end by an error of one's own, which closes what is open
LOST = 75  # exit status: another process ended, and its own status says why


class Alarm:
    """What one process of a run says to the others when it fails."""

    def __init__(self, rank: int):
        self.rank = rank
        self._store: Any = dist.distributed_c10d._get_default_store()
        if hasattr(self._store, "clone"):  # a connection of its own: others may wait on theirs
            self._store = self._store.clone()
        self._over = threading.Event()
        threading.Thread(target=self._watch, name="peers", daemon=True).start()

    def ring(self, error: BaseException) -> bool:
        """Say that this process fails; whether it is the first to say so."""
        self._over.set()
        text = f"process {self.rank}: {type(error).__name__}: {one_line(error)}"
        try:
            return self._store.compare_set(KEY, "", text).decode() == text
        except (RuntimeError, OSError):  # the store has gone with the process that held it
            return True

    def heard(self) -> str | None:
        """What a process that fails has said; None where none has, or nothing can be heard any more."""
        try:
            return self._store.get(KEY).decode() if self._store.check([KEY]) else None
        except (RuntimeError, OSError):
            return None

    def close(self) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(TICK):
            try:
                said = self._store.get(KEY).decode() if self._store.check([KEY]) else None
            except (RuntimeError, OSError) as error:
                said = f"the store of the processes is gone ({one_line(error)})"
            if said is None:
                continue
            if not self._over.wait(PATIENCE):
                print(f"process {self.rank} ends with another one of its run, {said}", file=sys.stderr, flush=True)
                os._exit(LOST)
