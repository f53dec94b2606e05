"""From YAML and plain values to a RunConfig and back. Every mistake is an InputError of one line.

The error names the file, the key, what is legal and the nearest match. `recipe: NAME` lays a file over a shipped
recipe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from scaling.config.checks import resolve_at
from scaling.config.parts import UNIONS, Part, brief
from scaling.config.run import RunConfig
from scaling.schema import InputError, did_you_mean

MOST_LEVELS = 50  # of nesting in a YAML file; ours have five
MOST_VALUES = 1_000_000


def read_yaml(path: Path) -> Any:
    """Read a YAML 1.2 file (5e-4 is a number, `no` is a word). Duplicate keys, empty and broken files: InputError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file.{did_you_mean(path.name, names)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from None
    try:
        value = YAML(typ="safe", pure=True).load(text)
        _check_shape(value)
    except RecursionError:
        raise InputError(f"{path.name}: it is nested too deep, or a part of it contains itself.") from None
    except MemoryError:
        raise InputError(f"{path.name}: its aliases unfold to more than {MOST_VALUES:,} values.") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        problem = str(getattr(error, "problem", None) or str(error).splitlines()[0])
        raise InputError(f"{path.name}:{place} is not valid YAML: {' '.join(problem.split())}.") from None
    if value is None:
        raise InputError(f"{path.name}: the file is empty.")
    if not isinstance(value, dict):
        raise InputError(f"{path.name}: wants keys and values at the top, not a {type(value).__name__}.")
    return value


def _check_shape(value: Any) -> None:
    """Raise RecursionError or MemoryError for a value that no later step could walk: aliases may loop or explode."""
    count, level = 0, [value]
    for _ in range(MOST_LEVELS):
        below = [v for v in level if isinstance(v, dict | list)]
        count += sum(map(len, below))
        if count > MOST_VALUES:
            raise MemoryError
        level = [v for part in below for v in (part.values() if isinstance(part, dict) else part)]
    if level:
        raise RecursionError


def field_part(path: tuple[str | int, ...]) -> tuple[str, list[str]]:
    """The config class that the dotted path's parent names, and its field names: for error messages."""
    part: Any = RunConfig
    for key in path:
        field = getattr(part, "model_fields", {}).get(key)
        if field is None:
            break
        classes = [c for c in (field.annotation, *get_args(field.annotation)) if hasattr(c, "model_fields")]
        if not classes:
            break
        part = classes[0]
    return part.__name__, list(part.model_fields)


def parse_config(values: Any, where: str) -> RunConfig:
    """A RunConfig from plain values. Raises InputError, one line, naming `where`, the key and what is legal."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    # An unknown key explains a missing one: tell it first.
    details = sorted(error.errors(include_url=False), key=lambda detail: detail["type"] != "extra_forbidden")
    first = details[0]
    # Keys that pydantic puts into the path of a union are not in the file.
    loc = list(first["loc"])
    key, members = UNIONS.get(str(loc[0]), ("", {})) if loc else ("", {})
    tagged = len(loc) > 1 and loc[1] in members
    path = tuple(loc[:1] + loc[2:] if tagged else loc)
    dotted = ".".join(map(str, path))
    if first["type"] == "extra_forbidden":
        if tagged:
            name, fields = members[str(loc[1])].__name__, list(members[str(loc[1])].model_fields)
        else:
            name, fields = field_part(path[:-1])
        parent = ".".join(map(str, path[:-1]))
        hint = did_you_mean(str(path[-1]), fields)
        if hint and parent:
            hint = hint.replace("Did you mean ", f"Did you mean {parent}.")
        text = f"{dotted} is not a field of {name}; it has {', '.join(fields)}.{hint}"
    elif first["type"] == "invalid_key":
        name, fields = field_part(path[:-1])
        text = f"{dotted} is not a field of {name}; it has {', '.join(fields)}."
    elif first["type"] == "missing":
        text = f"{dotted} is missing."
    elif first["type"] in ("model_type", "model_attributes_type"):
        text = f"{dotted} wants keys and values ({', '.join(field_part(path)[1])}), not {brief(first['input'])}."
    elif first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        given, tags = str(first.get("ctx", {}).get("tag", "")), list(members)
        what = "an algorithm" if dotted == "algorithm" else f"a {dotted}"
        text = f"{dotted}.{key} {brief(given)} is not {what}; there are {', '.join(tags)}.{did_you_mean(given, tags)}"
    else:
        message = first["msg"].removeprefix("Value error, ")
        given = first["input"]
        told = isinstance(given, dict | Part) or brief(given) in message
        shown = "" if told else f" (given: {brief(given)})"
        text = f"{dotted}: {message}{shown}." if dotted else f"{message}{shown}."
        legal = first.get("ctx", {}).get("expected")
        if legal and isinstance(given, str):
            text += did_you_mean(given, [word.strip(" '") for word in str(legal).replace(" or ", ",").split(",")])
    return text + (f" ({len(details) - 1} more)" if len(details) > 1 else "")


def load_config(path: Path) -> RunConfig:
    """A RunConfig from a YAML file; `recipe: NAME` lays it over a shipped recipe."""
    values = read_yaml(path)
    config = parse_config(with_recipe(values, path.name), path.name)
    resolve_at(config, path.name)
    return config


def with_recipe(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Lay `values` over the shipped recipe that its key `recipe` names, if it has one."""
    values = dict(values)
    name = values.pop("recipe", None)
    if name is None:
        return values
    folder = Path(__file__).parent.parent / "recipes"
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        hint = did_you_mean(str(name), names)
        raise InputError(f"{where}: recipe {brief(name)} is not shipped; there are {', '.join(names)}.{hint}")
    return merge(read_yaml(folder / f"{name}.yaml"), values)


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge nested dictionaries, `above` winning."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def dump(config: RunConfig) -> dict[str, Any]:
    """The whole config as plain JSON values."""
    return config.model_dump(mode="json")
