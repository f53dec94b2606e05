r"""Is a maths answer right? `scaling.answers` says, in worker processes that an answer can neither hang, fill nor kill.

What a model writes is hostile input: 10**10**10, ((10!)!)!, thousands of brackets. So:
- the answer is the content of the last \boxed{} (or \fbox{}), or of those that stand together; no answer is wrong;
- what no answer key looks like (length, nesting, elements, huge exponents) is wrong unread, and so is a value that is
  found too large on the way: the work is counted before it is done, so the verdict depends on the two texts alone;
- the rest goes to a worker, which forks a warm child. Its limits of CPU time and memory are far above any honest
  answer; they are for faults of ours. A child that dies is replaced and the answer asked once more; if that dies too,
  the answer is wrong for now, the failure is counted, and the verdict is not kept;
- verdicts are kept, so that a repeated answer costs nothing.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from scaling.answers.boxes import boxed_answers, said_answer
from scaling.schema import InputError

CPU_SECONDS = 10.0  # 200 times the slowest honest answer
CLOCK_SECONDS = 300.0  # for a child that neither computes nor answers, which has no known cause
ADDRESS_SPACE = 1 << 30
LENGTH, NESTING, ELEMENTS, KEY_LENGTH = 400, 24, 64, 2000  # ground truths of the usual sets have up to 80 characters
KEPT = 200_000
# One of each kind of answer, asked before the first child is forked.
WARM = [
    ("1", "2"), ("26x^2+10x", "26x^2-10x"), (r"\frac{1}{3}", "0.333"), (r"\sqrt{2}", r"\frac{2}{\sqrt{2}}"),
    (r"\{1,2\}", r"\{2,1\}"), ("(1,2)", "[1,2]"), ("x=3", "3"), ("10\\%", "0.1"), (r"35\text{ cm}", "0.35 m"),
    (r"\sin(x)+1", r"1+\sin x"), ("2x+3y=6", r"y=2-\frac23 x"), ("x<3", r"(-\infty,3)"), ("6:00 PM", "18:00"),
    (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}2&1\end{pmatrix}"), (r"e^{i\pi}", "-1"), ("C", "(C) 3"),
]  # fmt: skip
FAILURES = ("timeout", "memory", "died", "error")
FATAL = ("timeout", "memory", "died")

_HUGE = re.compile(
    r"(?:\^|\*\*)\s*[{(]*\s*-?\d[\d,]{4,}"  # an exponent of five digits
    r"|(?:(?:\^|\*\*)\s*[{(]*\s*\d+\s*){2}"  # a tower of powers
    r"|\d{5}\s*!|!\s*[)}]*\s*!"  # a factorial of five digits, or of a factorial
    r"|\d{120}"
)


class Verdict(NamedTuple):
    """`why`: boxed, anywhere, or the reason for wrong without a comparison: none, refused, or one of FAILURES."""

    correct: bool
    why: str


class Question(NamedTuple):
    """A ground truth, the parts of the answer, all different boxes of the response, whether a box was not asked for."""

    truth: str
    parts: tuple[str, ...]
    boxes: tuple[str, ...] = ()
    anywhere: bool = False


# ---------------------------------------------------------------- reading an answer


def question(truth: str, text: str, anywhere: bool) -> Question | None:
    """What is asked about a response; None where it holds no answer."""
    found = boxed_answers(text)
    if found is not None:
        return Question(truth, found.last, found.all)
    said = said_answer(text) if anywhere else None
    return Question(truth, (said,), (), True) if said else None


def refused(answer: str) -> bool:
    """Whether an answer is none that an answer key could hold, so that it is wrong without being worked out."""
    depth = deepest = 0
    for character in answer:
        depth += (character in "({[") - (character in ")}]")
        deepest = max(deepest, depth)
    elements = answer.count(",") + answer.count("&") + answer.count(";") + answer.count("=")
    return len(answer) > LENGTH or deepest > NESTING or elements > ELEMENTS or _HUGE.search(answer) is not None


# ---------------------------------------------------------------- the grader


class MathGrader:
    """Verdicts on answers; `counts` says how often each reason came up. Workers start when they are first needed."""

    def __init__(self, workers: int | None = None):
        self.workers = workers or max(1, min(8, len(os.sched_getaffinity(0))))
        self.counts: collections.Counter[str] = collections.Counter()
        self._known: dict[Question, Verdict] = {}
        self._idle: list[_Worker] = []

    def grade(self, pairs: list[tuple[str, str]], *, anywhere: bool = False) -> list[Verdict]:
        """Verdicts on (ground truth, response text) pairs, in order. anywhere: a box is not asked for."""
        asked = [question(truth, text, anywhere) for truth, text in pairs]
        missing = [key for key in dict.fromkeys(asked) if key is not None and key not in self._known]
        new = self._work(missing)
        kept = {key: verdict for key, verdict in new.items() if verdict.why not in FAILURES}
        while len(self._known) + len(kept) > KEPT and self._known:
            self._known.pop(next(iter(self._known)))
        self._known.update(kept)
        # A batch of more than KEPT distinct answers finds its own verdicts in `new`.
        verdicts = [
            Verdict(False, "none") if key is None else new[key] if key in new else self._known[key] for key in asked
        ]
        self.counts.update(verdict.why for verdict in verdicts)
        return verdicts

    def _work(self, keys: list[Question]) -> dict[Question, Verdict]:
        verdicts_of: dict[Question, Verdict] = {}
        hard = []
        for key in keys:
            if key.parts == (key.truth.strip(),) and not key.anywhere:
                verdicts_of[key] = Verdict(True, "boxed")
            elif any(map(refused, key.parts)) or sum(map(len, key.parts)) > LENGTH or len(key.truth) > KEY_LENGTH:
                verdicts_of[key] = Verdict(False, "refused")
            else:
                hard.append(key)
        shares = [hard[i :: self.workers] for i in range(min(self.workers, len(hard)))]
        if len(shares) == 1 or len(hard) < 64:  # a second worker takes half a second to start
            shares = [hard] if hard else []
        with contextlib.ExitStack() as stack:
            workers = [self._idle.pop() if self._idle else _Worker() for _ in shares]
            stack.callback(lambda: self._idle.extend(workers))
            pool = stack.enter_context(ThreadPoolExecutor(max(1, len(shares))))
            for share, verdicts in zip(shares, pool.map(_Worker.grade, workers, shares), strict=True):
                verdicts_of |= dict(zip(share, verdicts, strict=True))
        return verdicts_of

    def failures(self) -> int:
        """Answers so far that the verifier did not survive; each was graded wrong."""
        return sum(self.counts[why] for why in FAILURES)

    def close(self) -> None:
        for worker in self._idle:
            worker.close()
        self._idle.clear()


class _Worker:
    """A process that reads questions and writes verdicts, one line of JSON each; never runs an answer itself."""

    def __init__(self):
        # The child needs our package and nothing of ours: no thread, no handle, no signal meant for a run.
        root = str(Path(__file__).parent.parent.parent)
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process: Any = subprocess.Popen(
            [sys.executable, "-c", "from scaling.graders.math_answers import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"},
        )
        if not self.process.stdout.readline():
            raise InputError("task math grades with mpmath, which cannot be loaded; install the extra [math].")

    def grade(self, keys: list[Question]) -> list[Verdict]:
        return [self._ask(key) for key in keys]

    def _ask(self, key: Question) -> Verdict:
        self.process.stdin.write(json.dumps(key) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the math grader's worker ended with status {self.process.wait()}")
        return Verdict(*json.loads(line))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


# ---------------------------------------------------------------- inside the worker


def serve() -> None:
    """The worker: hands each question to a child, and makes a new child where one has died."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        for truth, given in WARM:  # loads tables and fills caches, which every child then shares
            compare(Question(truth, (given,)))
    except ImportError:
        return
    print("ready", flush=True)
    child = None
    for line in sys.stdin:
        child, verdict = _asked(child, line)
        if child is None:  # it died, and the question is asked once more
            child, verdict = _asked(None, line)
        print(json.dumps(verdict), flush=True)


