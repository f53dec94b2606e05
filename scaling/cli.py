"""The command line. Every command imports what it needs inside itself, so that `--help` answers at once.

Exit status: 0 done, 1 some work failed, 2 bad input, 130 interrupted. People's output, progress and logs go to
stderr or a terminal table; with --json one JSON document goes to stdout and nothing else does.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="The scaling-law laboratory for RL post-training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    pass


@app.command()
def quickstart(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The study folder. [default: studies/quickstart]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Local processes at a time. [default: the number of cores]")
    ] = None,
) -> None:
    """The whole path on this machine: base models, twelve real runs, laws with intervals, figures, the report."""
    from analysis.report import report as write_report

    planned, folder = _planned("quickstart", out)
    status = _launch(planned, folder, workers)
    if status == 130:
        raise typer.Exit(status)
    page = write_report(folder)
    _show_findings(folder)
    print(f"report: {page}")
    print(f"curves: make mlflow STUDY={folder}", file=sys.stderr)
    if status:
        raise typer.Exit(status)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="A run file: a RunConfig in YAML.")],
    out: Annotated[Path, typer.Option(help="The run folder; the base model goes to DIR/artifacts.", metavar="DIR")],
) -> None:
    """Train one run in the foreground; called again it resumes, and does nothing once the run is done."""
    from scaling.config import check_run_folder, load_config

    parsed = load_config(config)
    check_run_folder(parsed, _folder(out))
    _writable(out)
    from scaling.trainer import train_run

    train_run(parsed, out, out / "artifacts")
    print(out / "curve.jsonl")


@app.command("eval")
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
    """pass@k of a trained model on one or several sets of problems, with its standard error over the problems."""
    import json

    from pydantic import ValidationError

    from scaling.config import EvaluationSet
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
            raise InputError(f"eval: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from None
    from scaling.evaluate import evaluate_folder

    found = evaluate_folder(folder, wanted, seed=seed, max_new_tokens=max_new_tokens)
    if as_json:
        print(json.dumps(found, indent=2, allow_nan=False))
        return
    rows = []
    for name, one in found["sets"].items():
        for at in k or [1]:
            error = one[f"pass_at_{at}_stderr"]
            rows.append(
                [name, str(one["problems"]), str(n), f"{one['temperature']:g}", str(at), f"{one[f'pass_at_{at}']:.4f}",
                 "-" if error is None else f"{error:.4f}", f"{one['truncated_share']:.3f}"]
            )  # fmt: skip
    step = "" if found["step"] is None else f", step {found['step']}"
    columns = ["set", "problems", "n", "T", "k", "pass@k", "standard error", "truncated"]
    _table(_console(), f"{found['model']}{step}", columns, rows)


@app.command()
def fit(
    source: Annotated[
        str, typer.Argument(help="A study folder, a CSV or parquet file, mlflow:EXPERIMENT or reference:NAME.")
    ],
    law: Annotated[str | None, typer.Option(help="The law; `scaling laws` lists them. [default: efficiency]")] = None,
    x: Annotated[str | None, typer.Option(help="Column of the horizontal axis. [default: train_flops]")] = None,
    size_column: Annotated[
        str | None, typer.Option(help="Column of N. [default: num_params_non_embedding, else num_params]")
    ] = None,
    objective: Annotated[str | None, typer.Option(help="log, binomial, linear or huber. [default: log]")] = None,
    where: Annotated[str | None, typer.Option(help="Rows to use: 'num_params <= 32e9 and algorithm == grpo'.")] = None,
    by: Annotated[str | None, typer.Option(help="Fit each value of this column on its own.")] = None,
    steps: Annotated[str | None, typer.Option(help="A:B, the steps A to B, both included; 3: is from step 3.")] = None,
    points: Annotated[
        str | None, typer.Option(help="A:B, a slice of each curve after step 0; :-80 drops the last 80 points.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="none, inter (hold out the largest size), intra:FRACTION. [default: none]")
    ] = None,
    bounds: Annotated[str | None, typer.Option(help="published: the parameter bounds of the law's source.")] = None,
    law_exact: Annotated[
        bool, typer.Option("--law-exact", help="Narrower intervals, right only if sizes follow the law exactly.")
    ] = False,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="Simulate studies from the fit and print how often its intervals hold.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of random numbers.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Fit a law to curves and print it with its intervals; in a study folder the record is saved under fits/."""
    import json

    import analysis

    curves = analysis.load(source)
    given = {
        "law": law, "x": x, "size_column": size_column, "objective": objective, "where": where, "by": by,
        "steps": steps, "points": points, "split": split,
    }  # fmt: skip
    # The study's own analysis section first, the line on top of it, the defaults of analysis.fit below both.
    choices = {**curves.defaults, **{name: value for name, value in given.items() if value is not None}}
    found = analysis.fit(curves, **choices, bounds=bounds, law_exact=law_exact, seed=seed, coverage=coverage)
    saved = analysis.save_in_study(found, curves)
    if as_json:
        print(json.dumps(found.json(), indent=2, allow_nan=False))
    else:
        _show(found)
    for path in saved:
        print(f"saved {path}", file=sys.stderr)


