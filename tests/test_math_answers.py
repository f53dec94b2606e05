"""The grader of maths answers: what is read as the answer, and verdicts that no answer can delay, prevent or sway."""

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scaling.answers.boxes import boxed_answers, said_answer
from scaling.answers.normalise import normalise
from scaling.graders import math_answers
from scaling.graders.math_answers import MathGrader, Question, Verdict, refused

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def grader():
    grader = MathGrader(workers=1)
    yield grader
    grader.close()


def rows(name):
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").split("\n") if line]


def pairs_by_hand():
    """(kind, truth, response, expected) of maths_answers.jsonl: an answer without a box of its own is put into one."""
    return [
        (row["kind"], row["truth"], answer if "box" in answer else rf"\boxed{{{answer}}}", expected)
        for row in rows("maths_answers.jsonl")
        for expected, answers in ((True, row["right"]), (False, row["wrong"]))
        for answer in answers
    ]


def pairs_of_reports():
    return [(row["kind"], row["truth"], row["response"], row["expected"]) for row in rows("maths_grading.jsonl")]


# ---------------------------------------------------------------- where the answer stands


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (r"so \boxed{42}.", ("42",)),
        (r"first \boxed{1}, no: \boxed{ 2 }", ("2",)),
        (r"\boxed{\frac{1}{\sqrt{2}}}", (r"\frac{1}{\sqrt{2}}",)),
        (r"\fbox{x^{2}}", ("x^{2}",)),
        (r"\boxed {7}", ("7",)),
        (r"\boxed{\{1, 2\}}", (r"\{1, 2\}",)),
        (r"\boxed{3} and then \boxed{\frac{1}{2", ("3",)),  # the last one was cut off
        (r"\boxed{5} as asked in \boxed{}", ("5",)),
        (r"$x=\boxed{3}$ or $x=\boxed{5}$", ("3", "5")),
        (r"\boxed{3} or \boxed{3}", ("3",)),
        (r"It is \boxed{7}. Alternatively, \boxed{8}.", ("7", "8")),
        (r"\boxed{7}. Wait, that is wrong: \boxed{8}.", ("8",)),
        (r"\boxed{1} is the first step. Then \boxed{2}", ("2",)),
        (r"\boxed 42", ("42",)),
        ("the answer is 42", None),
        (r"\boxed{42", None),
        ("", None),
    ],
)
def test_the_answer_is_the_last_statement_in_boxes(text, parts):
    found = boxed_answers(text)
    assert (None if found is None else found.last) == parts


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("We get 5. The answer is 42.", "42"), ("Hence $x = 3$, so that\n\\[ y = 4 \\]", "y = 4"), ("12", "12"),
        ("It takes 3 steps, and then there are 17 of them left over.", "17"), ("#### 1,200", "1,200"),
        ("no number stands in this sentence, however long it may be", None),
    ],
)  # fmt: skip
def test_the_answer_without_a_box(text, answer):
    assert said_answer(text) == answer


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        (r"\dfrac{1}{2}", r"\frac {1}{2}"), (r"12\,345\,678", "12345678"), ("(100,200)", "(100,200)"), ("１２", "12"),
        (r"$\text{ cm}$", "‹cm›"), ("**12**.", "12"), (r"45^{\circ}", "45°"), (r"x \leqslant 3", r"x \le 3"),
        (r"\boxed{\mathbf{7}}", "7"), ("work\n#### 7", "7"), ("‹7›", "7"),
    ],
)  # fmt: skip
def test_one_way_of_writing(written, plain):
    assert " ".join(normalise(written).split()) == plain


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize("pairs", [pairs_by_hand, pairs_of_reports])
def test_answers_are_judged_as_a_mathematician_would(grader, pairs):
    cases = pairs()
    assert len(cases) > 200 and {expected for *_, expected in cases} == {True, False}
    verdicts = grader.grade([(truth, response) for _, truth, response, _ in cases])
    wrong = [(case, verdict) for case, verdict in zip(cases, verdicts, strict=True) if verdict.correct is not case[-1]]
    assert wrong == []
    assert grader.failures() == 0


def test_verdicts_and_their_reasons(grader):
    verdicts = grader.grade(
        [
            (r"\frac{1}{2}", r"\boxed{0.5}"),
            ("2", r"\boxed{3}"),
            ("2", "it is 2"),
            ("5", r"\boxed{" + "(" * 300 + "5" + ")" * 300 + "}"),
            ("5", r"\boxed{(9999!)^{9999}}"),
        ]
    )
    assert verdicts == [
        Verdict(True, "boxed"), Verdict(False, "boxed"), Verdict(False, "none"), Verdict(False, "refused"),
        Verdict(False, "refused"),
    ]  # fmt: skip
    assert grader.grade([("2", "it is 2"), ("3", "it is 2")], anywhere=True) == [
        Verdict(True, "anywhere"), Verdict(False, "anywhere"),
    ]  # fmt: skip
    # What is said without a box hedges no more than a box may.
    hedged = [("7", "The answer is 7 or 8."), ("7", r"$7 \ne 7$"), ("7", "The answer is not 7")]
    assert not any(verdict.correct for verdict in grader.grade(hedged, anywhere=True))


