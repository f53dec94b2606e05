"""A reward function of the user's own, in a process of its own: it can neither hang the run nor print into it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scaling.schema import InputError, clip, one_line

START_SECONDS = 120.0


class OwnFunction:
    """The function `where`, `FILE.py:NAME`; its process starts with the first question.

    Args:
        where: the file and the function in it.
        seconds: the longest that it may take over a response.
    """

    def __init__(self, where: str, seconds: float):
        self.where, self.seconds = where, seconds
        self.process: Any = None

    def score(self, asked: Iterable[tuple[str, str, str | None]]) -> list[dict[str, Any]]:
        """What it says of each (problem, response, truth), as a dictionary with some of outcome, correct and process.

        Raises InputError, with the example, where it fails, takes too long or returns something else.
        """
        return [self._ask(*one) for one in asked]

    def close(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                pipe.close()
            self.process = None

    def _ask(self, problem: str, response: str, truth: str | None) -> dict[str, Any]:
        example = f"for the response {clip(response)!r} to {clip(problem)!r}"
        process = self.process or self._start()
        process.stdin.write(json.dumps([problem, response, truth]).encode() + b"\n")
        process.stdin.flush()
        answer = self._line(self.seconds)
        if answer is None:
            self.close()
            raise InputError(
                f"reward.function {self.where} took more than {self.seconds:g} s {example}; make it faster, or give "
                "resources.reward_seconds."
            )
        if not answer:
            status = process.wait()
            self.close()
            raise InputError(f"reward.function {self.where} ended its process (status {status}) {example}.")
        values = json.loads(answer)  # nan and infinity come through, for the caller to refuse with the example
        if "error" in values:
            raise InputError(f"reward.function {self.where} {values['error']} {example}.")
        return values

    def _start(self) -> Any:
        file, _, name = self.where.rpartition(":")
        path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
        code = f"from scaling.graders.own_function import serve; serve({str(Path(file).absolute())!r}, {name!r})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"},
        )  # fmt: skip
        self.buffer = b""
        ready = self._line(START_SECONDS)
        if ready != b"ready":
            self.close()
            fault = ready.decode() if ready else "does not load: its process ended or hangs"
            raise InputError(f"reward.function {self.where} {fault}.")
        return self.process

    def _line(self, seconds: float) -> bytes | None:
        """The next line of the process; empty where it has ended, None where none came in time."""
        deadline, pipe = time.monotonic() + seconds, self.process.stdout
        while b"\n" not in self.buffer:
            if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return None
            read = os.read(pipe.fileno(), 1 << 16)
            if not read:
                return b""
            self.buffer += read
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line


# ---------------------------------------------------------------- inside the process


def serve(file: str, name: str) -> None:
    """Answer questions, a line of JSON each. What the function prints goes where errors go."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the run, which ends this process itself
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        sys.path.insert(0, str(Path(file).parent))
        spec: Any = importlib.util.spec_from_file_location(Path(file).stem, file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        function = getattr(module, name)
    except Exception as error:
        print(f"does not load: {type(error).__name__}: {one_line(error)}", file=answers, flush=True)
        return
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        try:
            values = read_score(function(*json.loads(line)))
        except Exception as error:
            values = {"error": f"fails with {type(error).__name__}: {one_line(error)}"}
        print(json.dumps(values), file=answers, flush=True)


def read_score(value: Any) -> dict[str, Any]:
    """What a function returned, as a dictionary with some of outcome, correct and process, or with an error."""
    values: dict[str, Any] = value if isinstance(value, dict) else {"outcome": value}
    read: dict[str, Any] = {}
    kinds: dict[str, Any] = {"outcome": float, "correct": bool, "process": float}
    for name, given in values.items():
        try:
            read[name] = None if given is None and name == "process" else kinds[name](given)
        except (KeyError, TypeError, ValueError):
            wants = f"a number, or a dictionary with some of {', '.join(kinds)}"
            return {"error": f"returns {clip(repr(value))}, not {wants},"}
    return read