SourceArgument = Annotated[
    str, typer.Argument(help="A study folder, a CSV or parquet file, mlflow:EXPERIMENT or reference:NAME.")
]
XOption = Annotated[str | None, typer.Option(help="Column of the horizontal axis. [default: train_flops]")]
SizeColumnOption = Annotated[
    str | None, typer.Option(help="Column of N. [default: num_params_non_embedding, else num_params]")
]
ObjectiveOption = Annotated[str | None, typer.Option(help="log, binomial, linear or huber. [default: log]")]
WhereOption = Annotated[str | None, typer.Option(help="Rows to use: 'num_params <= 32e9 and algorithm == grpo'.")]
StepsOption = Annotated[str | None, typer.Option(help="A:B, the steps A to B, both included; 3: is from step 3.")]
PointsOption = Annotated[str | None, typer.Option(help="A:B, a slice of each curve after step 0.")]
SeedOption = Annotated[int, typer.Option(help="Seed of random numbers.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def _choices(curves, names: str, **given) -> dict:
    """The study's own analysis section, of the choices `names`, under what the command line gives."""
    defaults = {name: value for name, value in curves.defaults.items() if name in names.split()}
    return {**defaults, **{name: value for name, value in given.items() if value is not None}}


@app.command()
def forecast(
    source: SourceArgument,
    size: Annotated[float | None, typer.Option(help="N of the run to predict, e.g. 72e9.")] = None,
    at: Annotated[
        list[float] | None, typer.Option(help="X at which to predict it; may be given several times.")
    ] = None,
    calibrate: Annotated[
        int, typer.Option(min=0, help="Set the level on the first M points of that size; in scores, 10 unless given.")
    ] = 0,
    fraction: Annotated[float, typer.Option(help="Part of each curve that is fitted in the intra-model score.")] = 0.3,
    law: Annotated[str | None, typer.Option(help="The law; `scaling laws` lists them. [default: efficiency]")] = None,
    x: XOption = None,
    size_column: SizeColumnOption = None,
    objective: ObjectiveOption = None,
    where: WhereOption = None,
    steps: StepsOption = None,
    points: PointsOption = None,
    seed: SeedOption = 0,
    as_json: AsJson = False,
) -> None:
    """Predict a run with a prediction interval (--size and --at); without them, score forecasts on held-out points."""
    import json

    import analysis
    from analysis.forecast import forecast as predict
    from analysis.forecast import score_protocols
    from scaling.schema import InputError

    curves = analysis.load(source)
    names = "law x size_column objective where steps points"
    given = {"law": law, "x": x, "size_column": size_column, "objective": objective}
    choices = _choices(curves, names, **given, where=where, steps=steps, points=points)
    if (size is None) != (not at):
        raise InputError("forecast: give --size and --at together, or neither to score forecasts on held-out points.")
    if size is None or not at:
        scores = score_protocols(curves, **choices, calibrate=calibrate or 10, fraction=fraction, seed=seed)
        if as_json:
            print(json.dumps({"source": source, "scores": scores}, indent=2, allow_nan=False))
        else:
            _show_scores(scores)
        return
    found = predict(curves, size, at, **choices, calibrate=calibrate, seed=seed)
    if as_json:
        print(json.dumps(found, indent=2, allow_nan=False))
        return
    console = _console()
    place = (
        "a fitted size" if found["fitted_size"] else f"{_number(found['size_factor'])} times the largest fitted size"
    )
    console.print(
        f"{found['formula']}\nlaw         {found['law']}, {found['n_points']} points of {found['n_runs']} runs\n"
        f"size        {_number(found['size'], 'parameters')}: {place}; tuned on it: {found['tuned_on_size']}\n"
        f"rests on    {found['rests_on']}"
    )
    rows = [
        [
            _number(r["x"]),
            _number(r["x_factor"]),
            _number(r["loss"]),
            _interval(r["ci95_mean"]),
            _interval(r["ci95_run"]),
        ]
        for r in found["predictions"]
    ]
    _table(console, "", [found["x"], "times fitted", "test loss", "95 %, mean curve", "95 %, one measured run"], rows)
    for warning in found["warnings"]:
        console.print(f"warning     {warning}")


@app.command()
def frontier(
    source: SourceArgument,
    target: Annotated[float | None, typer.Option(help="A test loss: what each size pays to reach it.")] = None,
    replicates: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Repeated runs, for the spread behind the reuse threshold.")
    ] = None,
    law: Annotated[
        str | None, typer.Option(help="A law with a level of N adds the continuous frontier. [default: efficiency]")
    ] = None,
    x: XOption = None,
    size_column: SizeColumnOption = None,
    objective: ObjectiveOption = None,
    where: WhereOption = None,
    steps: StepsOption = None,
    points: PointsOption = None,
    seed: SeedOption = 0,
    as_json: AsJson = False,
) -> None:
    """Which size or group size to train with a budget, what a loss costs, how far prompts can be reused."""
    import json

    import analysis
    from analysis.frontier import frontier as find

    curves = analysis.load(source)
    names = "law x size_column objective where steps points"
    given = {"law": law, "x": x, "size_column": size_column, "objective": objective}
    choices = _choices(curves, names, **given, where=where, steps=steps, points=points)
    found = find(curves, **choices, target=target, replicates=replicates, seed=seed)
    if as_json:
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        _show_frontier(found)


def _show_frontier(found: dict) -> None:
    console, x = _console(), found["x"]
    sized = lambda value: _number(value, "parameters")  # noqa: E731
    for name, title, show in (("sizes", "size", sized), ("group_size", "group size", _number)):
        part = found[name]
        if "error" in part:
            console.print(f"best {title}: {part['error']}")
            continue
        rows = [
            [
                _number(s["from"]), _number(s["to"]), show(s["best"]) + ("" if s["compared"] else " (only one run)"),
                ", ".join(map(show, s["not_rejected"])) or "-",
            ]
            for s in part["segments"]
        ]  # fmt: skip
        _table(console, f"best {title} by {x}", ["from", "to", "best", "not told apart from it"], rows)
        for s in part["switches"]:
            if s["kind"] == "crossover":
                known = _number(s["x"]) if s["identified"] else f"not identified (lines cross at {_number(s['x'])})"
                console.print(f"crossover   {show(s['before'])} to {show(s['after'])}: {known} {_interval(s['ci95'])}")
        law = part.get("law")
        if law and "error" not in law:
            console.print(
                f"law of G*   ln G*(C) a sigmoid in ln C from {law['smallest']:.0f} to {law['largest']:.0f}, "
                f"half of the way at {_number(law['c_mid'])}, steepness {_number(law['steepness'])}"
            )
        elif law:
            console.print(f"law of G*   none: {law['error']}")
    if found.get("untrained") is not None:
        console.print(f"untrained   the best base model has loss {_number(found['untrained'])} at no cost")
    part = found["continuous"]
    if "error" not in part:
        rows = []
        for r in part["rows"]:
            optimum = f"(optimum {sized(r['num_params'])})" if r["num_params"] else "(beyond the sizes)"
            best = sized(r["num_params"]) if r["identified"] else f"not identified {optimum}"
            rows.append([_number(r["x"]), best, _interval(r["ci95"], "parameters")])
        _table(console, f"continuous N* by law {part['law']}; band: {part['band']}", [x, "N*", "95 %"], rows)
    if isinstance(found["crossovers"], list):
        rows = [
            [
                sized(c["smaller"]), sized(c["larger"]), _number(c["x"]), _interval(c["ci95"]),
                "yes" if c["identified"] else "not identified",
            ]
            for c in found["crossovers"]
        ]  # fmt: skip
        _table(console, "where neighbours cross", ["smaller", "larger", x, "95 %", "identified"], rows)
    if isinstance(found.get("cost"), list):
        rows = [
            [
                sized(c["num_params"]), _number(c["x"]) + (" (extrapolated)" if c["extrapolated"] else ""),
                _interval(c["ci95"]), c["why"],
            ]
            for c in found["cost"]
        ]  # fmt: skip
        _table(console, f"{x} to a test loss of {found['target']}", ["N", "cost", "95 %", ""], rows)
    part = found["reuse"]
    if "error" in part:
        console.print(f"data reuse: {part['error']}")
    else:
        rows = [
            [_number(r["reuse_factor"]), _number(r["difference"]), _interval(r["ci95"]), r["basis"]]
            for r in part["rows"]
        ]
        title = f"final loss ({part['window']}) minus that at tau = {_number(part['baseline'])}"
        _table(console, f"{title}, N = {sized(part['num_params'])}", ["tau", "difference", "95 %", "rests on"], rows)
        if part["identified"]:
            console.print(f"reuse       worse from tau = {_number(part['threshold'])}")
        else:
            tested = _number(part["highest_run"])
            console.print(f"reuse       the tau from which the loss is worse is not identified up to {tested}")
    for warning in found["warnings"]:
        console.print(f"warning     {warning}")


@app.command()
def compare(
    source: SourceArgument,
    laws: Annotated[str | None, typer.Option(help="Laws to compare, with commas: efficiency,sigmoid,per_size.")] = None,
    by: Annotated[str | None, typer.Option(help="A column, e.g. algorithm: its values are compared by pairs.")] = None,
    baseline: Annotated[str | None, typer.Option(help="With --by: the value to compare with. [default: grpo]")] = None,
    x: XOption = None,
    size_column: SizeColumnOption = None,
    objective: ObjectiveOption = None,
    where: WhereOption = None,
    steps: StepsOption = None,
    points: PointsOption = None,
    seed: SeedOption = 0,
    as_json: AsJson = False,
) -> None:
    """Compare laws by what they predict of points they have not seen, or algorithms by runs paired by seed."""
    import json

    import analysis
    from analysis.compare import compare_by, compare_laws
    from scaling.schema import InputError

    curves = analysis.load(source)
    if (laws is None) == (by is None):
        raise InputError("compare: give either --laws A,B,... or --by COLUMN.")
    given = {"x": x, "size_column": size_column, "where": where, "steps": steps, "points": points}
    if by is not None:
        # The where of a study's own analysis section chooses one algorithm: here all are wanted.
        choices = _choices(curves, "x size_column steps points", **given)
        found = compare_by(curves, by, baseline=baseline, **choices)
    else:
        choices = _choices(curves, "x size_column objective where steps points", **given, objective=objective)
        names = [name.strip() for name in str(laws).split(",") if name.strip()]
        found = compare_laws(curves, names, **choices, seed=seed)
    if as_json:
        print(json.dumps(found, indent=2, allow_nan=False))
    elif by is not None:
        _show_pairs(found)
    else:
        _show_laws(found)


def _show_laws(found: dict) -> None:
    console = _console()
    rows = []
    for row in found["rows"]:
        if row["error"]:
            console.print(f"{row['law']}: {row['error']}")
            continue
        gap = row["difference"]
        numbers = [_number(row[name]) for name in ("rmse_rolling", "rmse_largest_size", "weight", "qaic")]
        more = "best" if gap is None else f"{gap['mean']:+.2g} {_interval(gap['ci95'])}"
        rows.append([row["law"], numbers[0], more, *numbers[1:], str(row["n_parameters"])])
    rows += [[name, _number(value), "", "", "", "", ""] for name, value in found["baselines"].items()]
    names = ["law", "rmse ln L", "squared error above best", "largest size", "weight", "QAIC above best", "parameters"]
    title = f"rest of each curve from {', '.join(f'{100 * f:.0f} %' for f in found['origins'])}: "
    _table(console, title + f"{found['n_held_out']} held-out points of {found['n_runs']} runs", names, rows)
    console.print(found["verdict"])


def _show_pairs(found: dict) -> None:
    console = _console()
    for one in found["comparisons"]:
        gap, level = one["efficiency"], one["level"]
        console.print(
            f"N = {_number(one['num_params'], 'parameters')}{one['condition'] and ', ' + one['condition']}: "
            f"{one[found['by']]} minus {one['baseline']}, "
            f"{one['n_pairs']} pairs by seed\n"
            f"  k      {gap['mean']:+.3g} {_interval(gap['ci95'])}\n"
            f"  ln L   {level['mean']:+.3g} {_interval(level['ci95'])} at {found['x']} = {_number(one['level_at'])}"
        )
        rows = [[_number(r["loss"]), _number(r["multiplier"]), _interval(r["ci95"])] for r in one["multiplier"]]
        if rows:
            console.print(f"  to the same loss {one[found['by']]} needs so many times less {found['x']}:")
            _table(console, "", ["test loss", "multiplier", "95 %"], rows)
        else:
            console.print(f"  no multiplier: {one['no_multiplier']}")
    for run in found["unpaired"]:
        console.print(f"unpaired    {run}")


def _show_scores(scores: list[dict]) -> None:
    console = _console()
    for entry in scores:
        if "error" in entry:
            console.print(f"{entry['protocol']}: {entry['error']}")
            continue
        rows = [
            [name, _number(value), _number(entry["bias_ln_loss"][name])]
            for name, value in entry["rmse_ln_loss"].items()
        ]
        _table(console, entry["protocol"], ["rule", "rmse of ln L", "bias"], rows)
        inside = entry["interval_coverage"]
        covered = "no interval" if inside is None else f"{100 * inside:.0f} % inside the interval of a measured run"
        console.print(
            f"{entry['n_points']} held-out points, X up to {_number(entry['x_factor'])} times the fitted; {covered}; "
            f"tuned on them: {entry['tuned_on_held_out']}; leak test: "
            f"{'FAILED, held-out values moved a prediction' if entry['leak'] else 'held-out values moved nothing'}"
        )


@app.command()
def reproduce(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A published study: tan2025.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where report/ and figures/ go. [default: reproduce-STUDY]")
    ] = None,
) -> None:
    """The tables and figures of a published study from the shipped curves, ours beside the published values."""
    from analysis.reproduce import reproduce as write_page

    print(write_page(study, out))