def test_one_verdict_whatever_was_asked_before_and_by_however_many():
    """Shuffled, over several graders and workers, each in a fresh process: the two texts alone decide."""
    cases = [(truth, response) for _, truth, response, _ in [*pairs_of_reports(), *pairs_by_hand()[::10]]]
    found = []
    for seed, workers in ((0, 1), (1, 2), (2, 4)):
        order = random.Random(seed).sample(range(len(cases)), len(cases))
        grader = MathGrader(workers)
        verdicts = dict(zip(order, grader.grade([cases[i] for i in order]), strict=True))
        grader.close()
        found.append([verdicts[i] for i in range(len(cases))])
    assert found[0] == found[1] == found[2]


@pytest.mark.launch
def test_graders_agree_under_load():
    """As above, beside processes that take the processors away; GRADERS=20 for the long form."""
    cases = [(truth, response) for _, truth, response, _ in [*pairs_of_reports(), *pairs_by_hand()[::3]]]
    load = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        found = set()
        for seed in range(int(os.environ.get("GRADERS", "5"))):
            order = random.Random(seed).sample(range(len(cases)), len(cases))
            grader = MathGrader(1 + seed % 4)
            verdicts = dict(zip(order, grader.grade([cases[i] for i in order]), strict=True))
            grader.close()
            found.add(tuple(verdicts[i] for i in range(len(cases))))
    finally:
        for process in load:
            process.kill()
            process.wait()
    assert len(found) == 1


HEAVY = [
    r"(1+x)^{4000}", r"\int_0^1 \sin(x^{x^x}) dx", r"\sum_{n=1}^{\infty}\frac{1}{n^3+n+1}", r"(x+y+z+w)^{60}",
    r"10^{999}^{999}", r"\binom{9999}{5000}^{99}", r"9999!", r"x^{x^{x^{x^{x}}}}", r"\sin(10^{9999})",
    r"0.\overline{123456789}",
]  # fmt: skip


def test_heavy_answers_cost_little_and_never_the_limit():
    grader = MathGrader(workers=1)
    grader.grade([("7", r"\boxed{8}")])  # the worker starts
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    verdicts = grader.grade([("7", rf"\boxed{{{answer}}}") for answer in HEAVY])
    assert not any(verdict.correct for verdict in verdicts)
    assert grader.failures() == 0
    grader.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < len(HEAVY) * 0.5 + 5.0  # half a second each, and the worker's own start


# ---------------------------------------------------------------- faults


def test_a_child_that_dies_or_fills_memory_is_replaced(monkeypatch):
    """The faults themselves: an answer that is answered with the death of the child."""

    def compare(asked):
        answer = asked.parts[0]
        if answer == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if answer == "memory":
            bytearray(2 * math_answers.ADDRESS_SPACE)
        if answer == "raise":
            raise RuntimeError
        while answer == "loop":
            pass
        return asked.truth == answer, "boxed"

    monkeypatch.setattr(math_answers, "compare", compare)
    monkeypatch.setattr(math_answers, "CPU_SECONDS", 0.2)
    found = []
    for answer in ("kill", "1", "memory", "1", "raise", "1", "loop", "1"):
        child = math_answers._Child()
        found.append(tuple(child.ask(json.dumps(Question("1", (answer,))) + "\n")))
        child.end()
    right = (True, "boxed")
    assert found == [
        (False, "died"), right, (False, "memory"), right, (False, "error"), right, (False, "timeout"), right,
    ]  # fmt: skip


