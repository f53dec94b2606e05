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
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args, get_origin

from scaling import schema
from scaling.config.checks import resolve_at
from scaling.config.reading import merge, parse_config, read_yaml, with_recipe
from scaling.config.run import RunConfig, default
from scaling.fields import brief
from scaling.schema import InputError, clip, did_you_mean
from scaling.settings import dotted_pairs, flatten
from scaling.where import ORDERS, Condition, Setting, Value, Word, parse, value_of

STUDIES = Path(__file__).parent / "studies"
KEYS = ["study", "recipe", "base", "blocks", "analysis"]
BLOCK_KEYS = ["name", "set", "axes", "zip", "where"]
ANALYSIS_KEYS = ["where", "steps", "points", "x", "law", "objective", "size_column", "by", "split", "fix", "bound"]
SHORTHANDS = {"model": "size", "algorithm": "type", "task": "name"}
TAGGED = [part for part, field in RunConfig.model_fields.items() if field.discriminator]  # a class by its tag
Named = Mapping[str, set[str]]  # the tags that are named for such parts


@dataclass(frozen=True)
class Cell:
    """One point of the grid, before planning: the values that its block sets and the run that they make."""

    block: str
    axes: dict[str, Any]  # dotted field -> value, as the axes and `zip` set it
    config: RunConfig  # tau resolved
    reuse_factor: float | None = None  # tau as it was asked for


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
        return [self._cell(block, axes) for block in self.blocks for axes in self._kept(block)]

    def dropped(self) -> list[str]:
        """The combinations that a block's `where` leaves out, in words."""
        return [
            f"{block.name}: {', '.join(f'{key}={value}' for key, value in axes.items())}"
            for block in self.blocks
            if block.where is not None
            for axes in itertools.filterfalse(self._test(block), block.combinations())
        ]

    def _kept(self, block: Block) -> list[dict[str, Any]]:
        if block.where is None:
            return list(block.combinations())
        kept = list(filter(self._test(block), block.combinations()))
        if not kept:
            raise InputError(
                f"{self.where}: {block.name}.where: no combination is left after {block.where!r}; the block is empty."
            )
        return kept

    def _test(self, block: Block) -> Callable[[dict[str, Any]], bool]:
        """Whether the block's `where` keeps a combination."""
        choices = {**{field: [value] for field, value in block.fixed.items()}, **block.axes, **block.zipped}
        condition = read_where(block.where or "", f"{self.where}: {block.name}.where", choices)
        return lambda axes: condition.holds({**block.fixed, **axes})

    def _cell(self, block: Block, axes: dict[str, Any]) -> Cell:
        values = self.base
        for dotted, value in {**block.fixed, **axes}.items():
            values = with_path(values, dotted.split("."), value)
        what = ", ".join(f"{key}={value}" for key, value in axes.items())
        where = f"{self.where}: {block.name}{f' ({what})' if what else ''}"
        data = values.get("data")
        if "stop" not in values and isinstance(data, dict) and {"prompts_unique", "reuse_factor"} <= data.keys():
            config = parse_config({**values, "stop": {"wall_seconds": 1}}, where)  # are U and tau legal as such?
            unique, tau = config.data.prompts_unique, config.data.reuse_factor
            if unique is not None and tau is not None:  # they say how far the run goes: D = U tau
                if unique * tau % 1:
                    raise InputError(
                        f"{where}: data: prompts_unique {unique} times reuse_factor {tau:g} = {unique * tau:g} is not "
                        "a whole number of prompts; change one of them."
                    )
                values = {**values, "stop": {"prompts": round(unique * tau)}}
        config = parse_config(values, where)
        return Cell(block.name, axes, resolve_at(config, where), config.data.reuse_factor)


def load_study(source: str | Path) -> Study:
    """A study from a file, the name of a shipped study, or a study folder. Raises InputError, one line."""
    path = Path(source)
    if os.path.isdir(path):
        folder, path = path, path / schema.STUDY
        if not path.exists():
            raise InputError(
                f"{folder}: the folder holds no {schema.STUDY}; give a study file, folder or shipped name."
            )
    elif not os.path.exists(path) and path.suffix not in (".yaml", ".yml"):
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
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name):
        raise InputError(f"{where}: study wants a name of at most 100 letters, digits, - _ ., not {brief(name)}.")
    base = _dictionary(values.get("base", {}), f"{where}: base")
    recipe = {} if values.get("recipe") is None else {"recipe": values["recipe"]}
    of_base = _named(with_recipe(recipe, where), base)
    usual = {**of_base, "task": of_base["task"] or {default("task").name}}
    given = values.get("blocks", [{}])
    if not isinstance(given, list) or not given:
        raise InputError(f"{where}: blocks wants a list of grids, each with axes, not {brief(given)}.")
    of_blocks = [_named_in_block(block, usual) for block in given if isinstance(block, dict)]
    anywhere = {part: of_base[part].union(*(one[part] for one in of_blocks)) for part in TAGGED}
    _check_once(fields_of(base, f"{where}: base", anywhere), f"{where}: base", "the base")
    analysis = _dictionary(values.get("analysis", {}), f"{where}: analysis")
    _check_keys(analysis, ANALYSIS_KEYS, f"{where}: analysis", "the analysis section")
    base = with_recipe({**recipe, **nested(base)}, where)
    blocks = [_block(block, index, where, usual) for index, block in enumerate(given)]
    names = [block.name for block in blocks]
    for name_again in {n for n in names if names.count(n) > 1}:
        raise InputError(f"{where}: two blocks are called {name_again!r}; give each a name of its own.")
    return Study(name, where, base, blocks, analysis)