@app.command()
def report(
    source: Annotated[
        str, typer.Argument(help="A study folder, a CSV or parquet file, mlflow:EXPERIMENT or reference:NAME.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where report/, figures/ and fits/ go. [default: the study, report-NAME]"),
    ] = None,
) -> None:
    """Write the report: one page with figures, tables and what is not identified; prints its path."""
    from analysis import load
    from analysis.report import report as write_report

    curves = load(source)
    if out is not None:
        _writable(_folder(out))
    print(write_report(curves, out))  # pyright: ignore[reportArgumentType]  # what `load` takes


@app.command()
def laws(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False) -> None:
    """List the laws that `scaling fit --law` knows."""
    import json

    from analysis.laws import get_law, law_names

    known = [get_law(name) for name in law_names()]
    if as_json:
        document = [
            {
                "law": law.name,
                "formula": law.formula,
                "citation": law.citation,
                "predicts": law.predicts,
                "predicts_unseen_size": law.predicts_unseen,
                "parameters": [
                    {"name": p.name, "unit": p.unit, "meaning": p.meaning, "per_size": p.per_size}
                    for p in law.parameters
                ],
            }
            for law in known
        ]
        print(json.dumps({"laws": document}, indent=2))
        return
    for law in known:
        each = "tau" if law.group else "size"
        of_each = [p.name for p in law.parameters if p.per_size]
        named = [*(p.name for p in law.shared), *([f"{', '.join(of_each)} for each {each}"] if of_each else [])]
        _console().print(
            f"{law.name}\n  {law.formula}   ({law.citation})\n  parameters  {', '.join(named)}\n"
            f"  predicts    {law.predicts}"
        )


