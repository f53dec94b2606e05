"""The study file: a grid of runs, checked whole before anything is merged or written.

study: quickstart
base: {...}                       a RunConfig without what the axes set
blocks:                           each block is a grid; their union is the study
  - axes: {model: [us, xs], seed: [0, 1]}          product of dotted RunConfig fields
    zip: {data.prompts_per_step: [8, 16], ...}     fields that move in step
    set: {task.modulus: 10}                        fixed for the block
    where: model != us or seed == 0                combinations to keep
analysis: {where: ..., steps: ..., x: ..., law: ...}   defaults of the analysis
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args, get_origin

from scaling import schema
from scaling.config import (
    AlgorithmConfig,
    RunConfig,
    merge,
    parse_config,
    read_yaml,
    resolve,
    with_recipe,
)
from scaling.schema import InputError, did_you_mean

STUDIES = Path(__file__).parent / "studies"
KEYS = ["study", "recipe", "base", "blocks", "analysis"]
BLOCK_KEYS = ["name", "set", "axes", "zip", "where"]
ANALYSIS_KEYS = ["where", "steps", "points", "x", "law", "objective", "size_column", "by", "split"]
SHORTHANDS = {"model": "size", "algorithm": "type", "task": "name"}


@dataclass(frozen=True)
class Cell:
    """One point of the grid, before planning: the values that its block sets and the run that they make."""

    block: str
    axes: dict[str, Any]  # dotted field -> value, as the axes and `zip` set it
    config: RunConfig  # tau resolved


@dataclass(frozen=True)
class Block:
    name: str
    fixed: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, list[Any]] = field(default_factory=dict)
    zipped: dict[str, list[Any]] = field(default_factory=dict)
    where: str | None = None

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Every combination of the axes, the zipped fields moving in step; `where` is not applied."""
        steps = [dict(zip(self.zipped, values, strict=True)) for values in zip(*self.zipped.values(), strict=True)]
        for values in itertools.product(*self.axes.values()):
            for together in steps or [{}]:
                yield {**dict(zip(self.axes, values, strict=True)), **together}


@dataclass(frozen=True)
class Study:
    name: str
    where: str  # the file, as errors name it
    base: dict[str, Any]
    blocks: list[Block]
    analysis: dict[str, Any]
    text: str = ""  # the file as written, for the study folder

    def cells(self) -> list[Cell]:
        """Every cell of every block, in file order, equal ones not yet merged. Raises InputError for a bad value."""
        found = [self._cell(block, axes) for block in self.blocks for axes in self._kept(block)]
        if not found:
            raise InputError(f"{self.where}: no combination is left after `where`; the study is empty.")
        return found

    def dropped(self) -> list[str]:
        """The combinations that a block's `where` leaves out, in words."""
        return [
            f"{block.name}: {', '.join(f'{key}={value}' for key, value in axes.items())}"
            for block in self.blocks
            if block.where
            for axes in block.combinations()
            if axes not in self._kept(block)
        ]

    def _kept(self, block: Block) -> list[dict[str, Any]]:
        if not block.where:
            return list(block.combinations())
        keep = parse_where(block.where, f"{self.where}: {block.name}.where", [*block.fixed, *block.axes, *block.zipped])
        return [axes for axes in block.combinations() if keep({**block.fixed, **axes})]

    def _cell(self, block: Block, axes: dict[str, Any]) -> Cell:
        values = self.base
        for dotted, value in {**block.fixed, **axes}.items():
            values = with_path(values, dotted.split("."), value)
        what = ", ".join(f"{key}={value}" for key, value in axes.items())
        where = f"{self.where}: {block.name}{f' ({what})' if what else ''}"
        data = values.get("data")
        if "stop" not in values and isinstance(data, dict) and {"prompts_unique", "reuse_factor"} <= data.keys():
            # U and tau say how far the run goes: D = U tau.
            values = {**values, "stop": {"prompts": round(data["prompts_unique"] * data["reuse_factor"])}}
        config = parse_config(values, where)
        try:
            return Cell(block.name, axes, resolve(config))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None


