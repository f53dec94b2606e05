"""Stands between a trainer and the sampling server that it started, so that the server never outlives its trainer.

Run as a script by `scaling/vllm_server.py`, with the standard library alone: vllm_watch.py FOLDER LOG COMMAND... It
starts the server in a process group of its own and says its number on stdout. The group ends, whole, when

- standard input closes: the trainer is done, or has died in whatever way;
- a byte comes on standard input: the trainer wants it gone at once;
- the server's first process has ended: vLLM's workers outlive it otherwise, and hold their memory.

Then everything that the group has mapped in /dev/shm is removed, and FOLDER, too, where the trainer is gone.
"""

import contextlib
import ctypes
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time

PATIENCE = 5.0  # seconds for an orderly end
LOOK_EVERY = 5.0  # at what is mapped: when all processes of the group are killed at once, nobody can be asked any more
TERM_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def members(group: int) -> list[int]:
    """Living processes of the group; those that have ended and were not waited for are none."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat") as file:
                state, _, pgrp = file.read().rpartition(")")[2].split()[:3]
                if int(pgrp) == group and state not in "ZX":
                    found.append(int(name))
    return found


def mapped(group: int) -> set[str]:
    """What vLLM, torch and multiprocessing have mapped for the group: the names do not tell whose they are."""
    found: set[str] = set()
    for process in members(group):
        with contextlib.suppress(OSError), open(f"/proc/{process}/maps") as file:
            found |= set(re.findall(r"/dev/shm/(?:psm_|torch_|vllm|sem\.mp-)\S+", file.read()))
    return found


def end(group: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    if patience:
        with contextlib.suppress(ProcessLookupError):
            os.kill(group, signal.SIGTERM)  # the first process ends the others in order; who is left then, is left over
        while group in members(group) and time.monotonic() < deadline:
            time.sleep(0.05)
    for _ in range(200):  # a process in the kernel's hands takes a moment to die
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        if not members(group):
            return
        time.sleep(0.05)


def main(folder: str, log: str, *command: str) -> int:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever asks the trainer to stop often asks all its processes
    libc = ctypes.CDLL(None)

    def with_me() -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        libc.prctl(TERM_WITH_PARENT, signal.SIGTERM)

    with open(log, "ab") as file:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=f"{folder}/plugin", start_new_session=True,
            preexec_fn=with_me,
        )  # fmt: skip
    print(server.pid, flush=True)
    ended, seen, asked = os.pidfd_open(server.pid), set(), None
    while asked is None:
        ready, _, _ = select.select([0, ended], [], [], LOOK_EVERY)
        seen |= mapped(server.pid)
        if ended in ready:
            asked = 0.0
        elif 0 in ready:
            asked = 0.0 if os.read(0, 1) else PATIENCE
    end(server.pid, asked)
    for path in seen:
        with contextlib.suppress(OSError):
            os.unlink(path)
    if asked:
        shutil.rmtree(folder, ignore_errors=True)
    status = server.wait()
    return status if 0 <= status < 256 else 128 - status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
