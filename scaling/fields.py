"""What every part of a configuration is made of: `Part`, numbers that stay numbers, files that count by content.

Below the configuration itself, so that a task or an estimator brings its own config class and imports nothing above.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from scaling.schema import InputError

_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxlong = 4, 40
_BRIEF.maxstring = _BRIEF.maxother = 120


def brief(value: Any) -> str:
    """repr of what was given, cut where it would fill the screen: for error messages."""
    return _BRIEF.repr(value)


def _no_text_numbers(value: Any) -> Any:
    if isinstance(value, str | bool):
        raise ValueError(f"wants a number, not {brief(value)}")
    return value


# Text never becomes a number silently: '5' in quotes is a mistake, not five.
# The bound keeps whole numbers exact wherever they go: JSON, data frames, seeds of generators.
Int = Annotated[int, BeforeValidator(_no_text_numbers), Field(le=2**53)]
Float = Annotated[float, BeforeValidator(_no_text_numbers), Field(allow_inf_nan=False)]
# Marks a field that names a file of data: the run_id takes the hash of its content in place of the path.
FILE = "data file"
OptionalDataFile = Annotated[str | None, FILE]
# Marks a field that names a function of the user's own, `FILE.py:NAME`: the run_id takes the file's content and NAME.
FUNCTION = "function"


def _function(value: Any) -> Any:
    file, _, name = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if value is not None and not (file.endswith(".py") and name.isidentifier()):
        raise ValueError(f"wants the function of a file, such as my_file.py:score, not {brief(value)}")
    return value


OptionalFunction = Annotated[str | None, FUNCTION, BeforeValidator(_function)]


class Part(BaseModel):
    """A part of a RunConfig. A changed default bumps VERSION, which is hashed, so that old ids keep their meaning."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    VERSION: ClassVar[int] = 1


def defined(file: Path, pattern: str) -> list[str]:
    """What `pattern` finds at the start of a line of a source file: it is not imported, for it may load torch."""
    return re.findall(rf"^{pattern}", file.read_text(encoding="utf-8"), re.MULTILINE)


Member = TypeVar("Member", bound=Part)


def members(package: str, folder: Iterable[str], base: type[Member], key: str) -> dict[str, type[Member]]:
    """The members of a union of parts by their tag: the subclasses of `base` that the files of a plug-in folder define.

    Args:
        package: dotted name of the folder, whose files are imported.
        folder: its `__path__`.
        base: the class that all members derive from.
        key: the field that tells them apart; its only value is the tag.

    Raises InputError for a member without a tag, and for two of one tag.
    """
    by_tag: dict[str, type[Member]] = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(folder)):
        module = importlib.import_module(f"{package}.{name}")
        for member in vars(module).values():
            if not (isinstance(member, type) and issubclass(member, base) and member.__module__ == module.__name__):
                continue
            field, what = member.model_fields.get(key), f"{module.__name__}.{member.__name__}"
            if field is None or get_origin(field.annotation) is not Literal or not isinstance(field.default, str):
                raise InputError(f'{what} wants a field `{key}: Literal["x"] = "x"`.')
            if field.default in by_tag:
                raise InputError(f"{what}: {key} {field.default!r} is taken; choose another.")
            by_tag[field.default] = member
    return by_tag