def load_study(source: str | Path) -> Study:
    """A study from a file, the name of a shipped study, or a study folder. Raises InputError, one line."""
    path = Path(source)
    if path.is_dir():
        path = path / schema.STUDY
        if not path.exists():
            raise InputError(
                f"{source}: the folder holds no {schema.STUDY}; give a study file, folder or shipped name."
            )
    elif not path.exists() and path.suffix not in (".yaml", ".yml"):
        shipped = sorted(p.stem for p in STUDIES.glob("*.yaml"))
        if str(source) not in shipped:
            raise InputError(
                f"{source}: no such study file or folder, and no shipped study; there are {', '.join(shipped)}."
                f"{did_you_mean(str(source), shipped)}"
            )
        path = STUDIES / f"{source}.yaml"
    return replace(parse_study(read_yaml(path), path.name), text=path.read_text(encoding="utf-8"))


def parse_study(values: dict[str, Any], where: str) -> Study:
    """Check a study file's content and make the Study. Nothing is merged before every key is known to be legal."""
    _check_keys(values, KEYS, where, "a study file")
    name = values.get("study")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise InputError(f"{where}: study wants a name of letters, digits, - _ ., not {name!r}.")
    base = _dictionary(values.get("base", {}), f"{where}: base")
    for dotted in flatten(base):
        check_path(dotted, f"{where}: base")
    analysis = _dictionary(values.get("analysis", {}), f"{where}: analysis")
    _check_keys(analysis, ANALYSIS_KEYS, f"{where}: analysis", "the analysis section")
    recipe = {} if values.get("recipe") is None else {"recipe": values["recipe"]}
    base = with_recipe({**recipe, **nested(base)}, where)
    given = values.get("blocks", [{}])
    if not isinstance(given, list) or not given:
        raise InputError(f"{where}: blocks wants a list of grids, each with axes, not {given!r}.")
    blocks = [_block(block, index, where) for index, block in enumerate(given)]
    names = [block.name for block in blocks]
    for name_again in {n for n in names if names.count(n) > 1}:
        raise InputError(f"{where}: two blocks are called {name_again!r}; give each a name of its own.")
    return Study(name, where, base, blocks, analysis)