@app.command()
def models(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False) -> None:
    """List the models that `model:` may name: the ladder made here, and published ones with their counts."""
    import dataclasses
    import json

    from scaling.ladder import LADDER
    from scaling.models import MODELS, model_shape

    shapes = {name: model_shape(name) for name in [*LADDER, *MODELS]}
    if as_json:
        found = [
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
        print(json.dumps({"models": found}, indent=2))
        return
    rows = []
    for name, shape in shapes.items():
        known = MODELS.get(name)
        rest = (
            [_number(known.nominal, "parameters"), str(known.context), "yes" if known.chat_template else "no",
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
    _table(_console(), "", columns, rows)


# ---------------------------------------------------------------- many runs

sweep = typer.Typer(help="Plan, launch and watch a study: a grid of runs.", no_args_is_help=True)
app.add_typer(sweep, name="sweep")

StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study file, the name of a shipped study, or a study folder.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="The study folder. Default: studies/<name>.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


@sweep.command()
def plan(study: StudyArgument, out: OutOption = None, as_json: JsonOption = False) -> None:
    """Print the runs of a study: what exists, what is missing, what it will cost. Writes nothing."""
    planned, folder = _planned(study, out)
    _check_analysis(planned)
    _show_plan(planned, folder, _console(), as_json)


def _show_plan(planned, folder: Path, console, as_json: bool = False) -> None:
    """The cost table of a study, and what there is to know before it is launched."""
    from scaling.schema import ARTIFACTS, RUNS
    from sweeps.plan import Estimator, counts, covarying, run_state

    estimator = Estimator(planned, folder)
    rows = []
    for item in planned.runs:
        state = run_state(folder / RUNS / item.run_id, item.config.stop)
        estimate, config = estimator.estimate(item.config, item.run_id), item.config
        unique = config.data.prompts_unique or estimate.prompts
        rows.append(
            {
                "run": item.name,
                "state": state,
                "run_id": item.run_id,
                "model": config.model.size or config.model.path,
                "group_size": config.rollout.group_size,
                "prompts_unique": unique,
                "reuse_factor": estimate.prompts / unique if estimate.prompts and unique else None,
                "cells": [cell.name for cell in item.cells],
                **vars(estimate),
            }
        )
    missing = [row for row in rows if row["state"] != "done"]
    hours = sum(row["hours"] or 0 for row in missing)
    saved = len(planned.cells) - len(planned.runs)
    if as_json:
        import json

        document = {"study": planned.study.name, "folder": str(folder), "runs": rows, "basis": estimator.basis()}
        document |= {"covarying": covarying(planned), "dropped": planned.dropped, "cells_saved_by_sharing": saved}
        document |= {"missing_files": planned.missing}
        print(json.dumps(document, indent=2))
        return
    on_gpus = [row for row in rows if row["gpu_gb"]]
    times = ["CPU min"] * (len(on_gpus) < len(rows)) + ["GPU h"] * bool(on_gpus)
    columns = ["run", "state", "N", "D", "U", "tau", "C", "G", "tokens", "rollout", "update", *times, "GB"]
    from scaling.ladder import LADDER
    from scaling.models import MODELS, model_shape

    def show(row: dict) -> list[str]:
        known = row["model"] in LADDER or row["model"] in MODELS
        params = model_shape(row["model"]).num_params_non_embedding if known else None
        numbers = [params, row["prompts"], row["prompts_unique"], row["reuse_factor"], row["train_flops"]]
        numbers += [row["group_size"], row["tokens"], row["rollout_flops"], row["update_flops"]]
        spent = {"CPU min": row["hours"] and row["hours"] * 60, "GPU h": row["gpu_hours"]}
        numbers += [*(spent[name] for name in times), row["memory_gb"]]
        return [row["run"], row["state"], *("-" if n is None else _short(n) for n in numbers)]

    most = 40
    _table(console, f"study {planned.study.name}", columns, [show(row) for row in rows[:most]])
    if len(rows) > most:
        console.print(f"... and {len(rows) - most} more runs (--json has them all)")
    console.print(f"{len(planned.cells)} cells, {len(rows)} runs: {counts([row['state'] for row in rows])}.")
    if on_gpus:
        _show_layouts(on_gpus, console)
    if saved:
        console.print(f"{saved} cells are read off longer runs that they share a start with.")
    for line in covarying(planned):
        console.print(f"{line}: the two cannot be told apart.")
    for line in planned.dropped:
        console.print(f"left out by where: {line}")
    bases = [config for base, config in planned.bases().items() if not (folder / ARTIFACTS / base).exists()]
    base_hours = sum(estimator.base_hours(config) for config in bases)
    for file in planned.missing:
        console.print(f"{file} is not here: launch will refuse, and the ids of its runs depend on its content.")
    parts = [f"{sum(row['gpu_hours'] or 0 for row in missing):,.0f} GPU hours in runs"] if on_gpus else []
    if "CPU min" in times:
        parts.append(f"{_hours(hours)} in runs and {_hours(base_hours)} in {len(bases)} base models, one core each")
    console.print(f"Missing: about {'; '.join(parts)}. {estimator.basis()}")


def _show_layouts(rows: list[dict], console) -> None:
    """Memory per GPU by part, a row for each size and layout; below it, what would fit where one does not."""
    from scaling.memory import GPUS, ROLLOUT, UPDATE

    places: dict[tuple, list[dict]] = {}
    for row in rows:
        places.setdefault((row["layout"], row["memory_gb"]), []).append(row)
    table, advice, hosts = [], [], []
    for (layout, _), same in places.items():
        largest = max(same, key=lambda row: row["gpu_gb"]["total"])
        parts, name = largest["gpu_gb"], min((row["model"] for row in same), key=len)
        place, tokens, sequences = layout.split(", ")
        copies = parts["sampler"] + parts["reference"] + parts["gathered"]
        phases = [sum(parts[part] for part in names) for names in (UPDATE, ROLLOUT)]
        numbers = [parts["weights"], parts["gradients"], parts["optimizer"], copies, *phases, parts["cache"]]
        hours = [row["gpu_hours"] for row in same if row["gpu_hours"]]
        of = f"{parts['total']:.0f} of {GPUS[place.split()[1].lower()].memory / 1e9:.0f}"
        table.append([name, str(len(same)), place, tokens.split()[0], sequences.split()[0],
                      *(f"{n:.1f}" for n in numbers), of, "yes" if largest["fits"] else "no",
                      f"{sum(hours) / len(hours):,.0f}" if hours else "-"])  # fmt: skip
        hosts.append(f"{name} {largest['host_gb']:.0f}")
        if not largest["fits"]:
            advice.append(f"{name} does not fit on {place}; what would: {largest['would_fit']}.")
    names = ["model", "runs", "GPUs", "pass", "seq.", "weights", "grads", "AdamW", "copies", "update", "rollout", "KV",
             "total", "fits", "GPU h"]  # fmt: skip
    title = (
        "GB per GPU. pass: tokens of a forward pass; seq.: sequences sampled at a time; KV: cache, a part of rollout;\n"
        "total: what stays + the larger of update and rollout + CUDA; GPU h: of one run"
    )
    _table(console, title, names, table)
    for line in advice:
        console.print(line)
    console.print(f"GB on the host of a run's process 0, at the most: {', '.join(dict.fromkeys(hosts))}.")


def _short(value: float) -> str:
    """5,296 and 0.004 as they are, 2.93e9 for large numbers."""
    if 1e-3 <= abs(value) < 1e5 or value == 0:
        return f"{value:,.0f}" if value == int(value) else f"{value:.2g}"
    return f"{value:.2e}".replace("e+", "e").replace("e0", "e").replace("e-0", "e-")


def _hours(hours: float) -> str:
    return f"{hours * 60:.2g} CPU minutes" if hours < 1.5 else f"{hours:.3g} CPU hours"


@sweep.command()
def launch(
    study: StudyArgument,
    out: OutOption = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Local processes at a time. Default: the cores.")] = None,
    executor: Annotated[str, typer.Option(help="Where the runs go: local or slurm.")] = "local",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="slurm: print the sbatch text and the costs, submit nothing.")
    ] = False,
    throttle: Annotated[int | None, typer.Option(min=1, help="slurm: jobs of an array at a time.")] = None,
    canary: Annotated[
        bool, typer.Option("--canary", help="slurm: run two steps of one cell first; submit nothing if they fail.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="slurm: stay until the runs are done.")] = False,
) -> None:
    """Run what is missing. Locally it waits, and Ctrl-C leaves all resumable; on SLURM it submits and returns."""
    from scaling.schema import InputError, check_name

    check_name(executor, ["local", "slurm"], "executor")
    given = {"--dry-run": dry_run, "--throttle": throttle, "--canary": canary, "--wait": wait}
    meant_for_slurm = ", ".join(option for option, value in given.items() if value)
    if executor == "local" and meant_for_slurm:
        raise InputError(
            f"launch: {meant_for_slurm} is for SLURM, and the executor is local; add --executor slurm, or leave it "
            f"out (scaling sweep plan shows what a launch would run)."
        )
    if executor == "slurm" and workers:
        raise InputError("launch: --workers is for the local executor; with --executor slurm give --throttle.")
    planned, folder = _planned(study, out)
    _check_analysis(planned)
    if executor == "local":
        status = _launch(planned, folder, workers)
    else:
        status = _launch_slurm(planned, folder, dry_run=dry_run, throttle=throttle, canary=canary, wait=wait)
    if status:
        raise typer.Exit(status)


@sweep.command()
def status(
    study: StudyArgument,
    out: OutOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="slurm: stay, submit lost runs again, bring MLflow up to date.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Where every run stands; on SLURM from any shell, whatever became of the launcher."""
    from scaling.schema import InputError
    from sweeps.cluster import Cluster, submitted
    from sweeps.plan import counts
    from sweeps.status import run_status

    planned, folder = _planned(study, out)
    verdicts = {}
    if submitted(folder):
        cluster = Cluster(planned, folder, lambda text: print(text, file=sys.stderr, flush=True))
        verdicts = (_watch_slurm(cluster, planned, folder) if watch else cluster.look()).runs
    elif watch:
        raise InputError(f"{folder}: nothing of this study was submitted to SLURM; a local launch shows its progress.")
    found = [run_status(item, folder, verdicts.get(item.run_id)) for item in planned.runs]
    if as_json:
        import json

        print(json.dumps({"study": planned.study.name, "runs": [run.document() for run in found]}, indent=2))
        return
    console = _console()
    columns = ["run", "state", "step", "test loss", "steps/min", "left", "CPU s", "attempts", "steps redone", "why"]
    rows = []
    for run in found:
        loss = "-" if run.test_loss is None else f"{run.test_loss:.3f}"
        step = "-" if run.step is None else f"{run.step} of {run.stop.get('steps', '?')}"
        numbers = [f"{run.cpu_seconds:.0f}", str(run.attempts), str(run.redone_steps)]
        rate = "-" if run.steps_per_minute is None else f"{run.steps_per_minute:.3g}"
        left = "-" if run.minutes_left is None else f"{run.minutes_left:.0f} min"
        rows.append([run.name, run.state, step, loss, rate, left, *numbers, run.failure or run.why])
    _table(console, f"study {planned.study.name}", columns, rows)
    console.print(counts([run.state for run in found]))


@sweep.command()
def logs(
    study: StudyArgument,
    run: Annotated[str, typer.Argument(help="Name of a run.")],
    out: OutOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run is done or failed.")] = False,
) -> None:
    """Print the log of one run."""
    import time

    from scaling.config import is_done
    from scaling.schema import FAILED, LOG, RUNS, InputError, check_name

    planned, folder = _planned(study, out)
    names = {item.name: item.run_id for item in planned.runs}
    log = folder / RUNS / names[check_name(run, names, "run of this study")] / LOG
    if not log.exists():
        raise InputError(f"{run} has no log yet: it has not been started ({log}).")
    stop = next(item.config.stop for item in planned.runs if item.name == run)
    with open(log, errors="replace") as file:
        while True:
            over = is_done(log.parent, stop) or (log.parent / FAILED).exists()
            print(file.read(), end="", flush=True)
            if over or not follow:
                return
            time.sleep(0.5)


@sweep.command()
def verify(study: StudyArgument, out: OutOption = None, as_json: JsonOption = False) -> None:
    """Name every run whose record is whole, and every one that is not and why. Exit status 1 if there is any."""
    from scaling.schema import RUNS
    from scaling.verify import problems

    planned, folder = _planned(study, out)
    found = {item.name: problems(folder / RUNS / item.run_id, item.run_id) for item in planned.runs}
    if as_json:
        import json

        print(json.dumps({"study": planned.study.name, "problems": found}, indent=2))
    else:
        for name, what in found.items():
            print(f"{name}: {'; '.join(what) if what else 'whole'}")
    if any(found.values()):
        raise typer.Exit(1)


@sweep.command()
def retry(study: StudyArgument, out: OutOption = None) -> None:
    """Let the next launch try failed runs again."""
    from sweeps.cluster import Cluster, submitted
    from sweeps.launch import retry

    planned, folder = _planned(study, out)
    names = Cluster(planned, folder, print).retry() if submitted(folder) else retry(planned, folder)
    print(f"{len(names)} failed runs will be tried again at the next launch{': ' + ', '.join(names) if names else ''}.")


@sweep.command()
def cancel(study: StudyArgument, out: OutOption = None) -> None:
    """End the SLURM jobs of this study, and no others; a launch resumes its runs from their checkpoints."""
    from scaling.schema import InputError
    from sweeps.cluster import Cluster, submitted

    planned, folder = _planned(study, out)
    if not submitted(folder):
        raise InputError(f"{folder}: nothing of this study was submitted to SLURM; stop a local launch with Ctrl-C.")
    print(f"{Cluster(planned, folder, print).cancel()} jobs cancelled.")


@sweep.command()
def mlflow(
    study: StudyArgument,
    out: OutOption = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make the study's MLflow runs anew.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until every run is done or failed.")] = False,
    serve: Annotated[bool, typer.Option("--serve", help="Then serve the charts on this machine until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port for --serve.")] = 5000,
) -> None:
    """Bring MLflow up to date with the run folders, once or with --follow as they grow; with --serve show them."""
    import time

    from scaling.mirror import Mirror
    from scaling.mirror import serve as serve_charts
    from scaling.schema import RUNS
    from sweeps.plan import run_state

    planned, folder = _planned(study, out)
    mirror = Mirror(folder)
    updated = mirror.rebuild() if rebuild else mirror.sync()
    while follow:
        if updated.steps or updated.error:
            print(updated, flush=True)
        states = {run_state(folder / RUNS / item.run_id, item.config.stop) for item in planned.runs}
        time.sleep(2)
        updated = mirror.sync()  # after the states were read: a run that was over then is sent whole
        if states <= {"done", "failed"} and not updated.error:
            break
    mirror.close()
    print(updated)
    if updated.error:
        raise typer.Exit(1)
    if serve:
        raise typer.Exit(serve_charts(mirror.uri, mirror.experiment_id, port))


def _planned(study: str, out: Path | None):
    """The plan of a study and its folder: --out, the folder that was named, or studies/<name>."""
    from sweeps.plan import make_plan
    from sweeps.study import load_study

    loaded = load_study(study)
    folder = out or (Path(study) if os.path.isdir(study) else Path("studies") / loaded.name)
    return make_plan(loaded), _folder(folder)


def _folder(path: Path) -> Path:
    """The path, which is a folder or can become one; else InputError."""
    from scaling.schema import InputError

    place = next((p for p in (path, *path.parents) if os.path.lexists(p)), path)
    if os.path.lexists(place) and not os.path.isdir(place):
        raise InputError(f"--out {path}: {place} is not a folder; give another --out.")
    return path


def _writable(folder: Path) -> None:
    """Make the folder, once the input is known to be good; InputError where nothing can be written there."""
    from scaling.schema import InputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK | os.X_OK) else "permission denied"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise InputError(f"--out {folder}: the folder is not writable ({reason}); give another --out.")


def _check_analysis(planned) -> None:
    """The study's analysis section, checked before anything is trained that it could not be used on."""
    from scaling.schema import InputError

    study = planned.study
    if not study.analysis:
        return
    from analysis.curves import expect
    from analysis.fit import check_choices
    from sweeps.plan import run_documents

    try:
        check_choices(study.analysis, expect(run_documents(planned), study.where))
    except InputError as error:
        raise InputError(f"{study.where}: analysis: {error}") from None


def _check_inputs(planned, folder: Path) -> None:
    """What the missing runs read is looked for before anything is written or submitted."""
    from scaling.config import check_inputs, is_done
    from scaling.schema import RUNS

    planned.check_files()
    for item in planned.runs:
        if not is_done(folder / RUNS / item.run_id, item.config.stop):
            check_inputs(item.config)


def _launch(planned, folder: Path, workers: int | None) -> int:
    """Launch local processes and stay with them; returns the exit status."""

    from rich.console import Console

    from sweeps import launch as launcher

    console = Console(stderr=True)
    _check_inputs(planned, folder)
    _writable(folder)
    launcher.prepare(planned, folder)
    with _mirrored(planned, folder, console):
        return launcher.launch(planned, folder, workers or os.cpu_count() or 1, console)


def _launch_slurm(planned, folder: Path, *, dry_run: bool, throttle: int | None, canary: bool, wait: bool) -> int:
    """Submit what is missing; with `wait` stay until the runs are done. Returns the exit status."""
    from sweeps.cluster import Cluster
    from sweeps.launch import obsolete, prepare
    from sweeps.plan import counts
    from sweeps.reconcile import LIVE

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    cluster = Cluster(planned, folder, say, throttle)
    if dry_run:
        result = cluster.launch(dry_run=True)
        print("\n".join(result.texts))
        _show_plan(planned, folder, _console(stderr=True))
        say(
            f"dry run: {result.runs} runs and {result.bases} base models in {len(result.texts)} arrays, none submitted."
        )
        return 0
    _check_inputs(planned, folder)
    _writable(folder)
    prepare(planned, folder)
    if left_over := obsolete(planned, folder):
        say(f"{len(left_over)} runs in the folder are no longer in the study: kept, not analysed.")
    if canary and not cluster.canary():
        return 1
    result = cluster.launch()
    say(f"study {planned.study.name}: submitted {result.runs} runs and {result.bases} base models; folder {folder}")
    if result.remaining:
        say(
            f"{result.remaining} runs remain for the next launch: SLURM takes no more now"
            f"{f' ({result.refusals[-1]})' if result.refusals else ''}."
        )
    look = _watch_slurm(cluster, planned, folder) if wait else cluster.look()
    say(f"study {planned.study.name}: {counts(look.states(planned))}.")
    bad = [item for item in planned.runs if look.runs[item.run_id].state not in ("done", *LIVE)]
    for item in bad:
        say(f"  {item.name}: {look.runs[item.run_id].state}, {look.runs[item.run_id].why}")
    return int(bool(bad))


def _watch_slurm(cluster, planned, folder: Path):
    """Follow the jobs until nothing is left to wait for, MLflow too."""
    from rich.console import Console

    with _mirrored(planned, folder, Console(stderr=True)):
        return cluster.watch()


@contextlib.contextmanager
def _mirrored(planned, folder: Path, console):
    """The MLflow mirror follows what happens inside; tracking never stops or delays a run."""
    import threading

    from scaling.mirror import open_mirror

    tracked = any(item.config.tracking.mlflow for item in planned.runs)
    mirror, reason = open_mirror(folder) if tracked else (None, "")
    stop = threading.Event()
    watcher = threading.Thread(target=mirror.watch, args=(stop,), daemon=True) if mirror else None
    if watcher:
        watcher.start()
    elif reason:
        console.print(f"MLflow is not brought up to date by this process: {reason}", markup=False, highlight=False)
    try:
        yield
    finally:
        stop.set()
        if mirror and watcher:
            watcher.join(30)
            report = mirror.close()
            if report.error:
                console.print(f"MLflow is behind: {report.error}; `scaling sweep mlflow {folder}` catches up.")


def _console(stderr: bool = False):
    """A console on stdout; brackets are text, and a pipe is wide enough for our tables."""
    from rich.console import Console

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(markup=False, highlight=False, width=None if terminal else 150, emoji=False, stderr=stderr)


def _table(console, title: str, columns: list[str], rows: list[list[str]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold")
    for i, name in enumerate(columns):
        # A name is never cut: where the terminal is too narrow it goes on in the next line.
        table.add_column(name, justify="left" if i == 0 or title == "" else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _number(value: float | None, unit: str = "1") -> str:
    """A value with four digits; parameters as 5,296 or 13.1e9; a missing one as a dash."""
    if value is None:
        return "-"
    if unit != "parameters":
        return f"{value:.4g}" if abs(value) > 1e-12 else "0"
    for power in (12, 9, 6):
        if abs(value) >= 10**power:
            return f"{value / 10**power:.4g}e{power}"
    return f"{value:,.0f}"


def _interval(ends: list[float | None] | None, unit: str = "1") -> str:
    if ends is None:
        return "no interval"
    low, high = ("open" if end is None else _number(end, unit) for end in ends)
    return f"[{low}, {high}]"


def _show(found) -> None:
    """A fit, or the fits of `--by`, for people: never a value without its interval or a pooled R2 without its floor."""
    from analysis import Fits

    if not isinstance(found, Fits):
        _show_fit(found.json())
        return
    for value, one in found.items():
        _console().rule(f"{found.column} = {value}", align="left")
        _show_fit(one.json())
    for value, message in found.failed.items():
        _console().print(f"{found.column} = {value} could not be fitted: {message}")


def _show_fit(record: dict) -> None:
    console = _console()
    window = record["window"]
    chosen = [f"{name} {window[name]}" for name in ("where", "steps", "points") if window[name]]
    console.print(f"{record['formula']}   ({record['citation']})")
    console.print(
        f"source      {record['source']}, data {record['data_hash']}\n"
        f"axes        X = {record['x']} ({record['x_unit'] or 'unit not stated'}), N = {record['size_column']} "
        f"({record['size_convention']})\n"
        f"objective   {record['objective']}: {record['objective_meaning']}; weights: {record['weights']}\n"
        f"window      {', '.join(chosen) or 'everything after step 0'}: steps {window['first_step']} to "
        f"{window['last_step']}\n"
        f"used        {record['n_points']} points of {record['n_runs']} runs of {record['n_sizes']} sizes: "
        f"{_names(record['run_names'])}"
    )
    reasons: dict[str, list[str]] = {}
    for item in record["left_out"]:
        reasons.setdefault(item["reason"], []).append(item["run"])
    for reason, runs in reasons.items():
        console.print(f"left out    {reason}: {_names(runs)}")
    for note in record["notes"]:
        console.print(f"note        {note}")
    if record["values"]:
        rows = []
        for name, entry in record["values"].items():
            unit, value = entry["unit"], _number(entry["value"], entry["unit"])
            shown = value if entry["identified"] else f"not identified (optimum {value})"
            bound = " at a bound" if entry["at_bound"] else ""
            error = _number(entry["stderr"], unit)
            rows.append([name, shown + bound, _interval(entry["ci95"], unit), error, unit])
        _table(console, "values", ["", "value", "95 % interval", "standard error", "unit"], rows)
    rows = [
        [
            _number(row["num_params"], "parameters"), str(row["n_runs"]), str(row["n_points"]),
            _number(row["efficiency"]), _interval(row["efficiency_ci95"]), _number(row["intercept"]),
            _number(row["efficiency_law"]), _number(row["r2"]), _number(row["r2_law"]),
        ]
        for row in record["per_size"][:40]
    ]  # fmt: skip
    first = "N" if record["size_column"].startswith("num_params") else record["size_column"]
    names = [first, "runs", "points", "k, own line", "95 % interval", "E", "k, law", "R2 line", "R2 law"]
    more = len(record["per_size"]) - len(rows)
    _table(console, "per size" + (f" ({more} more: --json has them all)" if more else ""), names, rows)
    named = list(record["per_size"][0]["values"])
    if not {"efficiency", "intercept"} & set(named) and named:
        rows = [
            [_number(row["num_params"], "parameters")]
            + [
                _number(row["values"][n]) + (f" {_interval(row['values_ci95'][n])}" if n in row["values_ci95"] else "")
                for n in named
            ]
            for row in record["per_size"][:40]
        ]
        known = "95 % intervals" if record["per_size"][0]["values_ci95"] else "no intervals"
        _table(console, f"parameters of each {first if first != 'N' else 'size'}, {known}", [first, *named], rows)
    good = record["goodness"]
    console.print(
        f"goodness    on L: pooled R2 {_number(good['r2_pooled'])}, where k = 0 with a level per size has "
        f"{_number(good['r2_pooled_constant'])}; within sizes {_number(good['r2_within'])}; "
        f"rmse of ln L {_number(good['rmse_ln_loss'])}"
    )
    basis = record["intervals"]["parameters_basis"]
    console.print(
        f"intervals   per size: {record['intervals']['per_size_basis']}; {record['intervals']['questions']}"
        + (f"; other parameters: {basis}" if basis else "")
    )
    if record["intervals"].get("coverage"):
        console.print(f"self-test   {record['intervals']['coverage']['text']}")
    if "consistency" in record:
        _show_consistency(console, record["consistency"])
    _show_held_out(console, record["held_out"])
    for warning in record["warnings"]:
        console.print(f"warning     {warning}")


def _show_consistency(console, found: dict) -> None:
    data, cost = found["axes"]
    rows = [
        [
            _number(row["num_params"], "parameters"), _number(row["phi"]), _number(row["efficiency_data"]),
            _number(row["efficiency_compute"]), _number(row["difference"]),
            _number(row["intercept_compute"] - row["intercept_by_constraint"]),
        ]
        for row in found["per_size"]
    ]  # fmt: skip
    names = ["N", f"{cost} / (N {data})", f"k on {data}", f"k on {cost}", "difference", "E off the constraint"]
    _table(console, "free fits, line by line", names, rows)
    test, p = found["by_run"], found["by_run"]["p"]
    console.print(
        f"constraint  phi {_number(found['phi'])}; mean difference of k over {test['n_runs']} runs "
        f"{_number(test['mean_difference'])}, {'no test below three runs' if p is None else f'p = {p:.2g}'}"
    )


def _show_findings(study: Path) -> None:
    """What the study's own fit says, in a few lines: k of each size, and which parameters are identified."""
    import analysis

    curves = analysis.load(study)
    found = analysis.fit(curves, **curves.defaults).json()
    console = _console()
    console.print(f"learning efficiency k(N) against {found['x']}, 95 % intervals:")
    for row in found["per_size"]:
        k, ends = _number(row["efficiency"]), _interval(row["efficiency_ci95"])
        console.print(f"k({_number(row['num_params'], 'parameters'):>7}) = {k:<7} {ends}   {row['n_runs']} runs")
    for name, entry in found["values"].items():
        value = _number(entry["value"], entry["unit"])
        known = f"= {value}" if entry["identified"] else "not identified"
        console.print(f"{name:<10} {known} {_interval(entry['ci95'], entry['unit'])}")


def _show_held_out(console, held: dict | None) -> None:
    if held is None:
        return
    errors = ", ".join(f"{name} {_number(value)}" for name, value in held["rmse_ln_loss"].items() if value is not None)
    console.print(
        f"held out    {held['split']}: {held['n_points']} points, X up to {_number(held['x_factor'])} times that of "
        f"the fit; rmse of ln L: {errors}; tuned on them: {held['tuned_on_held_out']}"
    )
    if "reason" in held:
        console.print(
            f"            N = {_number(held['num_params'], 'parameters')}: {held['reason']}; k by the law "
            f"{_number(held['efficiency_law'])} {_interval(held['efficiency_law_ci95'])}, by its own line "
            f"{_number(held['efficiency_own_line'])}"
        )


def _names(runs: list[str], most: int = 24) -> str:
    return ", ".join(runs[:most]) + (f" and {len(runs) - most} more" if len(runs) > most else "")


def main() -> None:
    """Run the app; turn every foreseen error into one line and an exit status."""
    from scaling.schema import InputError, did_you_mean

    debug = "--debug" in sys.argv[1:]
    # --debug is accepted anywhere on the line.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        status = app(arguments, prog_name="scaling", standalone_mode=False)
    except InputError as error:
        status = _complain(str(error), debug)
    except KeyboardInterrupt:
        status = 130
    except Exception as error:
        if type(error).__name__ == "Abort":
            status = 130
        elif hasattr(error, "format_message"):  # a usage error: unknown command or option, wrong type, missing argument
            status = _complain(_usage(error, did_you_mean), debug)
        else:
            raise
    sys.exit(status or 0)


def _complain(message: str, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    print(f"scaling: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _usage(error, did_you_mean) -> str:
    """One line for a usage error: the command, what was given, what is legal, the nearest match."""
    context = getattr(error, "ctx", None)
    message = error.format_message() if type(error).__name__ != "NoArgsIsHelpError" else "give a command"
    if context is None:
        return message
    command = context.command
    names = list(getattr(command, "commands", {}))
    option = getattr(error, "option_name", None)
    if option is not None:
        legal = sorted({name for parameter in command.params for name in parameter.opts if name.startswith("--")})
        return f"{context.command_path} has no option {option}; it has {', '.join(legal)}.{did_you_mean(option, legal)}"
    if names:
        given = next((a for a in sys.argv[1:] if not a.startswith("-") and a not in context.command_path.split()), "")
        if not given:
            return f"{context.command_path}: give a command; it has {', '.join(names)}."
        return (
            f"{context.command_path} has no command {given!r}; it has {', '.join(names)}.{did_you_mean(given, names)}"
        )
    return f"{context.command_path}: {message}{_given(error)} See {context.command_path} --help."


def _given(error) -> str:
    """` (given: '0').` for an option whose value is not legal: the message itself tells only its name."""
    for name in getattr(getattr(error, "param", None), "opts", []):
        for index, word in enumerate(sys.argv):
            if word == name and index + 1 < len(sys.argv):
                return f" (given: {sys.argv[index + 1]!r})."
            if word.startswith(f"{name}="):
                return f" (given: {word.removeprefix(f'{name}=')!r})."
    return ""
