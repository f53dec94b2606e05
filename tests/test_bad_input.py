"""Bad input through the real command line: one line that says what is wrong, exit status 2, and nothing written.

Each case is a mistake that a tired researcher makes or an attacker tries. Its `words` must all be in the one line: the
file, the key, what is legal and, for a misspelling, the nearest match.
"""

import json
import subprocess
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from synthetic_curves import write_cells, write_run

from scaling import cli
from scaling.config import HexChainConfig
from scaling.config.identity import run_id
from scaling.config.reading import load_config
from scaling.tasks import load_task


@dataclass
class Case:
    """A command line, the files that it finds, and words of the one line that it must say."""

    name: str
    arguments: list[str]
    words: list[str]
    files: dict[str, str | bytes] = field(default_factory=dict)


def command_line(capsys, monkeypatch, *arguments):
    """(exit status, stdout, stderr) of the command line, in this process."""
    monkeypatch.setattr(sys, "argv", ["scaling", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main()
    output = capsys.readouterr()
    return end.value.code or 0, output.out, output.err


def everything(folder: Path) -> dict[str, bytes | None]:
    """Each path below a folder with its content."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() and not p.is_symlink() else None
        for p in sorted(folder.rglob("*"))
    }


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory, and a trainer that must not be reached."""

    def train_run(*_):
        raise AssertionError("a run was trained")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setitem(sys.modules, "scaling.trainer", types.SimpleNamespace(train_run=train_run))
    monkeypatch.setattr("sweeps.launch.PoolLaunch", train_run)
    return tmp_path


def write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def check_refused(here, capsys, monkeypatch, recwarn, arguments, words):
    before = everything(here)
    status, out, err = command_line(capsys, monkeypatch, *arguments)
    assert status == 2, err
    assert out == ""
    assert err.startswith("scaling: error: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert "Traceback" not in err and len(err) < 1200, err
    for word in words:
        assert word in err, f"{word!r} is not in: {err}"
    assert everything(here) == before, "something was written"
    assert [str(w.message) for w in recwarn.list] == []  # a warning is a second line


# ---------------------------------------------------------------- study files


def study(base="model: us, stop: {steps: 40}", block="axes: {seed: [0, 1]}", rest=""):
    return f"study: mini\nbase: {{{base}}}\nblocks:\n  - {{{block}}}\n{rest}"


BROKEN_FILES = {
    "empty": ("", ["mini.yaml", "the file is empty"]),
    "comments only": ("# study: mini\n", ["the file is empty"]),
    "list": ("- study: mini\n", ["keys and values at the top", "list"]),
    "scalar": ("quickstart\n", ["keys and values at the top", "str"]),
    "tabs": ("study: mini\nbase:\n\tmodel: us\n", ["mini.yaml: line 3", "not valid YAML"]),
    "open bracket": ("study: mini\nbase: {model: [us\n", ["not valid YAML"]),
    "not utf-8": (b"study: mini\nbase: {name: \xff\xfe}\n", ["cannot be read", "utf-8"]),
    "utf-16": ("study: mini\n".encode("utf-16"), ["cannot be read", "save it as UTF-8"]),
    "binary": (bytes(range(256)), ["mini.yaml"]),
    "control character": ("study: mini\x07\n", ["not valid YAML"]),
    "two documents": ("study: mini\n---\nstudy: other\n", ["not valid YAML"]),
    "key twice": ("study: mini\nbase: {model: us}\nbase: {model: xs}\n", ["line 3", "base"]),
    "inner key twice": (study("model: us, seed: 1, seed: 2"), ["not valid YAML", "key seed stands twice; keep one"]),
    "axis twice": (study(block="axes: {seed: [0], seed: [1]}"), ["key seed stands twice; keep one"]),
    "python tag": ("study: !!python/object/apply:os.system ['touch owned']\n", ["not valid YAML"]),
    "unknown anchor": ("study: mini\nbase: *nothing\n", ["not valid YAML", "nothing"]),
    "contains itself": ("study: mini\nbase: &a {model: us, data: *a}\n", ["mini.yaml", "contains itself"]),
    "deep": ("study: " + "[" * 1000, ["mini.yaml", "nested"]),
    "deep and closed": ("study: " + "[" * 200 + "]" * 200, ["mini.yaml", "nested"]),
    "many aliases": (
        "study: mini\nbase:\n  data: &a0 [1, 2, 3, 4, 5, 6, 7, 8]\n"
        + "".join(f"  x{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 9)),
        ["mini.yaml", "aliases"],
    ),
    "number as key": ("study: mini\n1: 2\n", ["1 is not a key of a study file", "study, recipe, base"]),
    "list as key": ("study: mini\n? [a, b]\n: c\n", ["is not a key of a study file"]),
    "no study name": ("base: {model: us}\n", ["study wants a name", "None"]),
    "path as study name": ("study: ../../elsewhere\nbase: {model: us}\n", ["study wants a name", "'../../elsewhere'"]),
    "date as study name": ("study: 2026-01-01\nbase: {model: us}\n", ["study wants a name"]),
    "long study name": (f"study: {'x' * 300}\nbase: {{model: us}}\n", ["study wants a name", "100"]),
    "misspelt section": (study(rest="analysys: {}"), ["'analysys' is not a key", "Did you mean analysis?"]),
    "base is a list": ("study: mini\nbase: [model]\n", ["base wants keys and values", "['model']"]),
    "base is blank": ("study: mini\nbase:\n", ["base wants keys and values"]),
    "blocks is blank": ("study: mini\nbase: {model: us}\nblocks:\n", ["blocks wants a list of grids"]),
    "blocks is no list": ("study: mini\nbase: {model: us}\nblocks: {axes: {seed: [0]}}\n", ["blocks wants a list"]),
    "blocks is a number": ("study: mini\nbase: {model: us}\nblocks: 5\n", ["blocks wants a list"]),
    "blocks is empty": ("study: mini\nbase: {model: us}\nblocks: []\n", ["blocks wants a list"]),
    "block is a scalar": ("study: mini\nbase: {model: us}\nblocks: [seed]\n", ["blocks[0] wants keys and values"]),
}

# ruff: noqa: E501 -- a case is a line
BASES = {
    "misspelt part": ("model: us, algoritm: {type: papo}", ["base.algoritm", "Did you mean algorithm?"]),
    "misspelt field": ("model: us, data: {reuse_facter: 2}", ["base.data.reuse_facter", "Did you mean data.reuse_factor?"]),
    "misspelt model key": ("model: {sise: us}", ["base.model.sise", "size, path", "Did you mean model.size?"]),
    "misspelt dotted field": ("model: us, optimizer.learning_rte: 1e-3", ["Did you mean optimizer.learning_rate?"]),
    "too deep": ("model: us, seed: {x: 1}", ["seed is a value and has no fields"]),
    "number as field": ("model: us, 7: 1", ["base.7 is not a field of RunConfig"]),
    "not on the ladder": ("model: xxl", ["'xxl' is not a size of the ladder", "us, xs, s, m, l, xl", "Did you mean xl?"]),
    "model is missing": ("seed: 1", ["model is missing"]),
    "model is null": ("model: null", ["base.model wants keys and values", "None"]),
    "model is a number": ("model: 7", ["model", "size, path", "7"]),
    "model is a list": ("model: [us, xs]", ["model", "['us', 'xs']"]),
    "model is empty": ("model: {}", ["exactly one of size", "path"]),
    "two models": ("model: {size: us, path: x}", ["exactly one of size", "path"]),
    "no model folder": ("model: {path: nowhere}", ["mini.yaml: main", "model.path", "not a transformers folder"]),
    "model folder of another kind": ("model: {path: other}", ["mini.yaml: main", "model.path", "model_type"]),
    "model folder that is broken": ("model: {path: broken}", ["mini.yaml: main", "broken/config.json", "not valid JSON"]),
    "unknown task": ("model: us, task: hexchain", ["there are hex_chain, math, reasoning_gym", "Did you mean hex_chain?"]),
    "field of no task of the study": (
        "model: us, task: {name: hex_chain, modulos: 10}",
        ["base.task.modulos is not a field of HexChainConfig; it has name, modulus, noise. Did you mean task.modulus?"],
    ),
    "field of another task": ("model: us, task: {test: 3}", ["base.task.test is not a field of HexChainConfig; it has name"]),
    "field of no algorithm of the study": (
        "model: us, algorithm: {type: papo, proces_weight: 1}",
        ["is not a field of PapoConfig; it has type, process_weight", "Did you mean algorithm.process_weight?"],
    ),
    "modulus 12": ("model: us, task: {modulus: 12}", ["task.modulus", "16 or 10", "12"]),
    "noise above 1": ("model: us, task: {noise: 1.5}", ["task.noise", "less than or equal to 1", "1.5"]),
    "unknown algorithm": ("model: us, algorithm: gpro", ["'gpro'", "grpo, papo, fullnorm", "Did you mean grpo?"]),
    "algorithm is a number": ("model: us, algorithm: {type: 5}", ["algorithm.type", "grpo, papo, fullnorm", "5"]),
    "algorithm is a list": ("model: us, algorithm: [grpo]", ["algorithm", "['grpo']"]),
    "algorithm is null": ("model: us, algorithm: null", ["algorithm", "None"]),
    "algorithm has no type": ("model: us, algorithm: {process_weight: 1}", ["algorithm.type", "grpo, papo, fullnorm"]),
    "field of another algorithm": (
        "model: us, algorithm: {type: grpo, process_weight: 1}",
        ["process_weight is not a field of GrpoConfig"],
    ),
    "papo without a group": ("model: us, algorithm: papo, rollout: {group_size: 1}", ["rollout.group_size 1", "papo", "2"]),
    "group of nobody": ("model: us, rollout: {group_size: 0}", ["rollout.group_size", "1", "0"]),
    "temperature 0": ("model: us, rollout: {temperature: 0}", ["rollout.temperature", "greater than 0"]),
    "negative seed": ("model: us, seed: -1", ["seed", "greater than or equal to 0", "-1"]),
    "seed with a fraction": ("model: us, seed: 1.5", ["seed", "1.5"]),
    "huge seed": ("model: us, seed: 123456789012345678901234567890", ["seed", "less than or equal to"]),
    "huge float seed": ("model: us, seed: 1e300", ["seed"]),
    "seed is a bool": ("model: us, seed: true", ["seed", "wants a number, not True"]),
    "seed is a word": ("model: us, seed: no", ["seed", "wants a number, not 'no'"]),
    "seed is nan": ("model: us, seed: .nan", ["seed", "nan"]),
    "seed is null": ("model: us, seed: null", ["seed", "None"]),
    "number in quotes": ("model: us, data: {prompts_per_step: '16'}", ["data.prompts_per_step", "not '16'"]),
    "number with a comma": ("model: us, optimizer: {learning_rate: '5,0e-4'}", ["learning_rate", "not '5,0e-4'"]),
    "learning rate is inf": ("model: us, optimizer: {learning_rate: .inf}", ["optimizer.learning_rate", "finite"]),
    "learning rate is nan": ("model: us, optimizer: {learning_rate: .nan}", ["optimizer.learning_rate"]),
    "learning rate overflows": ("model: us, optimizer: {learning_rate: 1e999}", ["optimizer.learning_rate", "finite"]),
    "learning rate is negative": ("model: us, optimizer: {learning_rate: -1e-3}", ["greater than 0", "-0.001"]),
    "learning rate is a list": ("model: us, optimizer: {learning_rate: [1e-3]}", ["optimizer.learning_rate", "[0.001]"]),
    "part is a number": ("model: us, data: 16", ["data", "wants keys and values", "prompts_per_step", "16"]),
    "part is null": ("model: us, data: null", ["data", "wants keys and values"]),
    "bool is a number": ("model: us, tracking: {mlflow: 3}", ["tracking.mlflow", "3"]),
    "negative steps": ("model: us, stop: {steps: -5}", ["stop.steps", "greater than or equal to 1", "-5"]),
    "no steps": ("model: us, stop: {steps: 0}", ["stop.steps", "greater than or equal to 1", "0"]),
    "half a step": ("model: us, stop: {steps: 0.5}", ["stop.steps", "0.5"]),
    "no stop": ("model: us, stop: {}", ["stop", "steps, prompts, train_flops, wall_seconds"]),
    "stop is null": ("model: us, stop: {steps: null}", ["stop", "steps, prompts, train_flops, wall_seconds"]),
    "stop is a number": ("model: us, stop: 60", ["stop wants keys and values", "steps, prompts", "60"]),
    "misspelt stop": ("model: us, stop: {stpes: 60}", ["stop.stpes", "Did you mean stop.steps?"]),
    "tau does not divide": ("model: us, stop: {steps: 60}, data: {reuse_factor: 7}", ["mini.yaml", "960 prompts / 7 = 137.143"]),
    "tau below 1": ("model: us, data: {reuse_factor: 0.5}", ["data.reuse_factor", "greater than or equal to 1", "0.5"]),
    "tau above D": ("model: us, stop: {steps: 1}, data: {reuse_factor: 32}", ["16 prompts / 32 = 0.5"]),
    "tau huge": ("model: us, data: {reuse_factor: 1e300}", ["data.reuse_factor", "not a whole number"]),
    "D, U and tau": (
        "model: us, stop: {steps: 60}, data: {prompts_unique: 31, reuse_factor: 32}",
        ["prompts_unique 31 contradicts D = 960", "960 / 32 = 30", "two of the three"],
    ),
    "U times tau is no D": ("model: us, data: {prompts_unique: 3, reuse_factor: 1.5}", ["3", "1.5", "4.5"]),
    "U in quotes": ("model: us, data: {prompts_unique: '32', reuse_factor: 10}", ["data.prompts_unique", "not '32'"]),
    "U is a list": ("model: us, data: {prompts_unique: [1], reuse_factor: 10}", ["data.prompts_unique", "[1]"]),
    "U is null": ("model: us, data: {prompts_unique: 32, reuse_factor: [3]}", ["data.reuse_factor", "[3]"]),
    "tau is inf": ("model: us, data: {prompts_unique: 32, reuse_factor: .inf}", ["data.reuse_factor", "finite"]),
    "tau without D": ("model: us, stop: {wall_seconds: 9}, data: {reuse_factor: 2}", ["data.reuse_factor", "stop.steps"]),
    "tau above the budget": (
        "model: us, stop: {steps: 60, train_flops: 1e9}, data: {reuse_factor: 32}",
        ["1e+09 / (6 x 5,296 parameters x 16 rollouts x 30 tokens) = 65.56 prompts, 80 in whole", "80 / 2", "= 40", "larger"],
    ),
    "U and tau against the budget": (
        "model: us, stop: {train_flops: 1e9}, data: {prompts_unique: 32, reuse_factor: 10}",
        ["data.reuse_factor 10 is not reached", "80 / 32 distinct prompts = 2.5", "change one"],
    ),
    "schedule without steps": (
        "model: us, stop: {prompts: 64}, optimizer: {schedule: linear}",
        ["optimizer.schedule 'linear' needs stop.steps"],
    ),
    "misspelt schedule": ("model: us, optimizer: {schedule: cosin}", ["optimizer.schedule", "Did you mean cosine?"]),
    "uneven mini-batches": ("model: us, loss: {updates_per_batch: 3}", ["loss.updates_per_batch 3", "prompts_per_step 16"]),
    "too many problems": ("model: us, evaluation: {problems: 4096}", ["evaluation.problems", "4096", "2048"]),
    "too many prompts": ("model: us, stop: {steps: 9000}", ["144000 distinct prompts", "hex_chain has 127552", "mini.yaml"]),
    "too many unique prompts": (
        "model: us, task: {modulus: 10}, stop: {steps: 9000}, data: {prompts_unique: 30000}",
        ["30000 distinct prompts", "27112", "data.prompts_unique"],
    ),
    "two rules": ("model: us, evaluation: {every: 5, ratio: 1.5}", ["evaluation", "one of every and ratio"]),
    "ratio 1": ("model: us, evaluation: {ratio: 1}", ["evaluation.ratio", "greater than 1"]),
    "unknown engine": ("model: us, resources: {engine: nativ}", ["resources.engine", "Did you mean native?"]),
    "no threads": ("model: us, resources: {threads: 0}", ["resources.threads", "1"]),
    "name is a number": ("model: us, name: 7", ["name", "7"]),
    "same field twice": ("model: us, data.reuse_factor: 2, data: {reuse_factor: 4}", ["base", "data.reuse_factor", "twice"]),
    "model twice": ("model: us, model.size: xs", ["base", "model.size", "twice"]),
    "unknown recipe": ("recipe: tan2025", ["base.recipe is not a field"]),
}  # fmt: skip

BLOCKS = {
    "axes is a scalar": ("axes: 3", ["blocks[0].axes wants keys and values", "3"]),
    "axes is a list": ("axes: [seed]", ["blocks[0].axes wants keys and values"]),
    "field of no task of the block": (
        "set: {task: math}, axes: {task.modulus: [10, 16]}",
        ["blocks[0].axes.task.modulus is not a field of MathConfig; it has name, "],
    ),
    "field of two algorithms of the block": (
        "axes: {algorithm.type: [grpo, papo], algorithm.proces_weight: [1]}",
        ["is not a field of GrpoConfig or PapoConfig; it has type, "],
    ),
    "axis is a scalar": ("axes: {seed: 0}", ["blocks[0].axes.seed", "list of at least one value", "0"]),
    "axis is empty": ("axes: {seed: []}", ["blocks[0].axes.seed", "list of at least one value"]),
    "axis is a mapping": ("axes: {seed: {from: 0, to: 5}}", ["blocks[0].axes.seed", "list of at least one value"]),
    "misspelt axis": (
        "axes: {data.reuse_facter: [1]}",
        ["mini.yaml: blocks[0].axes.data.reuse_facter", "DataConfig", "pass_order", "Did you mean data.reuse_factor?"],
    ),
    "misspelt part of an axis": ("axes: {algoritm.type: [grpo]}", ["axes.algoritm.type", "Did you mean algorithm?"]),
    "misspelt size": ("axes: {model.sise: [us]}", ["blocks[0].axes.model.sise", "Did you mean model.size?"]),
    "axis below a value": ("axes: {seed.x: [0]}", ["seed is a value and has no fields"]),
    "number as axis": ("axes: {3: [0]}", ["blocks[0].axes.3 is not a field"]),
    "quoted number": ("axes: {seed: ['0']}", ["main (seed=0)", "seed", "wants a number, not '0'"]),
    "bool": ("axes: {seed: [true]}", ["seed", "wants a number, not True"]),
    "null": ("axes: {seed: [null]}", ["seed", "None"]),
    "nested list": ("axes: {seed: [[0, 1]]}", ["seed", "[0, 1]"]),
    "nan": ("axes: {optimizer.learning_rate: [.nan]}", ["optimizer.learning_rate"]),
    "text among numbers": ("axes: {rollout.group_size: [8, sixteen]}", ["rollout.group_size", "not 'sixteen'"]),
    "value twice": ("axes: {seed: [0, 0]}", ["blocks[0].axes.seed", "twice"]),
    "not on the ladder": ("axes: {model: [us, xz]}", ["'xz' is not a size", "us, xs, s, m, l, xl"]),
    "zip of unequal lengths": (
        "zip: {model: [us, xs], stop.steps: [5, 6, 7]}",
        ["blocks[0].zip", "model has 2, stop.steps has 3"],
    ),
    "zip is a scalar": ("zip: x", ["blocks[0].zip wants keys and values"]),
    "set and axis": ("set: {seed: 1}, axes: {seed: [0]}", ["blocks[0]", "seed", "twice"]),
    "set part and axis": ("set: {data: {reuse_factor: 1}}, axes: {data.reuse_factor: [2]}", ["data.reuse_factor", "twice"]),
    "axis and zip": ("axes: {seed: [0]}, zip: {seed: [1]}", ["seed", "twice"]),
    "two names of one axis": ("axes: {model: [us], model.size: [xs]}", ["model.size", "twice"]),
    "stop and its field": ("axes: {stop: [{steps: 5}], stop.steps: [6]}", ["stop.steps", "twice"]),
    "set names a field twice": ("set: {seed: 1, data: {reuse_factor: 2}, data.reuse_factor: 4}", ["data.reuse_factor", "twice"]),
    "set is a list": ("set: [seed]", ["blocks[0].set wants keys and values"]),
    "misspelt set": ("set: {sede: 1}", ["blocks[0].set.sede", "Did you mean seed?"]),
    "unknown block key": ("axs: {seed: [0]}", ["blocks[0]: 'axs' is not a key of a block", "Did you mean axes?"]),
    "name is a list": ("name: [a]", ["blocks[0].name", "['a']"]),
    "where: unknown field": ("axes: {seed: [0]}, where: sede == 0", ["main.where: sede", "it sets seed", "Did you mean seed?"]),
    "where: one =": ("axes: {seed: [0]}, where: seed = 0", ["main.where", "'seed = 0'", "field == value"]),
    "where: text against number": ("axes: {seed: [0]}, where: seed < zero", ["main.where", "word with a number"]),
    "where: word equals number": ("axes: {seed: [0]}, where: seed != zero", ["main.where", "word with a number"]),
    "where: number equals word": ("axes: {model: [us]}, where: model == 3", ["main.where", "word with a number"]),
    "where: misspelt value": ("axes: {model: [us, xs]}, where: model != xz", ["main.where", "'xz'", "us, xs", "Did you mean xs?"]),
    "where: code": ("axes: {seed: [0]}, where: \"__import__('os').system('touch owned') == 0\"", ["main.where"]),
    "where: blank": ("axes: {seed: [0]}, where: ''", ["main.where", "field == value"]),
    "where: unfinished": ("axes: {seed: [0]}, where: seed == 0 and", ["main.where", "field == value"]),
    "where: not text": ("axes: {seed: [0]}, where: [seed]", ["blocks[0].where wants an expression"]),
    "where: nothing left": ("axes: {seed: [0]}, where: seed == 5", ["main.where", "no combination is left"]),
    "stops in two units": ("axes: {stop: [{steps: 5}, {train_flops: 1e9}]}", ["mini.yaml", "stops in two units"]),
    "part is a number": ("set: {data: 5}, axes: {seed: [0]}", ["data", "wants keys and values", "5"]),
    "tau against steps": ("axes: {data.reuse_factor: [1, 7]}", ["mini.yaml: main (data.reuse_factor=7)", "640 prompts / 7"]),
    "papo without a group": ("axes: {algorithm.type: [grpo, papo], rollout.group_size: [1, 8]}", ["algorithm.type=papo", "group_size 1"]),
}  # fmt: skip

ANALYSES = {
    "is a list": ("[law]", ["analysis wants keys and values"]),
    "is a word": ("efficiency", ["analysis wants keys and values"]),
    "misspelt key": ("{objectve: log}", ["analysis", "'objectve'", "Did you mean objective?"]),
    "unknown law": ("{law: eficiency}", ["analysis", "'eficiency'", "Did you mean efficiency?"]),
    "law is a number": ("{law: 3}", ["analysis: law", "3"]),
    "unknown objective": ("{objective: linaer}", ["analysis", "log, binomial, linear", "Did you mean linear?"]),
    "malformed steps": ("{steps: 3-60}", ["analysis", "steps", "'3-60'", "3:60"]),
    "steps is a number": ("{steps: 3}", ["analysis", "steps", "3:60"]),
    "steps without quotes": ("{steps: {3: null}}", ["analysis", "steps", "3:60"]),
    "negative steps": ("{steps: '-3:'}", ["analysis", "steps", "negative"]),
    "steps backwards": ("{steps: '30:3'}", ["analysis", "steps", "'30:3'"]),
    "malformed points": ("{points: last}", ["analysis", "points", "'last'"]),
    "unknown x": ("{x: train_flop}", ["analysis", "'train_flop'", "prompts_seen", "Did you mean train_flops?"]),
    "x is the loss": ("{x: test_loss}", ["analysis", "'test_loss'", "train_flops"]),
    "unknown size column": ("{size_column: num_parms}", ["analysis", "'num_parms'", "Did you mean num_params?"]),
    "unknown split": ("{split: intre}", ["analysis", "split", "Did you mean"]),
    "split without a fraction": ("{split: 'intra:'}", ["analysis", "split", "fraction between 0 and 1"]),
    "unknown by": ("{by: algoritm}", ["analysis", "by", "'algoritm'", "Did you mean algorithm?"]),
    "where: unknown column": ("{where: algoritm == grpo}", ["analysis", "'algoritm'", "Did you mean algorithm?"]),
    "where: one =": ("{where: algorithm = grpo}", ["analysis", "where", "=="]),
    "where: text against number": ("{where: seed == zero}", ["analysis", "where", "seed"]),
    "where: nothing left": ("{where: algorithm == papo}", ["analysis", "no run is left", "grpo"]),
    "law of N on one size": ("{law: efficiency}", ["analysis", "law efficiency", "two sizes or more", "per_size"]),
    "law of N on one size of each": ("{law: chinchilla, by: seed}", ["analysis: the runs of the plan: law chinchilla", "or more"]),
    "a split of one size": ("{split: inter}", ["analysis", "three sizes or more, the data have 1"]),
    "steps beyond the end": ("{steps: '100:'}", ["analysis", "no evaluated point is left"]),
    "a step between evaluations": ("{steps: '33:37'}", ["analysis", "no evaluated point is left"]),
    "one evaluation": ("{steps: '40:', law: per_size}", ["analysis", "no size has two evaluated points"]),
    "points beyond the end": ("{points: '80:'}", ["analysis", "no evaluated point is left"]),
    "steps that where leaves out": ("{where: step > 50}", ["analysis", "no run is left"]),
    "where: a number": ("{where: 3}", ["analysis", "where", "3"]),
    "where: code": ('{where: "__import__(\'os\').system(\'touch owned\') == 0"}', ["analysis", "where"]),
}  # fmt: skip

STUDIES = [
    *(Case(f"file: {name}", [], words, {"mini.yaml": text}) for name, (text, words) in BROKEN_FILES.items()),
    *(Case(f"base: {name}", [], words, {"mini.yaml": study(text, "")}) for name, (text, words) in BASES.items()),
    *(Case(f"block: {name}", [], words, {"mini.yaml": study(block=text)}) for name, (text, words) in BLOCKS.items()),
    *(
        Case(f"analysis: {name}", [], words, {"mini.yaml": study(rest=f"analysis: {text}\n")})
        for name, (text, words) in ANALYSES.items()
    ),
    Case(
        "two blocks of one name", [], ["two blocks are called 'a'"],
        {"mini.yaml": "study: mini\nbase: {model: us}\nblocks:\n  - {name: a}\n  - {name: a, axes: {seed: [1]}}\n"},
    ),
    Case(
        "a second block that keeps nothing", [], ["mini.yaml", "b.where", "no combination is left"],
        {"mini.yaml": study() + "  - {name: b, axes: {seed: [0, 1]}, where: seed > 7}\n"},
    ),
    Case(
        "unknown recipe", [], ["recipe 'tan2052' is not shipped", "Did you mean tan2025?"],
        {"mini.yaml": "recipe: tan2052\n" + study()},
    ),
    Case("recipe is a list", [], ["recipe", "papo2026, tan2025"], {"mini.yaml": "recipe: [tan2025]\n" + study()}),
]  # fmt: skip


BAD_MODELS = {
    "other/config.json": '{"layers": 2}', "broken/config.json": "{",
    "other/model.safetensors": "", "broken/model.safetensors": "",
}  # fmt: skip


@pytest.mark.parametrize("case", STUDIES, ids=lambda case: case.name)
def test_bad_study_files(here, capsys, monkeypatch, recwarn, case):
    """`launch` is the command that would write."""
    write(here, case.files | BAD_MODELS)
    check_refused(here, capsys, monkeypatch, recwarn, ["sweep", "launch", "mini.yaml", "--out", "out"], case.words)


# What only a fit would refuse is told by plan and launch.
COMMANDS = [
    *(("plan --json", case) for case in STUDIES[::12]),
    *(
        (command, case)
        for command in ("status", "retry", "logs us-seed0", "mlflow")
        for case in STUDIES[::24]
        if not case.name.startswith("analysis")
    ),
]


@pytest.mark.parametrize(("command", "case"), COMMANDS, ids=lambda value: getattr(value, "name", value))
def test_bad_study_files_in_the_other_commands(here, capsys, monkeypatch, recwarn, case, command):
    write(here, case.files | BAD_MODELS)
    name, *more = command.split()
    check_refused(here, capsys, monkeypatch, recwarn, ["sweep", name, "mini.yaml", *more], case.words)


# ---------------------------------------------------------------- run files

RUNS = {
    "empty": ("", ["run.yaml", "the file is empty"]),
    "list": ("- model: us", ["run.yaml", "keys and values at the top"]),
    "broken": ("model: [us", ["run.yaml: line", "not valid YAML"]),
    "key twice": ("model: us\nmodel: xs\n", ["run.yaml: line 2", "model"]),
    "study file": ("study: mini\nbase: {model: us}\n", ["study is not a field of RunConfig"]),
    "number as key": ("model: us\n7: 1\n", ["run.yaml", "7 is not a field of RunConfig"]),
    "misspelt field": ("model: us\ndata: {reuse_facter: 2}", ["run.yaml", "Did you mean data.reuse_factor?"]),
    "dotted field": ("model: us\ndata.reuse_factor: 2", ["run.yaml", "data.reuse_factor is not a field of RunConfig"]),
    "not on the ladder": ("model: xxl", ["run.yaml", "'xxl'", "us, xs, s, m, l, xl"]),
    "tau does not divide": ("model: us\ndata: {reuse_factor: 7}", ["run.yaml", "960 prompts / 7 = 137.143"]),
    "D, U and tau": ("model: us\ndata: {reuse_factor: 32, prompts_unique: 31}", ["run.yaml", "960 / 32 = 30"]),
    "no model folder": ("model: {path: nowhere}", ["run.yaml", "model.path", "not a transformers folder"]),
    "too many problems": ("model: us\nevaluation: {problems: 4096}", ["run.yaml", "evaluation.problems", "2048"]),
    "papo without a group": ("model: us\nalgorithm: papo\nrollout: {group_size: 1}", ["run.yaml", "group_size 1"]),
    "unknown recipe": ("model: us\nrecipe: tan2052", ["run.yaml", "Did you mean tan2025?"]),
    "part is a number": ("model: us\nstop: 60", ["run.yaml", "stop wants keys and values", "60"]),
    "recipe and a part that is a number": ("model: us\nrecipe: tan2025\ndata: 3", ["run.yaml", "data", "3"]),
    "contains itself": ("model: us\ndata: &a {x: *a}", ["run.yaml", "contains itself"]),
}


@pytest.mark.parametrize("name", RUNS)
def test_bad_run_files(here, capsys, monkeypatch, recwarn, name):
    text, words = RUNS[name]
    write(here, {"run.yaml": text})
    check_refused(here, capsys, monkeypatch, recwarn, ["run", "run.yaml", "--out", "out"], words)


# ---------------------------------------------------------------- tables

HEADER = "run_id,num_params,step,train_flops,test_loss,eval_problems"


def rows(*changed: str, header: str = HEADER) -> str:
    """A good table of two runs of two sizes, and rows more."""
    good = [f"{r},{n},{s},{s * n * 6},{0.9 - 0.02 * s},500" for r, n in (("a", 100), ("b", 900)) for s in range(6)]
    return "\n".join([header, *good, *changed]) + "\n"


TABLES = {
    "empty": ("", ["the file is empty"]),
    "blank lines": ("\n\n\n", ["the file is empty"]),
    "header only": (HEADER + "\n", ["no rows"]),
    "no step": (rows(header=HEADER.replace("step", "stp")), ["'step' is missing", "Is it stp?"]),
    "no size": (rows(header=HEADER.replace("num_params", "params")), ["'num_params' is missing"]),
    "no loss": (rows(header=HEADER.replace("test_loss", "tset_loss")), ["'test_loss' is missing", "Is it tset_loss?"]),
    "no x": (rows(header=HEADER.replace("train_flops", "compute")), ["x 'train_flops'", "compute"]),
    "no header": (rows().split("\n", 1)[1], ["'0'", "column names missing?"]),
    "column twice": (rows(header=HEADER.replace("eval_problems", "step")), ["'step'", "twice"]),
    "column twice but for a blank": (rows(header=HEADER.replace("eval_problems", " step")), ["'step'", "twice"]),
    "loss above 1": (rows("a,100,7,9,1.2,500"), ["test_loss", "row 13", "1.2", "between 0 and 1"]),
    "loss in percent": (rows("a,100,7,9,73.5,500"), ["test_loss", "73.5", "percent"]),
    "negative loss": (rows("a,100,7,9,-0.1,500"), ["test_loss, row 13: -0.1 is not", "between 0 and 1"]),
    "a blank row": (rows(",,,,,"), ["row 13 is blank in every column"]),
    "half a problem": (rows("a,100,7,9e9,0.5,0.5"), ["eval_problems, row 13: 0.5 is not", "whole number above 0"]),
    "x falls to 0": (rows("a,100,7,0,0.5,500"), ["train_flops is 0 in run a at step 7", "above 0 after step 0"]),
    "text loss": (rows("a,100,7,9,low,500"), ["test_loss", "row 13", "'low' is not a number"]),
    "loss with a decimal comma": (rows('a,100,7,9,"0,5",500'), ["test_loss", "'0,5' is not a number"]),
    "infinite loss": (rows("a,100,7,9,inf,500"), ["test_loss", "infinite"]),
    "step is blank": (rows("a,100,,9,0.5,500"), ["step", "row 13", "whole number"]),
    "step is nan": (rows("a,100,nan,9,0.5,500"), ["step", "row 13", "whole number"]),
    "step is negative": (rows("a,100,-1,9,0.5,500"), ["step", "-1", "0 or more"]),
    "step has a fraction": (rows("a,100,7.5,9,0.5,500"), ["step", "7.5", "whole number"]),
    "step is text": (rows("a,100,last,9,0.5,500"), ["step", "'last' is not a number"]),
    "step twice": (rows("a,100,5,9,0.5,500"), ["run a has step 5 more than once"]),
    "compute starts anew": (rows("a,100,7,9,0.5,500"), ["train_flops", "run a", "step 7", "falls"]),
    "size is text": (rows("a,0.5B,7,9,0.5,500"), ["num_params", "'0.5B' is not a number"]),
    "size is 0": (rows("a,0,7,9,0.5,500"), ["num_params", "above 0"]),
    "size is blank": (rows("a,,7,9,0.5,500"), ["num_params", "blank"]),
    "one run of two sizes": (rows("a,900,7,9e9,0.5,500"), ["num_params", "changes within run a"]),
    "two ways to count N": (
        rows(header=HEADER.replace("eval_problems", "num_params_convention")) + "c,4,1,1,0.5,nominal\n",
        ["num_params_convention", "two ways"],
    ),
    "x is blank": (rows("a,100,7,,0.5,500"), ["train_flops", "blank", "run a at step 7"]),
    "x is 0": (rows("c,500,7,0,0.5,500"), ["train_flops is 0 in run c at step 7"]),
    "no problems": (rows("a,100,7,9e9,0.5,0"), ["eval_problems", "above 0"]),
    "no name": (rows(",100,7,9e9,0.5,500"), ["run_id is blank"]),
    "semicolons": (rows().replace(",", ";"), ["'step' is missing", "semicolons", "commas"]),
    "tabs": (rows().replace(",", "\t"), ["'step' is missing", "tabs", "commas"]),
    "latin-1": (rows().replace("a,", "\xe4,").encode("latin-1"), ["save it as UTF-8"]),
    "too many cells": (rows("a,100,7,9,0.5,500,1,2"), ["cannot be read"]),
    "not utf-8": (b"run_id,step\n\xff\xfe,1\n", ["cannot be read"]),
    "utf-16": (rows().encode("utf-16"), ["cannot be read", "save it as UTF-8"]),
    "zero bytes": (b"\x00" * 100, ["curves.csv"]),
    "one endless cell": ("x" * 200_000 + "\n1\n", ["curves.csv"]),
    "one point a size": (f"{HEADER}\na,100,1,9,0.5,500\nb,900,1,99,0.4,500\n", ["no slope to fit"]),
    "one size": ("\n".join(rows().splitlines()[:7]) + "\n", ["two sizes or more", "per_size"]),
}


@pytest.mark.parametrize("name", TABLES)
def test_bad_tables(here, capsys, monkeypatch, recwarn, name):
    text, words = TABLES[name]
    write(here, {"curves.csv": text})
    for more in ([], ["--json"]):
        check_refused(here, capsys, monkeypatch, recwarn, ["fit", "curves.csv", *more], ["curves.csv", *words])


@pytest.mark.parametrize("name", ["empty", "header only", "no step", "loss above 1", "step twice", "not utf-8"])
def test_a_report_of_a_bad_table_writes_nothing(here, capsys, monkeypatch, recwarn, name):
    text, words = TABLES[name]
    write(here, {"curves.csv": text})
    check_refused(here, capsys, monkeypatch, recwarn, ["report", "curves.csv"], ["curves.csv", *words])


# ---------------------------------------------------------------- sources, options, folders

GOOD = {"curves.csv": rows(), "mini.yaml": study(), "run.yaml": "model: us\n"}
FIT = ["fit", "curves.csv"]
PLAN = ["sweep", "plan", "mini.yaml"]
OTHERS = [
    # Options that would not count.
    Case("a baseline of laws", ["compare", "curves.csv", "--laws", "efficiency,per_size", "--baseline", "2"], ["--baseline 2", "leave it out"]),
    Case("an objective of pairs", ["compare", "curves.csv", "--by", "seed", "--objective", "linear"], ["--objective linear", "--by", "leave it out"]),
    Case("a seed of pairs", ["compare", "curves.csv", "--by", "seed", "--seed", "1"], ["--seed 1", "leave it out"]),
    Case("a fraction of a forecast", ["forecast", "curves.csv", "--size", "900", "--at", "1e4", "--fraction", "7"], ["--fraction 7", "scores"]),
    Case("replicates of no reuse", ["frontier", "curves.csv", "--replicates", "curves.csv"], ["replicates: curves.csv would not be used"]),
    Case(
        "replicates that repeat nothing", ["frontier", "reference:qwen2.5_base_reuse", "--x", "step", "--replicates", "curves.csv"],
        ["replicates: curves.csv would not be used"],
    ),
    # Sources.
    Case("no such file", ["fit", "curvs.csv"], ["curvs.csv", "no such file", "Did you mean curves.csv?"]),
    Case("wrong extension", ["fit", "run.yaml"], ["run.yaml", "not a .csv or .parquet"]),
    Case("parquet that is none", ["fit", "x.parquet"], ["x.parquet", "cannot be read"], {"x.parquet": "step\n1\n"}),
    Case("empty parquet", ["fit", "x.parquet"], ["x.parquet", "cannot be read"], {"x.parquet": ""}),
    Case("empty folder", ["fit", "folder"], ["folder", "not a study folder", "cells.json"], {"folder/x": ""}),
    Case("folder called csv", ["fit", "x.csv"], ["x.csv", "not a study folder"], {"x.csv/y": ""}),
    Case("misspelt reference", ["fit", "reference:qwen25_base"], ["'qwen25_base'", "Did you mean qwen2.5_base?"]),
    Case("nameless reference", ["fit", "reference:"], ["''", "qwen2.5_base"]),
    Case("reference outside", ["fit", "reference:../fit"], ["'../fit'", "qwen2.5_base"]),
    Case("unknown experiment", ["fit", "mlflow:nothing"], ["mlflow:nothing", "MLFLOW_TRACKING_URI"]),
    Case("nameless experiment", ["fit", "mlflow:"], ["mlflow:", "MLFLOW_TRACKING_URI"]),
    Case("endless name", ["fit", "x" * 400], ["no such file"]),
    Case("nameless source", ["fit", ""], [".: not a study folder"]),
    Case("report of no such file", ["report", "curvs.csv"], ["curvs.csv", "Did you mean curves.csv?"]),
    Case("report of an empty folder", ["report", "folder"], ["folder", "not a study folder"], {"folder/x": ""}),
    Case("report of a study that has not run", ["report", "mini"], ["mini", "cells.json"], {"mini/study.yaml": study()}),
    Case("report of an unknown reference", ["report", "reference:tan"], ["'tan'", "qwen2.5_base"]),
    Case("broken cells.json", ["fit", "mini"], ["cells.json", "not valid JSON"], {"mini/cells.json": "{"}),
    Case("cells.json is a list", ["fit", "mini"], ["cells.json", "schema_version"], {"mini/cells.json": "[]"}),
    # Options of fit.
    Case("law", [*FIT, "--law", "eficiency"], ["'eficiency'", "efficiency", "Did you mean efficiency?"]),
    Case("law outside", [*FIT, "--law", "../fit"], ["'../fit'", "efficiency"]),
    Case("x", [*FIT, "--x", "train_flop"], ["curves.csv", "'train_flop'", "Did you mean train_flops?"]),
    Case("x is text", [*FIT, "--x", "run_id"], ["'run_id'", "train_flops"]),
    Case("x is the loss", [*FIT, "--x", "test_loss"], ["'test_loss'", "train_flops"]),
    Case("objective", [*FIT, "--objective", "linaer"], ["log, binomial, linear", "Did you mean linear?"]),
    Case("size column", [*FIT, "--size-column", "num_parms"], ["'num_parms'", "Did you mean num_params?"]),
    Case("size column is no size", [*FIT, "--size-column", "step"], ["'step'", "num_params"]),
    Case("by", [*FIT, "--by", "run_di"], ["'run_di'", "run_id, num_params", "Did you mean run_id?"]),
    Case("by changes", [*FIT, "--by", "step"], ["by", "step", "changes within a run"]),
    Case("by nothing", [*FIT, "--by", ""], ["''", "run_id, num_params"]),
    Case("split", [*FIT, "--split", "intre"], ["split", "'intre'", "Did you mean"]),
    Case("split without fraction", [*FIT, "--split", "intra:"], ["split", "between 0 and 1"]),
    Case("split of everything", [*FIT, "--split", "intra:1.5"], ["split", "between 0 and 1"]),
    Case("split nan", [*FIT, "--split", "intra:nan"], ["split", "between 0 and 1"]),
    Case("split of two sizes", [*FIT, "--split", "inter"], ["split", "three sizes"]),
    Case("bounds", [*FIT, "--bounds", "publishd"], ["'publishd'", "Did you mean published?"]),
    Case("seed", [*FIT, "--seed", "one"], ["--seed", "'one'"]),
    Case("steps", [*FIT, "--steps", "3-60"], ["steps", "'3-60'", "3:60"]),
    Case("steps of three", [*FIT, "--steps", "1:2:3"], ["steps", "'1:2:3'"]),
    Case("steps with a fraction", [*FIT, "--steps", "1.5:"], ["steps", "'1.5:'"]),
    Case("steps backwards", [*FIT, "--steps", "5:3"], ["steps", "'5:3'"]),
    Case("steps beyond", [*FIT, "--steps", "100:"], ["no evaluated point is left"]),
    Case("steps negative", [*FIT, "--steps=-3:"], ["steps", "negative"]),
    Case("steps empty", [*FIT, "--steps", ""], ["steps", "''"]),
    Case("points", [*FIT, "--points", "last"], ["points", "'last'"]),
    Case("points beyond", [*FIT, "--points", "100:"], ["no evaluated point is left"]),
    Case("points empty", [*FIT, "--points", ""], ["points", "''"]),
    Case("where empty", [*FIT, "--where", ""], ["where", "''"]),
    Case("where twice", [*FIT, "--where", "step > 1", "--where-only", "step > 2"], ["where_only", "step > 2", "give one"]),
    Case("where blank", [*FIT, "--where", "  "], ["where"]),
    Case("where unknown", [*FIT, "--where", "num_parms < 3"], ["'num_parms'", "Did you mean num_params?"]),
    Case("where one =", [*FIT, "--where", "step = 3"], ["'step = 3'", "Equality is =="]),
    Case("where text", [*FIT, "--where", "step == last"], ["'last'", "column step"]),
    Case("where misspelt", [*FIT, "--where", "run_id == aa"], ["no row is left", "a, b"]),
    Case("where nothing", [*FIT, "--where", "step > 1e9"], ["no row is left"]),
    Case("where huge", [*FIT, "--where", f"step > 1{'0' * 400}"], ["where"]),
    Case("where code", [*FIT, "--where", "__import__('os').system('touch owned') == 0"], ["without a column"]),
    Case("where lambda", [*FIT, "--where", "(lambda: open('owned', 'w'))() == step"], ["neither a column nor a value"]),
    Case("where attribute", [*FIT, "--where", "step.__class__.__mro__ == 3"], ["step.__class__.__mro__"]),
    Case("where comprehension", [*FIT, "--where", "step in [x for x in run_id]"], ["neither a column nor a value"]),
    Case("where f-string", [*FIT, "--where", "run_id == f'{step}'"], ["neither a column nor a value"]),
    Case("where assignment", [*FIT, "--where", "(step := 3) == 3"], ["where"]),
    Case("where statement", [*FIT, "--where", "import os"], ["not a condition"]),
    Case("where nested list", [*FIT, "--where", "step in [[1], [2]]"], ["where", "[1]"]),
    Case("where deep", [*FIT, "--where", "(" * 500 + "step == 1" + ")" * 500], ["where"]),
    Case("where deep not", [*FIT, "--where", "not " * 3000 + "step == 1"], ["where"]),
    Case("where deep minus", [*FIT, "--where", "step == " + "-" * 5000 + "1"], ["where"]),
    Case("where none", [*FIT, "--where", "step == None"], ["where", "None"]),
    Case("where is", [*FIT, "--where", "step is 3"], ["where", "`is`"]),
    Case("where order of text", [*FIT, "--where", "run_id < b"], ["no order"]),
    Case("binomial without counts", ["fit", "x.csv", "--objective", "binomial"], ["binomial", "eval_problems"],
         {"x.csv": rows(header=HEADER.replace("eval_problems", "n"))}),
    # The line itself.
    Case("unknown command", ["lanch"], ["no command 'lanch'", "sweep"]),
    Case("unknown sweep command", ["sweep", "lanch"], ["no command 'lanch'", "Did you mean launch?"]),
    Case("unknown option", [*FIT, "--objectve", "log"], ["--objectve", "Did you mean --objective?"]),
    Case("unknown option of laws", ["laws", "--jsn"], ["--jsn", "Did you mean --json?"]),
    Case("argument too many", ["laws", "efficiency"], ["efficiency"]),
    Case("no study", ["sweep", "plan"], ["STUDY"]),
    Case("no source", ["fit"], ["'source'"]),
    Case("no config", ["run", "--out", "out"], ["'config'"]),
    Case("no out", ["run", "run.yaml"], ["--out"]),
    Case("option without value", ["fit", "curves.csv", "--law"], ["--law"]),
    Case("two sources", ["fit", "curves.csv", "curves.csv"], ["curves.csv"]),
    # Studies.
    Case("misspelt study", ["sweep", "plan", "quikstart"], ["quikstart", "quickstart, reference-groups", "Did you mean quickstart?"]),
    Case("no study file", ["sweep", "plan", "min.yaml"], ["min.yaml", "no such file", "Did you mean mini.yaml?"]),
    Case("nameless study", ["sweep", "plan", ""], [".: the folder holds no study.yaml"]),
    Case("endless study", ["sweep", "plan", "x" * 400], ["no such study"]),
    Case("study outside", ["sweep", "plan", "../studies/quickstart"], ["no such study"]),
    Case("folder without a study", ["sweep", "plan", "folder"], ["folder", "study.yaml"], {"folder/x": ""}),
    Case("table as a study", ["sweep", "plan", "curves.csv"], ["curves.csv"]),
    Case("no run file", ["run", "rn.yaml", "--out", "out"], ["rn.yaml", "no such file", "Did you mean run.yaml?"]),
    Case("folder as a run file", ["run", "folder", "--out", "out"], ["folder", "cannot be read"], {"folder/x": ""}),
    Case("no workers", ["sweep", "launch", "mini.yaml", "--workers", "0"], ["--workers", "greater than or equal to 1", "0"]),
    Case("half a worker", ["sweep", "launch", "mini.yaml", "--workers", "1.5"], ["--workers", "1.5"]),
    Case("no workers of quickstart", ["quickstart", "--workers", "0"], ["--workers", "0"]),
    Case("local dry run", ["sweep", "launch", "mini.yaml", "--dry-run", "--wait"], ["--dry-run, --wait", "--executor slurm"]),
    Case("local canary", ["sweep", "launch", "mini.yaml", "--canary"], ["--canary", "local", "--executor slurm"]),
    Case("slurm workers", ["sweep", "launch", "mini.yaml", "--executor", "slurm", "--workers", "2"],
         ["--workers", "--throttle"]),
    Case("executor", ["sweep", "launch", "mini.yaml", "--executor", "slrum"], ["'slrum'", "local"]),
    Case("log of an unknown run", ["sweep", "logs", "mini.yaml", "us-seed2"], ["'us-seed2'", "us-seed0, us-seed1"]),
    Case("log of a run not started", ["sweep", "logs", "mini.yaml", "us-seed0"], ["us-seed0", "not been started"]),
    Case("status of an unknown study", ["sweep", "status", "smal"], ["smal", "Did you mean small?"]),
    Case("retry of an unknown study", ["sweep", "retry", "smal"], ["smal", "Did you mean small?"]),
    Case("mlflow of an unknown study", ["sweep", "mlflow", "smal"], ["smal", "Did you mean small?"]),
    Case("mlflow before a launch", ["sweep", "mlflow", "mini.yaml"], ["studies/mini", "cells.json"]),
    Case("port", ["sweep", "mlflow", "mini.yaml", "--port", "70000"], ["--port", "70000"]),
    # --out.
    *(
        Case(f"out is a file: {' '.join(line)}", [*line, "--out", "curves.csv"], ["--out curves.csv", "not a folder"])
        for line in (
            ["sweep", "plan", "mini.yaml"], ["sweep", "launch", "mini.yaml"], ["sweep", "status", "mini.yaml"],
            ["sweep", "logs", "mini.yaml", "us-seed0"], ["sweep", "retry", "mini.yaml"],
            ["sweep", "mlflow", "mini.yaml"], ["run", "run.yaml"], ["report", "curves.csv"], ["quickstart"],
        )
    ),
    Case("out below a file", ["sweep", "launch", "mini.yaml", "--out", "curves.csv/x/y"], ["--out", "not a folder"]),
    Case("run below a file", ["run", "run.yaml", "--out", "curves.csv/x"], ["--out", "not a folder"]),
    Case("out is not writable", ["sweep", "launch", "mini.yaml", "--out", "/proc/nowhere"], ["/proc", "not writable"]),
    Case("run is not writable", ["run", "run.yaml", "--out", "/proc/nowhere"], ["/proc", "not writable"]),
    Case("report is not writable", ["report", "curves.csv", "--out", "/proc/nowhere"], ["/proc", "not writable"]),
    Case("out is of another study", ["sweep", "launch", "mini.yaml", "--out", "folder"],
         ["folder", "study 'other', not 'mini'", "--out"], {"folder/study.yaml": "study: other\n"}),
    Case("out has a broken study", ["sweep", "launch", "mini.yaml", "--out", "folder"], ["study.yaml", "YAML"],
         {"folder/study.yaml": "study: [\n"}),
    Case("quickstart in another study", ["quickstart", "--out", "folder"], ["study 'other', not 'quickstart'"],
         {"folder/study.yaml": "study: other\n"}),
    Case("run in a study folder", ["run", "run.yaml", "--out", "folder"], ["folder", "study"],
         {"folder/study.yaml": "study: other\n"}),
    Case("run in the folder of another run", ["run", "run.yaml", "--out", "folder"], ["folder", "run 123"],
         {"folder/config.json": '{"run_id": "123"}', "folder/DONE": '{"step": 99, "reached": {}}'}),
]  # fmt: skip


@pytest.mark.parametrize("case", OTHERS, ids=lambda case: case.name)
def test_bad_sources_options_and_folders(here, capsys, monkeypatch, recwarn, case):
    write(here, GOOD | case.files)
    check_refused(here, capsys, monkeypatch, recwarn, case.arguments, case.words)


@pytest.mark.parametrize("uri", ["sqlite:///curves.csv", "foo://bar", "sqlite:////nowhere/x.db"])
def test_mlflow_that_cannot_be_read(here, capsys, monkeypatch, uri):
    write(here, GOOD)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    status, out, err = command_line(capsys, monkeypatch, "fit", "mlflow:x")
    assert (status, out) == (2, "")
    assert "mlflow:x: " in err and uri in err and "Traceback" not in err
    assert everything(here).keys() == GOOD.keys()


@pytest.mark.parametrize("command", [[], ["sweep"]])
def test_no_command_is_told_below_the_help(here, capsys, monkeypatch, command):
    status, out, err = command_line(capsys, monkeypatch, *command)
    assert status == 2 and "Usage" in out
    assert "give a command; it has" in err and err.count("\n") == 1


@pytest.mark.parametrize("make", [lambda p: p.symlink_to(p.name), lambda p: p.symlink_to("/proc/self/mem")])
def test_files_that_cannot_be_read(here, capsys, monkeypatch, recwarn, make):
    for name, arguments in {
        "s.yaml": ["sweep", "launch", "s.yaml"],
        "r.yaml": ["run", "r.yaml", "--out", "out"],
        "c.csv": ["fit", "c.csv"],
        "c.parquet": ["fit", "c.parquet"],
    }.items():
        make(here / name)
        check_refused(here, capsys, monkeypatch, recwarn, arguments, [name])


# ---------------------------------------------------------------- the real thing, in a process of its own


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep", "launch", "mini.yaml", "--out", "out"], ["mini.yaml", "Did you mean data.reuse_factor?"]),
        (["run", "run.yaml", "--out", "out"], ["run.yaml", "'xxl' is not a size of the ladder"]),
        (["fit", "curves.csv", "--json"], ["curves.csv", "between 0 and 1"]),
    ],
)
def test_one_line_from_a_process(tmp_path, monkeypatch, arguments, words):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    files: dict[str, str | bytes] = {
        "mini.yaml": study("model: us, data: {reuse_facter: 2}"),
        "run.yaml": "model: xxl\n",
        "curves.csv": rows("a,100,7,9,1.2,500"),
    }
    write(tmp_path, files)
    done = subprocess.run(
        [sys.executable, "-c", "from scaling.cli import main; main()", *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1 and all(word in done.stderr for word in words), done.stderr
    assert set(everything(tmp_path)) == set(files)


# ---------------------------------------------------------------- good input at the edge

GOOD_STUDIES = {
    "byte order mark": "\ufeff" + study(),
    "CRLF": study().replace("\n", "\r\n"),
    "one run": "study: mini\nbase: {model: us}\n",
    "one block of one run": study(block="set: {seed: 1}"),
    "an empty block": study(block=""),
    "YAML 1.2 numbers": study("model: us, optimizer: {learning_rate: 5e-4}, stop: {train_flops: 1e9}"),
    "whole floats": study("model: us, stop: {steps: 1e1}, data: {prompts_per_step: 16.0}"),
    "dotted and nested": study("model: us, data.reuse_factor: 2, data: {prompts_per_step: 8}, stop: {steps: 4}"),
    "shorthand and fields": study("model: us, model.base_seed: 0, algorithm: papo, algorithm.process_weight: 0.5"),
    "aliases": study("model: us, stop: &stop {steps: 4}", rest="  - {name: more, set: {model: xs, stop: *stop}}\n"),
    "U and tau": study("model: us, data: {prompts_unique: 32, reuse_factor: 2.5}"),
    "many steps over few prompts": study("model: us, stop: {steps: 9000}, data: {prompts_unique: 100}"),
    "many steps, less compute": study("model: us, stop: {steps: 9000, train_flops: 1e9}"),
    "group of one": study("model: us, rollout: {group_size: 1}"),
    "null where legal": study(block="axes: {model.base_seed: [null, 0]}, where: model.base_seed == null"),
    "all problems": study("model: us, evaluation: {problems: 2048}"),
    "analysis": study(
        rest="analysis: {where: algorithm == grpo and reuse_factor == 1 and step > 3, steps: '3:', points: ':-1', "
        "x: prompts_seen, law: per_size, objective: binomial, size_column: num_params, by: seed, split: 'intra:0.5'}\n"
    ),
    "analysis of a run by compute": study(
        "model: us, stop: {train_flops: 1e9}", rest="analysis: {steps: '100:', points: ':-80', law: per_size}\n"
    ),
    "analysis of two sizes": study(block="axes: {model: [us, xs]}", rest="analysis: {law: efficiency}\n"),
    "analysis of a setting": study(
        block="axes: {optimizer.learning_rate: [5e-4, 1e-3]}",
        rest="analysis: {where: optimizer.learning_rate == 5e-4 and algorithm != papo}\n",
    ),
}


@pytest.mark.parametrize("name", GOOD_STUDIES)
def test_good_studies_at_the_edge(here, capsys, monkeypatch, name):
    write(here, {"mini.yaml": GOOD_STUDIES[name]})
    before = everything(here)
    status, out, err = command_line(capsys, monkeypatch, "sweep", "plan", "mini.yaml", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["study"] == "mini"
    assert everything(here) == before


def test_a_law_with_nothing_to_compare_is_told_before_the_training(here, capsys, monkeypatch):
    for law, what in {
        "group_size": "group_size, and there is only 16",
        "tau": "reuse_factor, and there is only 4",
    }.items():
        text = study("model: us, stop: {steps: 40}, data: {reuse_factor: 4}", rest=f"analysis: {{law: {law}}}\n")
        write(here, {"mini.yaml": text})
        status, out, err = command_line(capsys, monkeypatch, "sweep", "plan", "mini.yaml", "--json")
        assert status == 0 and json.loads(out)["study"] == "mini"
        assert (
            err
            == f"mini.yaml: analysis: law {law} compares values of {what}; give more of them, or choose another law.\n"
        )


@pytest.mark.parametrize("path", ["mini", "mini/", "./mini", "../{here}/mini", "mini/study.yaml"])
def test_a_study_folder_is_found_however_it_is_written(here, capsys, monkeypatch, path):
    write(here, {"mini/study.yaml": study()})
    path = path.format(here=here.name)
    status, out, _ = command_line(capsys, monkeypatch, "sweep", "plan", path, "--json")
    assert status == 0
    folder = Path(json.loads(out)["folder"]).resolve()
    assert folder == (here / "studies/mini" if path.endswith("yaml") else here / "mini")


def test_whole_floats_are_numbers_and_nothing_is_cut(tmp_path):
    write(tmp_path, {"a.yaml": "model: us\nstop: {steps: 1e3}\n", "b.yaml": "model: us\nstop: {steps: 1000}\n"})
    a, b = load_config(tmp_path / "a.yaml"), load_config(tmp_path / "b.yaml")
    assert a == b and isinstance(a.stop.steps, int)
    assert run_id(a) == run_id(b)


@pytest.mark.parametrize("modulus", [16, 10])
def test_the_config_knows_how_many_problems_the_task_has(modulus):
    task = load_task(HexChainConfig(modulus=modulus))
    assert len(task.test_prompts(HexChainConfig.TEST_PROBLEMS)) == HexChainConfig.TEST_PROBLEMS
    with pytest.raises(ValueError, match=r"evaluation\.problems"):
        task.test_prompts(HexChainConfig.TEST_PROBLEMS + 1)
    digits, steps = "0123456789abcdef"[:modulus], [o + d for o in "+-*" for d in "123456789abcdef"[: modulus - 1]]
    level2 = {f"{d}{a}{b}:" for d in digits for a in steps for b in steps}
    free = sum(not task.reserved(problem) for problem in level2)
    assert HexChainConfig(modulus=modulus).distinct_prompts == free * len(task.levels)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("curves.csv", "\ufeff" + rows()),
        ("curves.csv", rows().replace("\n", "\r\n")),
        ("curves.csv", rows().replace(",", ", ")),
        ("CURVES.CSV", rows()),
        ("curves.csv", rows() + "\n\n"),
        ("curves.csv", "\n".join([HEADER, *reversed(rows().splitlines()[1:])])),
    ],
    ids=["byte order mark", "CRLF", "blanks", "capitals", "blank lines", "reversed"],
)
def test_good_tables_at_the_edge(here, capsys, monkeypatch, name, content):
    write(here, {name: content})
    before = everything(here)
    status, out, err = command_line(capsys, monkeypatch, "fit", name, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["n_points"] == 10
    assert everything(here) == before


def test_a_study_that_has_run_is_refused_in_one_line_too(here, capsys, monkeypatch, recwarn):
    write_run(here / "tiny", "a" * 12, steps=20, size=5000)
    write_cells(here / "tiny", [("a" * 12, 20)], {"law": "per_size"})
    status, _, err = command_line(capsys, monkeypatch, "fit", "tiny", "--json")
    assert status == 0 and err.startswith("saved tiny/fits/")
    for option in (["--law", "efficiency"], ["--where", "algorithm == papo"], ["--by", "sede"], ["--x", "tokens"]):
        check_refused(here, capsys, monkeypatch, recwarn, ["fit", "tiny", *option], ["tiny"] * (option[0] == "--law"))
