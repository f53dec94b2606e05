r"""Where the answer stands in a response: the boxes that are meant, or what the end of a text without a box says.

The last box counts. Boxes that stand side by side, or that `or`, `and`, `alternatively` join, are one answer of several
parts: `\boxed{3} or \boxed{5}` says both, so that nothing is won by naming two.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BOX = re.compile(r"\\f?box(?:ed)?\s*(?:\{|(?=[-\d]))")
_BARE = re.compile(r"-?\d[\d.,]*")
# Between two boxes of one answer: signs, names of variables and these words, and nothing else.
_JOINT = re.compile(
    r"(?:[\s,;:.$&*()\[\]\\、，；。|/~–—-]|\\(?:text|mathrm|quad|qquad|lor|vee|land|ldots|dots)|[{}]"
    r"|\b(?:and|or|also|either|possibly|maybe|perhaps|both)\b|或|和|或者|[A-Za-z](?:_\{?\w\}?)?\s*=)*",
    re.IGNORECASE,
)
_HEDGE = re.compile(
    r"\b(?:or|alternatively|alternative|maybe|perhaps|possibly|either|could be|might be|may be|otherwise|also"
    r"|another (?:answer|possibility|option)|equally)\b|或",
    re.IGNORECASE,
)
_TURN = re.compile(
    r"\b(?:no|not|wrong|wait|mistake|error|incorrect|correct\w*|actually|instead|sorry|oops|rather|hence|thus|so"
    r"|therefore|final|finally|recheck\w*|re-check\w*)\b|不|错|所以|因此",
    re.IGNORECASE,
)
GAP = 160  # characters between two boxes, beyond which they are two statements
MOST_BOXES = 64
TAIL = 300


class Answers(NamedTuple):
    """`last`: the parts of the last statement; `all`: every different box of the response."""

    last: tuple[str, ...]
    all: tuple[str, ...]


def boxes(text: str) -> list[tuple[int, int, str]]:
    """Begin, end and content of the outermost boxes that close and hold something, in order."""
    found, place, tried = [], 0, 0
    while (match := _BOX.search(text, place)) is not None:
        place = match.end()
        if not match.group().endswith("{"):
            bare = _BARE.match(text, place)
            if bare is not None:
                found.append((match.start(), bare.end(), bare.group().rstrip(".,")))
                place = bare.end()
            continue
        tried += 1
        end = _closing(text, place) if tried <= 1000 else None
        if end is not None:
            content = text[place:end].strip()
            if content:
                found.append((match.start(), end + 1, content))
            place = end + 1
    return found


def _closing(text: str, start: int) -> int | None:
    depth = 1
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        if match.group() in "{}":
            depth += 1 if match.group() == "{" else -1
            if depth == 0:
                return match.start()
    return None


def boxed_answers(text: str) -> Answers | None:
    """The boxes that are the answer; None where there is none."""
    found = boxes(text)[-MOST_BOXES:]
    if not found:
        return None
    first = len(found) - 1
    while first and _joined(text[found[first - 1][1] : found[first][0]]):
        first -= 1
    return Answers(_distinct(found[first:]), _distinct(found))


def _joined(gap: str) -> bool:
    if len(gap) > GAP:
        return False
    return _JOINT.fullmatch(gap) is not None or (_HEDGE.search(gap) is not None and _TURN.search(gap) is None)


def _distinct(found: list[tuple[int, int, str]]) -> tuple[str, ...]:
    return tuple({"".join(content.split()): content for _, _, content in found}.values())


_SAID = re.compile(r"(?:answers?(?:\s+(?:is|are|equals))?|答案(?:是|为)?|####)\s*[:：]?\s*", re.IGNORECASE)
_MATHS = re.compile(r"(?<!\\)\$\$?([^$]+)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?(?![\w])")
_END = re.compile(r"\.\s|\.$|\n|。")


def said_answer(text: str) -> str | None:
    """The answer of a text without a box: after its last `answer is`, else its last formula, else its last number."""
    text = text[-TAIL:].strip().replace("**", "")
    said = list(_SAID.finditer(text))
    if said and text[said[-1].end() :].strip():
        return _END.split(text[said[-1].end() :].strip(), maxsplit=1)[0].strip()
    formulas = _MATHS.findall(text)
    if formulas:
        return next(part for part in formulas[-1] if part).strip()
    if text and len(text) <= 40 and "\n" not in text:
        return text
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else None