def _asked(child: _Child | None, line: str) -> tuple[_Child | None, tuple[bool, str]]:
    """The verdict, and the child unless it is lost."""
    child = child or _Child()
    verdict = child.ask(line)
    if verdict[1] in FATAL:
        child.end()
        return None, verdict
    return child, verdict


class _Child:
    def __init__(self):
        questions, asked = os.pipe()
        self.answers, told = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(asked)
            os.close(self.answers)
            with open(questions) as lines, open(told, "w") as out:
                _answer(lines, out)
            os._exit(0)
        os.close(questions)
        os.close(told)
        self.asked = open(asked, "w")  # noqa: SIM115  lives as long as the child

    def ask(self, line: str) -> tuple[bool, str]:
        try:
            self.asked.write(line)
            self.asked.flush()
        except BrokenPipeError:
            return False, "died"
        told = b""
        while not told.endswith(b"\n"):
            if not select.select([self.answers], [], [], CLOCK_SECONDS)[0]:
                return False, "timeout"
            chunk = os.read(self.answers, 1 << 12)
            if not chunk:  # dead: of its CPU timer, or of something worse
                _, status = os.waitpid(self.pid, 0)
                self.pid = 0
                killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF
                return False, "timeout" if killed else "died"
            told += chunk
        correct, why = json.loads(told)
        return correct, why

    def end(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        with contextlib.suppress(BrokenPipeError):
            self.asked.close()
        os.close(self.answers)


def _answer(lines, out) -> None:
    sys.setrecursionlimit(10_000)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process: nothing in Python can stay it
    null = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(null, handle)
    for line in lines:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        try:
            truth, parts, boxes, anywhere = json.loads(line)
            verdict = compare(Question(truth, tuple(parts), tuple(boxes), anywhere))
        except MemoryError:
            verdict = False, "memory"
        except Exception:  # a fault of ours that a hostile answer has found
            verdict = False, "error"
        signal.setitimer(signal.ITIMER_PROF, 0)
        out.write(json.dumps(verdict) + "\n")
        out.flush()


def compare(asked: Question) -> tuple[bool, str]:
    """The verdict of scaling.answers; `refused` where a value is larger than any of an answer key."""
    from scaling.answers import TooLargeError, UnreadableError
    from scaling.answers.verdict import says, says_all

    try:
        right = says(asked.truth, asked.parts)
        if not right and asked.boxes != asked.parts and 1 < len(asked.boxes) <= 12:
            right = sum(map(len, asked.boxes)) <= LENGTH and says_all(asked.truth, asked.boxes)
    except TooLargeError:
        return False, "refused"
    except UnreadableError:
        right = False
    return right, "anywhere" if asked.anywhere else "boxed"
