"""`Missing`: a part of a result that cannot be there, with the sentence that says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from scaling.schema import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Missing:
    """What stands in the place of a part that cannot be made. Raises ValueError where no reason is given."""

    reason: str

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ValueError("a part that is missing needs a reason")

    def json(self) -> dict[str, str]:
        """As a document for programs shows it."""
        return {"error": self.reason}


def attempt(make: Callable[[], T]) -> T | Missing:
    """What `make` makes, or the reason that its InputError gives."""
    try:
        return make()
    except InputError as error:
        return Missing(str(error))


def known(part: T | Missing) -> T:
    """The part itself. Raises InputError with the reason where it is missing."""
    if isinstance(part, Missing):
        raise InputError(part.reason)
    return part