def test_a_question_that_fails_is_asked_once_more_and_its_failure_is_not_kept(tmp_path):
    """The second child answers where the first has died; where both die, the next batch asks again."""
    program = f"""
import os, pathlib, signal
from scaling.graders import math_answers
folder = pathlib.Path({str(tmp_path)!r})
def compare(question, inner=math_answers.compare):
    (answer,), deaths = question.parts, {{"once": 1, "twice": 2}}
    died = len(list(folder.glob(answer + "*")))
    if died < deaths.get(answer, 0):
        (folder / (answer + str(died))).mkdir()  # a child may make folders, and no file of any size
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(question)
math_answers.compare = compare
math_answers.serve()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    asked = "".join(json.dumps(Question("x", (answer,))) + "\n" for answer in ("once", "twice", "7", "twice"))
    said = [json.loads(line) for line in process.communicate(asked)[0].splitlines()[1:]]
    assert said == [[False, "boxed"], [False, "died"], [False, "boxed"], [False, "boxed"]]
    grader = MathGrader(workers=1)
    grader._work = lambda keys: {key: Verdict(False, "timeout") for key in keys}  # type: ignore[method-assign]
    assert grader.grade([("1", r"\boxed{2}")]) == [Verdict(False, "timeout")]
    grader._work = lambda keys: {key: Verdict(True, "boxed") for key in keys}  # type: ignore[method-assign]
    assert grader.grade([("1", r"\boxed{2}")] * 2) == [Verdict(True, "boxed")] * 2
    assert grader.failures() == 1


# ---------------------------------------------------------------- hostile answers

PIECES = [
    r"\frac{", r"\sqrt{", *"{}()[]^_+-*/=<>,;:!|&%°$xynei127", r"\le ", r"\ne ", r"\text{", r"\cup ", r"\setminus ",
    r"\{",
    r"\}", r"\pm ", r"\in ", r"\infty ", r"\begin{pmatrix}", r"\end{pmatrix}", r"\\ ", r"\pi ", "10", "99999", "0.5",
    r"\sin ",
    r"\log_", r"\binom{", "cm", " or ", " and ", "km/h", r"\$", r"\boxed{", r"\left(", "\n", " ", "‹", "›", "√", "²",
    "…",
    r"\overline{", r"\dot{", r"\lfloor ", r"\langle ", r"\over ", r"\mathbb{R}", "C", "June", "12:30", "PM", "**",
    "\x00", "或",
    r"\approx ", "million", "per ", "square ", r"\,", "{,}", "1,000", r"^\circ", "°C", "/ ", "\u0305", "🙂", "\udcff",
]  # fmt: skip
KEYS = [
    "7", r"\frac{1}{2}", "x+1", "2x+3y=6", "(1,2)", "[2,5)", "x=3", "1, 4", r"\{1,2\}", "C", r"\text{Evelyn}",
    "6:00 PM",
    r"35 \text{ cm}", r"28\%", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "2:3", r"\sin^2 x", "x>2", "a=1,b=2",
    r"2\pm\sqrt3",
]  # fmt: skip


def hostile(rng) -> str:
    n = int(rng.integers(2, 4000))
    kind = rng.integers(14)
    some = [PIECES[i] for i in rng.integers(len(PIECES), size=3)]
    junk = "".join(PIECES[i] for i in rng.integers(len(PIECES), size=n % 80))
    return [
        "(" * n + "1" + ")" * n, r"\sqrt{" * (n % 60) + "2" + "}" * (n % 60), r"\{" + ",".join(map(str,
        range(n))) + r"\}",
        f"{n}**{n}**{n}", f"10^{{{n * 10**6}}}", f"(({n}!)!)!", f"{n + 10**4}!", "9" * (n % 300),
        r"\frac{1}{" * (n % 50) + "2" + "}" * (n % 50), "1+" * (n % 250) + "1", r"\begin{matrix}" + "1&" * (n % 99),
        junk,
        ("".join(some[:2]) * 90)[:390], (some[0] * 99)[:190] + some[1] + (some[2] * 99)[:190],
    ][kind]  # fmt: skip


# The long form is HOSTILE_ANSWERS=10000.
HOSTILE = int(os.environ.get("HOSTILE_ANSWERS", "400"))


def test_hostile_answers(grader):
    """None hangs, escapes or ends the child, and none is right that says nothing of the kind."""
    rng = np.random.default_rng(2)
    before = dict(grader.counts)
    asked = [(KEYS[i], rf"\boxed{{{hostile(rng)}}}") for i in rng.integers(len(KEYS), size=HOSTILE)]
    used = resource.getrusage(resource.RUSAGE_SELF)
    verdicts = grader.grade(asked)
    own = resource.getrusage(resource.RUSAGE_SELF)
    assert own.ru_utime - used.ru_utime < 1 + HOSTILE * 0.02  # in our own process: reading where the answer stands
    counts = {why: count - before.get(why, 0) for why, count in grader.counts.items()}
    assert sum(counts.values()) == HOSTILE
    assert not any(counts.get(why) for why in math_answers.FAILURES), counts
    assert counts["refused"] > HOSTILE / 10 and counts["boxed"] > HOSTILE / 10
    right = [pair for pair, verdict in zip(asked, verdicts, strict=True) if verdict.correct]
    # A sum of ones and a tower of fractions may well be the value that is asked for.
    right = [(truth, response) for truth, response in right if not re.search(r"\d\+1\+1|\\frac\{1\}\{\\frac", response)]
    assert all(len(re.sub(r"[\W_]|box|ed", "", response)) < 12 for _, response in right), right
    assert grader.grade([("7", r"\boxed{\frac{14}{2}}")]) == [Verdict(True, "boxed")]


@pytest.mark.parametrize(
    "answer",
    ["(n-1)!", "2^{2019}-1", "2022! - 1", "15(2013!)", r"\frac{100!}{50!}", "x^{1000}", r"\binom{2n}{n}", "10^{100}"],
)
def test_answers_of_answer_keys_are_not_refused(grader, answer):
    assert not refused(answer)
    same, other = grader.grade([(answer, rf"\boxed{{ {answer} }}"), (answer, rf"\boxed{{{answer} + 1}}")])
    assert same == Verdict(True, "boxed") and other == Verdict(False, "boxed")
