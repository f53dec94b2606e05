"""The grader of maths answers: what is read as the answer, and verdicts that no answer can delay or prevent."""

import resource
import time

import math_verify
import numpy as np
import pytest

from scaling.graders import math_answers
from scaling.graders.math_answers import MathGrader, Verdict, boxed_answer, refused


@pytest.fixture(scope="module")
def grader():
    grader = MathGrader(workers=1)
    yield grader
    grader.close()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{42}.", "42"),
        (r"first \boxed{1}, no: \boxed{ 2 }", "2"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\fbox{x^{2}}", "x^{2}"),
        (r"\boxed {7}", "7"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{3} and then \boxed{\frac{1}{2", "3"),  # the last one was cut off
        ("the answer is 42", None),
        (r"\boxed 42", None),
        ("", None),
    ],
)
def test_the_answer_is_the_last_box_that_closes(text, answer):
    assert boxed_answer(text) == answer


def test_verdicts_and_their_reasons(grader):
    verdicts = grader.grade(
        [
            (r"\frac{1}{2}", r"\boxed{0.5}"),
            (r"\frac{1}{2}", r"\boxed{\frac{1}{2}}"),
            ("2", r"\boxed{3}"),
            ("2", "it is 2"),
            (r"(3, \frac{\pi}{2})", r"\boxed{\left( 3, \frac{\pi}{2} \right)}"),
            ("1,000", r"\boxed{1000}"),
            ("5", r"\boxed{" + "(" * 300 + "5" + ")" * 300 + "}"),
        ]
    )
    assert verdicts == [
        Verdict(True, "boxed"), Verdict(True, "boxed"), Verdict(False, "boxed"), Verdict(False, "none"),
        Verdict(True, "boxed"), Verdict(True, "boxed"), Verdict(False, "refused"),
    ]  # fmt: skip
    assert grader.grade([("2", "it is 2"), ("3", "it is 2")], anywhere=True) == [
        Verdict(True, "anywhere"), Verdict(False, "anywhere"),
    ]  # fmt: skip


HEAVY = [
    r"(1+x)^{4000}", r"\int_0^1 \sin(x^{x^x}) dx", r"\sum_{n=1}^{\infty}\frac{1}{n^3+n+1}", r"(x+y+z+w)^{60}",
    r"10^{999}^{999}",
]  # fmt: skip


def test_an_answer_that_computes_on_is_ended_and_counted():
    grader = MathGrader(workers=1)
    grader.grade([("7", r"\boxed{8}")])  # the worker starts
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    verdicts = grader.grade([("7", rf"\boxed{{{answer}}}") for answer in HEAVY])
    assert not any(verdict.correct for verdict in verdicts)
    assert sum(verdict.why == "timeout" for verdict in verdicts) == grader.failures() >= 3
    # The next answer is graded as ever, and a repeated one is not worked out again.
    assert grader.grade([("7", r"\boxed{\frac{14}{2}}")]) == [Verdict(True, "boxed")]
    started = time.process_time()
    assert grader.grade([("7", rf"\boxed{{{answer}}}") for answer in HEAVY]) == verdicts
    assert time.process_time() - started < 0.1
    grader.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < len(HEAVY) * 1.0 + 5.0  # a second each, and the worker's own start


def test_a_child_that_dies_or_fills_memory_is_replaced(monkeypatch):
    """The faults themselves: an answer that the verifier answers with its own death."""
    import os
    import signal

    def compare(truth, answer, anywhere):
        if answer == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if answer == "memory":
            bytearray(2 * math_answers.ADDRESS_SPACE)
        if answer == "raise":
            raise RuntimeError
        return truth == answer

    monkeypatch.setattr(math_answers, "compare", compare)
    found = []
    for answer in ("kill", "1", "memory", "1", "raise", "1"):
        child = math_answers._Child()
        found.append(tuple(child.ask(f'["1", "{answer}", false]\n')))
        child.end()
    right = (True, "boxed")
    assert found == [(False, "died"), right, (False, "memory"), right, (False, "error"), right]


def ordinary(rng) -> tuple[str, str]:
    """A ground truth and an answer as models write them: right in another form, or wrong."""
    a, b, c = (int(n) for n in rng.integers(1, 40, 3))
    truth, forms = [
        (f"{a}", [f"{a}.0", rf"\frac{{{a * b}}}{{{b}}}", f"{a}", f"{a + 1}", f"x={a}", rf"\text{{{a}}}", f"{a}\\%"]),
        (rf"\frac{{{a}}}{{{b}}}", [f"{a}/{b}", rf"\dfrac{{{2 * a}}}{{{2 * b}}}", f"{a / b:.3f}", f"{b}/{a}"]),
        (rf"{a}\sqrt{{{b}}}", [rf"\sqrt{{{a * a * b}}}", rf"{a}\sqrt{{{b}}}", rf"{a}\sqrt{{{b + 1}}}", f"{a}*{b}^0.5"]),
        (rf"({a}, {b})", [rf"\left({a},{b}\right)", f"({b}, {a})", f"({a}, {b})", f"[{a}, {b}]"]),
        (rf"{a}x^2+{b}x", [f"x({a}x+{b})", f"{b}x+{a}x^2", f"{a}x^2-{b}x"]),
        (rf"\{{{a}, {b}, {c}\}}", [rf"\{{{c}, {a}, {b}\}}", rf"\{{{a}, {b}\}}", f"{a}, {b}, {c}"]),
        (rf"{a}\pi", [rf"\pi {a}", f"{a * 3.14159265:.4f}", rf"{a + b}\pi"]),
        (f"{a * 1000}", [f"{a},000", rf"{a}\times 10^3", rf"\${a}000", f"{a}000 \\text{{ cm}}"]),
        (rf"x \in [{a}, \infty)", [rf"[{a}, \infty)", rf"({a}, \infty)", rf"x \ge {a}"]),
        (rf"{a}^\circ", [f"{a}", rf"{a}^{{\circ}}", f"{b}"]),
    ][rng.integers(10)]  # fmt: skip
    return truth, forms[rng.integers(len(forms))]


def test_agrees_with_math_verify_on_ordinary_answers(grader):
    rng = np.random.default_rng(1)
    pairs = [ordinary(rng) for _ in range(400)]
    found = grader.grade([(truth, rf"Thus \boxed{{{answer}}}.") for truth, answer in pairs])
    wrong = [
        (pair, verdict)
        for pair, verdict in zip(pairs, found, strict=True)
        if verdict.correct
        != math_verify.verify(math_verify.parse(f"${pair[0]}$"), math_verify.parse(rf"\boxed{{{pair[1]}}}"))
    ]
    assert wrong == []
    assert 120 < sum(verdict.correct for verdict in found) < 360
    assert grader.failures() == 0


def hostile(rng) -> str:
    n = int(rng.integers(2, 4000))
    kind = rng.integers(12)
    junk = "".join(rng.choice(list(r"\{}()[]^_+-*/=,!$%&~ 0123456789exyπ∞" + "\n\0'\""), size=n % 60))
    return [
        "(" * n + "1" + ")" * n, r"\sqrt{" * n + "2" + "}" * n, r"\{" + ",".join(map(str, range(n))) + r"\}",
        f"{n}**{n}**{n}", f"10^{{{n * 10**6}}}", f"(({n}!)!)!", f"{n + 10**4}!", "9" * (n + 200),
        r"\frac{1}{" * n + "2" + "}" * n, "1+" * (n + 200) + "1", r"\begin{matrix}" + "1&" * (n + 64), junk,
    ][kind]  # fmt: skip


@pytest.mark.launch
def test_ten_thousand_hostile_answers(grader):
    """None hangs, raises or takes a second; the cost is that of CPU time, since others share the machine."""
    rng = np.random.default_rng(2)
    before = dict(grader.counts)
    answers = [hostile(rng) for _ in range(10_000)]
    slowest = 0.0
    for start in range(0, len(answers), 100):
        started = time.process_time()
        verdicts = grader.grade([("-918273645", rf"\boxed{{{answer}}}") for answer in answers[start : start + 100]])
        slowest = max(slowest, (time.process_time() - started) / 100)
        assert not any(verdict.correct for verdict in verdicts)
    assert slowest < 0.1  # in our own process: reading the answer
    counts = {why: count - before.get(why, 0) for why, count in grader.counts.items()}
    assert sum(counts.values()) == 10_000
    assert counts["refused"] > 8000
    assert grader.grade([("7", r"\boxed{\frac{14}{2}}")]) == [Verdict(True, "boxed")]


@pytest.mark.parametrize(
    "answer",
    ["(n-1)!", "2^{2019}-1", "2022! - 1", "15(2013!)", r"\frac{100!}{50!}", "x^{1000}", r"\binom{2n}{n}", "10^{100}"],
)
def test_answers_of_answer_keys_are_not_refused(answer):
    assert not refused(answer)
