"""What is wrong with values that no config can hold, in one line: what was given, what is legal, the nearest match.

pydantic finds the mistake; the words are ours.
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError

from scaling.fields import Part, brief
from scaling.schema import did_you_mean

UNKNOWN_KEY = ("extra_forbidden", "invalid_key")
BOUNDS = {
    "greater_than_equal": ("greater than or equal to", "ge"),
    "greater_than": ("greater than", "gt"),
    "less_than_equal": ("less than or equal to", "le"),
    "less_than": ("less than", "lt"),
}
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list", tuple: "a list"}


@dataclass(frozen=True)
class Place:
    """Where a mistake is: its keys as they stand in the file, the class that has the last of them, and what fits there.

    `wanted` is an annotation, and of a union of parts the classes by their tag; `tag` is the key that they differ in.
    """

    path: tuple[str | int, ...]
    owner: type[Part]
    wanted: Any
    tag: str = ""

    @property
    def dotted(self) -> str:
        return ".".join(map(str, self.path))


def explain(error: ValidationError, root: type[Part]) -> str:
    """One line about the mistakes in values for a `root`: the first, and how many more there are."""
    # An unknown key explains a missing one: tell it first.
    details: list[Any] = sorted(error.errors(include_url=False), key=lambda one: one["type"] not in UNKNOWN_KEY)
    places = [_find(root, detail["loc"]) for detail in details]
    more = len({place.path for place in places}) - 1
    return _sentence(details[0], places[0]) + (f" ({more} more)" if more else "")


def _find(root: type[Part], loc: tuple[str | int, ...]) -> Place:
    """The place that pydantic's `loc` names; the labels that pydantic adds for members of unions are left out."""
    place = Place((), root, root)
    for key in loc:
        wanted = _bare(place.wanted)
        if key == "[key]":
            break
        if isinstance(wanted, type) and issubclass(wanted, Part):
            field = wanted.model_fields.get(str(key))
            inner, tag = (None, "") if field is None else (field.annotation, str(field.discriminator or ""))
            if tag:
                inner = {member.model_fields[tag].default: member for member in get_args(inner)}
            place = Place((*place.path, key), wanted, inner, tag)
        elif isinstance(wanted, dict) and key in wanted:
            place = Place(place.path, wanted[key], wanted[key])
        elif get_origin(wanted) in (dict, list, tuple):
            inner = get_args(wanted)[1 if get_origin(wanted) is dict else 0]
            place = Place((*place.path, key), place.owner, inner)
        else:
            break
    return place


def _sentence(detail: Any, place: Place) -> str:
    kind, given, dotted = detail["type"], detail["input"], place.dotted
    if kind in UNKNOWN_KEY:
        fields, parent = list(place.owner.model_fields), ".".join(map(str, place.path[:-1]))
        hint = did_you_mean(str(place.path[-1]), fields)
        if hint and parent:
            hint = hint.replace("Did you mean ", f"Did you mean {parent}.")
        return f"{dotted} is not a field of {place.owner.__name__}; it has {', '.join(fields)}.{hint}"
    if kind == "missing":
        return f"{dotted} is missing."
    if place.tag and kind.startswith("union_tag"):
        tags = list(place.wanted)
        if kind == "union_tag_not_found":
            return f"{dotted}.{place.tag} is missing; there are {', '.join(tags)}."
        named = given[place.tag] if isinstance(given, dict) else getattr(given, place.tag, given)
        what = "an algorithm" if dotted == "algorithm" else f"a {dotted}"
        hint = did_you_mean(str(named), tags)
        return f"{dotted}.{place.tag} {brief(named)} is not {what}; there are {', '.join(tags)}.{hint}"
    if kind in ("model_type", "model_attributes_type"):
        if place.tag:
            return f"{dotted} wants keys and values ({place.tag}: {_or(list(place.wanted))}), not {brief(given)}."
        fields, what = list(place.wanted.model_fields), dotted or place.owner.__name__
        return f"{what} wants keys and values ({', '.join(fields)}), not {brief(given)}."
    before = f"{dotted}: " if dotted else ""
    if kind in ("value_error", "assertion_error"):  # one of our own checks
        message = str(detail["ctx"]["error"])
        told = isinstance(given, dict | Part) or brief(given) in message
        message += "" if told else f" (given: {brief(given)})"
        return before + message + ("" if message.endswith((".", "?")) else ".")
    if detail["loc"][-1:] == ("[key]",):
        return f"{before}wants text for a key, not {brief(given)}."
    wanted = "a finite number" if kind == "finite_number" else in_words(place.wanted)
    if kind in BOUNDS:
        words, limit = BOUNDS[kind]
        bound = detail["ctx"][limit]
        wanted += f" {words} {int(bound) if bound == int(bound) else bound}"
    hint = did_you_mean(given, _choices(place.wanted)) if kind == "literal_error" and isinstance(given, str) else ""
    return f"{before}wants {wanted}, not {brief(given)}.{hint}"


def in_words(wanted: Any) -> str:
    """What an annotation takes, in words: `a whole number`, `constant, linear or cosine`. null is not named."""
    wanted = _bare(wanted)
    if get_origin(wanted) in (Union, types.UnionType):
        kinds = dict.fromkeys(in_words(one) for one in get_args(wanted) if one is not type(None))
        return _or([kind for kind in kinds if kind != WORDS[int] or WORDS[float] not in kinds])
    if get_origin(wanted) is Literal:
        return _or(_choices(wanted))
    kind = get_origin(wanted) or wanted
    return WORDS.get(kind, "keys and values")


def _bare(wanted: Any) -> Any:
    """An annotation without what Annotated adds."""
    return get_args(wanted)[0] if get_origin(wanted) is Annotated else wanted


def _choices(wanted: Any) -> list[str]:
    return list(map(str, get_args(wanted)))


def _or(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
