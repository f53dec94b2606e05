"""Local processes: a pool of slots, one thread and one log each.

Workers are forked from one server process that has torch and the trainer imported and has started no thread, so that a
run does not pay for the imports; each run gets a fresh child. Children die with their launcher, however it dies, and
leave INT to it: it sends TERM, and they checkpoint.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing.context import ForkServerProcess

from scaling.files import is_disk_full
from scaling.schema import InputError
from sweeps.executors import Job
from sweeps.payloads import INTERRUPTED, no_room, redirect_output
from sweeps.reconcile import DISK_FULL

PRELOAD = ["scaling.trainer", "scaling.base_models", "scaling.rollouts.native", "sweeps.executors.local"]


class Pool:
    """At most `slots` jobs at a time."""

    def __init__(self, slots: int, preload: list[str] | None = None):
        os.environ.update(OMP_NUM_THREADS="1", PYTHONSAFEPATH="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
        self.slots = slots
        self.running: dict[str, ForkServerProcess] = {}
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOAD if preload is None else preload)

    @property
    def free(self) -> int:
        return self.slots - len(self.running)

    def submit(self, job: Job) -> None:
        """Start a job at once; ask for a free slot first."""
        assert self.free > 0, "no free slot"
        job.log.parent.mkdir(parents=True, exist_ok=True)
        process = self.context.Process(target=_child, args=(job,), name=job.key)
        # The server's first seconds are imports: a Ctrl-C in them is this process's, and no traceback of the server's.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        self.running[job.key] = process

    def wait(self, timeout: float) -> list[tuple[str, int]]:
        """(key, exit status) of the jobs that have ended, after `timeout` seconds at most; negative: the signal."""
        multiprocessing.connection.wait([p.sentinel for p in self.running.values()], timeout)
        ended = []
        for key, process in list(self.running.items()):
            if process.exitcode is not None:
                process.join()
                del self.running[key]
                ended.append((key, process.exitcode))
        return ended

    def stop(self, patience: float) -> None:
        """Ask every job to stop, wait for their checkpoints, then kill what is left after `patience` seconds."""
        for process in self.running.values():
            process.terminate()
        deadline = time.monotonic() + patience
        while self.running and time.monotonic() < deadline:
            self.wait(0.2)
        for process in self.running.values():
            process.kill()
        while self.running:
            self.wait(1.0)


def _die_with_launcher() -> None:
    """Wait for the launcher to end, however it ends, and then end too.

    PR_SET_PDEATHSIG would bind the child to the server, which lives on as long as its children do.
    """
    launcher = multiprocessing.parent_process()
    if launcher is not None:
        multiprocessing.connection.wait([launcher.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)


def _child(job: Job) -> None:
    """Do a job in the fresh process. Exit status: 0 done, 130 interrupted, 2 bad input, 1 failed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_launcher, daemon=True).start()
    redirect_output(job.log)
    print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {job.key} pid {os.getpid()}", flush=True)
    status = 0
    try:
        job.payload(*job.arguments)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except BaseException as error:
        if is_disk_full(error):
            print(no_room(error, job.log.parent), file=sys.stderr)
            status = DISK_FULL
        else:
            traceback.print_exc()
            status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # nothing is left to do; interpreter shutdown would cost half a second a run