def _block(values: Any, index: int, where: str, usual: Named) -> Block:
    place = f"{where}: blocks[{index}]"
    values = _dictionary(values, place)
    _check_keys(values, BLOCK_KEYS, place, "a block")
    fixed = _dictionary(values.get("set", {}), f"{place}.set")
    named = _named_in_block(values, usual)
    fields = fields_of(fixed, f"{place}.set", named)
    lists = {}
    for key in ("axes", "zip"):
        lists[key] = _dictionary(values.get(key, {}), f"{place}.{key}")
        for dotted, choices in lists[key].items():
            check_path(dotted, f"{place}.{key}", named)
            if not isinstance(choices, list) or not choices:
                raise InputError(f"{place}.{key}.{dotted} wants a list of at least one value, not {brief(choices)}.")
            if key == "axes" and any(choices.count(value) > 1 for value in choices):
                raise InputError(f"{place}.{key}.{dotted} names a value twice: {brief(choices)}.")
            each = [fields_of({dotted: value}, f"{place}.{key}", named) for value in choices]
            fields += dict.fromkeys(field for one in each for field in one)
    lengths = {dotted: len(choices) for dotted, choices in lists["zip"].items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{dotted} has {count}" for dotted, count in lengths.items())
        raise InputError(f"{place}.zip moves its fields in step, so they want as many values each; {shown}.")
    _check_once(fields, place, "one block")
    where_text = values.get("where")
    if where_text is not None and not isinstance(where_text, str):
        raise InputError(f"{place}.where wants an expression such as 'seed == 0', not {brief(where_text)}.")
    name = values.get("name", "main" if index == 0 else f"block{index + 1}")
    if not isinstance(name, str | int) or not str(name):
        raise InputError(f"{place}.name wants a word, not {brief(name)}.")
    return Block(str(name), flatten(fixed, keep_empty=True), lists["axes"], lists["zip"], where_text)


# ---------------------------------------------------------------- dotted fields


def _named(*several: Mapping[str, Any]) -> dict[str, set[str]]:
    """The tags that `values` name for each part whose class they choose: task, algorithm."""
    named: dict[str, set[str]] = {part: set() for part in TAGGED}
    for dotted, value in (pair for values in several for pair in dotted_pairs(values)):
        part, _, key = str(dotted).partition(".")
        if part in named and key in ("", SHORTHANDS[part]) and isinstance(value, str):
            named[part].add(value)
    return named


def _named_in_block(block: Mapping[str, Any], usual: Named) -> dict[str, set[str]]:
    """As `_named`, of all combinations of a block, which may be no legal one yet; of a part it leaves out the usual."""
    parts = [block.get(key) for key in ("set", "axes", "zip")]
    fixed, *lists = [part if isinstance(part, dict) else {} for part in parts]
    choices = [{dotted: value} for one in lists for dotted, values in one.items() if isinstance(values, list)
               for value in values]  # fmt: skip
    return {part: own or set(usual[part]) for part, own in _named(fixed, *choices).items()}


def _of_tags(part: str, annotation: Any, tags: set[str]) -> list[Any]:
    """The classes of a part that carry one of the tags; all of them where none does: that is told later."""
    classes = _classes(annotation)
    return [one for one in classes if one.model_fields[SHORTHANDS[part]].default in tags] or classes


def check_path(dotted: str, where: str, named: Named | None = None) -> list[str]:
    """Raise InputError unless the dotted path names a field of RunConfig, or one of its parts.

    Of a part of several classes the field must be in one of those that are `named` for it. Returns the fields of the
    part that the path names; a value has none.
    """
    part: Any = RunConfig
    keys = str(dotted).split(".")
    for depth, key in enumerate(keys):
        if get_origin(part) is dict:  # free keys: flags of sbatch
            return []
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
        if depth == 0 and named is not None and key in named:
            part = _of_tags(key, part, named[key])
    return list(dict.fromkeys(name for c in _classes(part) for name in c.model_fields))


def fields_of(values: dict[str, Any], where: str, named: Named) -> list[str]:
    """Dotted names of the fields that `values` set, one that is set twice also twice; `model: xs` sets model.size.

    Raises InputError for what is no field, and for a part of RunConfig that is no keys and values.
    """
    names: list[str] = []
    for dotted, value in dotted_pairs(values, keep_empty=True):
        fields = check_path(dotted, where, named)
        if fields and isinstance(value, str) and dotted in SHORTHANDS:
            names.append(f"{dotted}.{SHORTHANDS[dotted]}")
        elif not fields:
            names.append(dotted)
        elif not isinstance(value, dict):
            raise InputError(f"{where}.{dotted} wants keys and values ({', '.join(fields)}), not {brief(value)}.")
    return names


def _check_once(fields: list[str], where: str, what: str) -> None:
    for dotted in fields:
        if fields.count(dotted) > 1:
            raise InputError(f"{where}: {dotted} is set twice in {what}; keep one.")


def _classes(part: Any) -> list[Any]:
    """The config classes behind an annotation: itself, or the members of a union; a list of classes is just that."""
    if isinstance(part, list):
        return part
    if get_origin(part) is tuple:  # a list of parts is a value
        return []
    if not hasattr(part, "model_fields"):
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


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries from dotted keys."""
    result: dict[str, Any] = {}
    for dotted, value in flatten(values, keep_empty=True).items():
        result = with_path(result, dotted.split("."), value)
    return result


def _dictionary(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} wants keys and values, not {brief(value)}.")
    return value


def _check_keys(values: dict[str, Any], legal: list[str], where: str, what: str) -> None:
    for key in values:
        if key not in legal:
            hint = did_you_mean(str(key), legal)
            raise InputError(f"{where}: {brief(key)} is not a key of {what}; it has {', '.join(legal)}.{hint}")


# ---------------------------------------------------------------- where

WHERE_EXAMPLE = "model != us or seed == 0"
KINDS = {"a word": str, "true or false": bool, "a number": (int, float)}  # the first that fits: True is an int, too


def read_where(text: str, where: str, choices: dict[str, list[Any]]) -> Condition:
    """The condition of a block, checked on the values that the block gives its fields. Raises InputError."""
    condition = parse(text, Setting(where, "field", WHERE_EXAMPLE))
    for comparison in condition.comparisons():
        names = [s.text for s in (comparison.left, comparison.right) if isinstance(s, Word) and s.text in choices]
        if not names:
            word = next(s.text for s in (comparison.left, comparison.right) if isinstance(s, Word))
            raise InputError(
                f"{where}: {word} is not set in this block; it sets {', '.join(choices)}.{did_you_mean(word, choices)}"
            )
        if comparison.sign in ("in", "not in") and comparison.left != Word(names[0]):
            raise condition.refusal("`in` wants a field on its left")
        if len(names) == 1 or comparison.sign in ("in", "not in"):
            given = value_of(comparison.right if comparison.left == Word(names[0]) else comparison.left)
            for value in given if isinstance(given, tuple) else (given,):
                _check_value(condition, names[0], comparison.sign, value, choices[names[0]])
    return condition


def _check_value(condition: Condition, name: str, sign: str, value: Value, choices: list[Any]) -> None:
    """Raise InputError where a field is compared with what it can never be, or with what has no order."""
    where = condition.setting.place
    known = [choice for choice in choices if choice is not None]
    kinds = {_kind(choice) for choice in known}
    if known and value is not None and kinds.isdisjoint({_kind(value), None}):
        first, second = (kind for kind in KINDS if kind in (_kind(value), min(kinds, key=str)))
        raise InputError(
            f"{where}: {clip(condition.text)!r} compares {first} with {second}; {name} is "
            f"{brief(', '.join(map(str, known)))}."
        )
    if isinstance(value, str):
        if sign in ORDERS:
            raise condition.refusal("text has no order: use == or != or `in`,")
        words = [choice for choice in known if isinstance(choice, str)]
        if value not in words:
            raise InputError(
                f"{where}: {name} is never {clip(value)!r} in this block; it is {', '.join(words)}."
                f"{did_you_mean(value, words)}"
            )
    if value is None and sign in ORDERS:
        raise condition.refusal("null has no order: use == or !=,")


def _kind(value: Any) -> str | None:
    """A key of KINDS; None for a list, and for keys and values."""
    return next((name for name, kind in KINDS.items() if isinstance(value, kind)), None)
