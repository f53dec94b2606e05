"""The commands of one run: run, eval, models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scaling.terminal import make_folder, number, open_console, output_folder, print_table


def run(
    config: Annotated[Path, typer.Argument(help="A run file: a RunConfig in YAML.")],
    out: Annotated[Path, typer.Option(help="The run folder; the base model goes to DIR/artifacts.", metavar="DIR")],
) -> None:
    """Train one run in the foreground; called again it resumes.

    Nothing is done once the run is done.
    """
    from scaling.config.checks import check_run_folder
    from scaling.config.reading import load_config

    parsed = load_config(config)
    check_run_folder(parsed, output_folder(out))
    make_folder(out)
    from scaling.trainer import train_run

    train_run(parsed, out, out / "artifacts")
    print(out / "curve.jsonl")


def evaluate(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN_OR_CHECKPOINT", help="A run folder, or a transformers folder.")
    ],
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SET", help="held_out, FILE or NAME=FILE; several times. [default: held_out]"),
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Samples for each problem.")] = 1,
    k: Annotated[list[int] | None, typer.Option("--k", min=1, help="pass@k; several times. [default: 1]")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of sampling. [default: the run's, else 1]")] = None,
    problems: Annotated[int | None, typer.Option(min=1, help="The first so many of each set. [default: all]")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="[default: the run's, else the task's]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, verdicts included.")] = False,
) -> None:
    """pass@k of a trained model on sets of problems, with its standard error.

    The standard error is over the problems.
    """
    import json

    from pydantic import ValidationError

    from scaling.config.errors import explain
    from scaling.config.parts import EvaluationSet
    from scaling.schema import InputError

    wanted: dict[str, EvaluationSet] = {}
    for text in sets or ["held_out"]:
        name, equals, path = text.partition("=")
        if not equals and text != "held_out":
            name, path = Path(text).stem, text
        if not name or (equals and not path) or name in wanted:
            raise InputError(f"--set {text!r}: give held_out, FILE or NAME=FILE, each name once.")
        if path and not Path(path).is_file():
            raise InputError(f"--set {text!r}: there is no file {path} (looked in {Path(path).absolute().parent}).")
        values = {"samples": n, "pass_at": tuple(k or [1]), "temperature": temperature, "problems": problems}
        try:
            wanted[name] = EvaluationSet(path=path or None, **values)  # pyright: ignore[reportArgumentType]
        except ValidationError as error:
            raise InputError(f"eval: {explain(error, EvaluationSet)}") from None
    from scaling.evaluate import evaluate_folder

    result = evaluate_folder(folder, wanted, seed=seed, max_new_tokens=max_new_tokens)
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
        return
    rows = []
    for name, one in result["sets"].items():
        for at in k or [1]:
            error = one[f"pass_at_{at}_stderr"]
            rows.append(
                [name, str(one["problems"]), str(n), f"{one['temperature']:g}", str(at), f"{one[f'pass_at_{at}']:.4f}",
                 "-" if error is None else f"{error:.4f}", f"{one['truncated_share']:.3f}"]
            )  # fmt: skip
    step = "" if result["step"] is None else f", step {result['step']}"
    columns = ["set", "problems", "n", "T", "k", "pass@k", "standard error", "truncated"]
    print_table(open_console(), f"{result['model']}{step}", columns, rows)


def models(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False) -> None:
    """List the models that `model:` may name, made here or published.

    The models made here are the ladder; published ones stand with their counts.
    """
    import dataclasses
    import json

    from scaling.ladder import LADDER
    from scaling.models import MODELS, model_shape

    shapes = {name: model_shape(name) for name in [*LADDER, *MODELS]}
    if as_json:
        listed = [
            {
                "name": name,
                "num_params": shape.num_params,
                "num_params_non_embedding": shape.num_params_non_embedding,
                **(
                    {k: v for k, v in dataclasses.asdict(MODELS[name]).items() if k != "shape"}
                    if name in MODELS
                    else {"family": "hex", "hub": None}
                ),
            }
            for name, shape in shapes.items()
        ]
        print(json.dumps({"models": listed}, indent=2))
        return
    rows = []
    for name, shape in shapes.items():
        known = MODELS.get(name)
        rest = (
            [number(known.nominal, "parameters"), str(known.context), "yes" if known.chat_template else "no",
             str(known.gpus), known.licence, known.hub]
            if known
            else ["-", "-", "no", "0", "made here", "-"]
        )  # fmt: skip
        rows.append([name, f"{shape.num_params:,}", f"{shape.num_params_non_embedding:,}", *rest])
    columns = [
        "model",
        "parameters",
        "without embeddings",
        "nominal",
        "context",
        "chat template",
        "GPUs",
        "licence",
        "hub",
    ]
    print_table(open_console(), "", columns, rows)
