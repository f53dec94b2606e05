"""From YAML and plain values to a RunConfig and back. Every mistake is an InputError of one line.

The error names the file, the key, what is legal and the nearest match. `recipe: NAME` lays a file over a shipped
recipe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from scaling.config.checks import resolve_at
from scaling.config.errors import explain
from scaling.config.run import RunConfig
from scaling.fields import brief
from scaling.schema import NOT_UTF8, InputError, did_you_mean, one_line

MOST_LEVELS = 50  # of nesting in a YAML file; ours have five
MOST_VALUES = 1_000_000


def read_yaml(path: Path) -> Any:
    """Read a YAML 1.2 file (5e-4 is a number, `no` is a word). Duplicate keys, empty and broken files: InputError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file.{did_you_mean(path.name, names)}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read ({error}); {NOT_UTF8}.") from None
    except OSError as error:
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
        if isinstance(error, DuplicateKeyError):  # the values that it tells are not read to their end
            key = problem.split('"')[1]
            problem = f"key {key} stands twice; keep one"
        raise InputError(f"{path.name}:{place} is not valid YAML: {one_line(problem)}.") from None
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


def parse_config(values: Any, where: str) -> RunConfig:
    """A RunConfig from plain values. Raises InputError, one line, naming `where`, the key and what is legal."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error, RunConfig)}") from None


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