def _block(values: Any, index: int, where: str) -> Block:
    place = f"{where}: blocks[{index}]"
    values = _dictionary(values, place)
    _check_keys(values, BLOCK_KEYS, place, "a block")
    fixed = _dictionary(values.get("set", {}), f"{place}.set")
    for dotted in flatten(fixed):
        check_path(dotted, f"{place}.set")
    lists = {}
    for key in ("axes", "zip"):
        lists[key] = _dictionary(values.get(key, {}), f"{place}.{key}")
        for dotted, choices in lists[key].items():
            check_path(dotted, f"{place}.{key}")
            if not isinstance(choices, list) or not choices:
                raise InputError(f"{place}.{key}.{dotted} wants a list of at least one value, not {choices!r}.")
            if key == "axes" and any(choices.count(value) > 1 for value in choices):
                raise InputError(f"{place}.{key}.{dotted} names a value twice: {choices}.")
    lengths = {dotted: len(choices) for dotted, choices in lists["zip"].items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{dotted} has {count}" for dotted, count in lengths.items())
        raise InputError(f"{place}.zip moves its fields in step, so they want as many values each; {shown}.")
    for dotted in {*lists["axes"], *lists["zip"]} & set(fixed) | set(lists["axes"]) & set(lists["zip"]):
        raise InputError(f"{place}: {dotted} is set twice in one block; keep one.")
    where_text = values.get("where")
    if where_text is not None and not isinstance(where_text, str):
        raise InputError(f"{place}.where wants an expression such as 'seed == 0', not {where_text!r}.")
    name = values.get("name", "main" if index == 0 else f"block{index + 1}")
    return Block(str(name), flatten(fixed), lists["axes"], lists["zip"], where_text)


# ---------------------------------------------------------------- dotted fields


def check_path(dotted: str, where: str) -> None:
    """Raise InputError unless the dotted path names a field of RunConfig, or one of its parts."""
    part: Any = RunConfig
    keys = str(dotted).split(".")
    for depth, key in enumerate(keys):
        if get_origin(part) is dict:  # free keys: flags of sbatch
            return
        classes = _classes(part)
        fields = list(dict.fromkeys(name for c in classes for name in c.model_fields))
        if key not in fields:
            before = ".".join(keys[:depth])
            names = " or ".join(c.__name__ for c in classes)
            if not fields:
                raise InputError(f"{where}.{dotted}: {before} is a value and has no fields.")
            hint = did_you_mean(key, fields)
            hint = hint.replace("Did you mean ", f"Did you mean {before}.") if before else hint
            raise InputError(f"{where}.{dotted} is not a field of {names}; it has {', '.join(fields)}.{hint}")
        part = next(c.model_fields[key].annotation for c in classes if key in c.model_fields)


def _classes(part: Any) -> list[Any]:
    """The config classes behind an annotation: itself, or the members of a union."""
    if part is AlgorithmConfig or not hasattr(part, "model_fields"):
        return [c for arg in get_args(part) for c in (_classes(arg) or [])]
    return [part]


def with_path(values: dict[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    """A copy of nested `values` with the field at `keys` set; `model: xs` and its like are opened where needed."""
    key, *rest = keys
    if not rest:
        below = values.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            value = merge(below, value)
        return {**values, key: value}
    below = values.get(key, {})
    opened: Any = {SHORTHANDS[key]: below} if isinstance(below, str) and key in SHORTHANDS else below
    return {**values, key: with_path(opened, rest, value)}


def flatten(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested dictionaries as one of dotted keys; keys that are dotted already stay so."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        dotted = f"{before}{key}"
        flat |= flatten(value, f"{dotted}.") if isinstance(value, dict) and value else {dotted: value}
    return flat


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries from dotted keys."""
    result: dict[str, Any] = {}
    for dotted, value in flatten(values).items():
        result = with_path(result, dotted.split("."), value)
    return result


def _dictionary(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} wants keys and values, not {value!r}.")
    return value


def _check_keys(values: dict[str, Any], legal: list[str], where: str, what: str) -> None:
    for key in values:
        if key not in legal:
            raise InputError(
                f"{where}: {key!r} is not a key of {what}; it has {', '.join(legal)}.{did_you_mean(str(key), legal)}"
            )


# ---------------------------------------------------------------- where

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip


def parse_where(text: str, where: str, fields: list[str]) -> Callable[[dict[str, Any]], bool]:
    """`field op value` joined by `and` / `or` (and binds stronger). Fields are those that the block sets."""
    alternatives = []
    for alternative in re.split(r"\bor\b", text):
        clauses = []
        for clause in re.split(r"\band\b", alternative):
            match = re.fullmatch(r"\s*([\w.]+)\s*(==|!=|<=|>=|<|>)\s*(\S+)\s*", clause)
            if not match:
                raise InputError(f"{where}: {clause.strip()!r} is not of the form `field == value` (or != < <= > >=).")
            name, sign, given = match.groups()
            if name not in fields:
                raise InputError(
                    f"{where}: {name} is not set in this block; it sets {', '.join(fields)}."
                    f"{did_you_mean(name, fields)}"
                )
            clauses.append((name, OPERATORS[sign], _value(given)))
        alternatives.append(clauses)

    def keep(values: dict[str, Any]) -> bool:
        try:
            return any(all(test(values[name], value) for name, test, value in clauses) for clauses in alternatives)
        except TypeError:
            raise InputError(f"{where}: {text!r} compares a word with a number.") from None

    return keep


def _value(text: str) -> Any:
    text = text.strip("'\"")
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False, "null": None}.get(text, text)
