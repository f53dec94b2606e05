"""The commands that read curves: fit, forecast, frontier, compare, report, reproduce, laws."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.printed import (
    show_asymptotes,
    show_correlation,
    show_fits,
    show_frontier,
    show_laws,
    show_pairs,
    show_predictions,
    show_rows,
    show_scores,
    show_verdict,
    show_warnings,
)
from scaling.terminal import AsJson, make_folder, number, open_console, output_folder

SourceArgument = Annotated[
    str, typer.Argument(help="A study folder, a CSV or parquet file, mlflow:EXPERIMENT or reference:NAME.")
]
LawOption = Annotated[str | None, typer.Option(help="The law; `scaling laws` lists them. [default: efficiency]")]
XOption = Annotated[str | None, typer.Option(help="Column of the horizontal axis. [default: the law's own]")]
SizeColumnOption = Annotated[
    str | None, typer.Option(help="Column of N. [default: num_params_non_embedding, else num_params]")
]
ObjectiveOption = Annotated[str | None, typer.Option(help="log, binomial, linear or huber. [default: log]")]
WhereOption = Annotated[
    str | None,
    typer.Option(help="Rows to use, besides the study's own where: 'num_params <= 32e9 and algorithm == grpo'."),
]
WhereOnlyOption = Annotated[str | None, typer.Option(help="Rows to use, in place of the study's own where.")]
StepsOption = Annotated[str | None, typer.Option(help="A:B, the steps A to B, both included; 3: is from step 3.")]
PointsOption = Annotated[
    str | None, typer.Option(help="A:B, a slice of each curve after step 0; :-80 drops the last 80 points.")
]
SplitOption = Annotated[
    str | None, typer.Option(help="none, inter (hold out the largest size), intra:FRACTION. [default: none]")
]
BoundsOption = Annotated[str | None, typer.Option(help="published: the parameter bounds of the law's source.")]
FixOption = Annotated[
    list[str] | None, typer.Option(help="A parameter held at a value, e.g. n0=13e9; may stand several times.")
]
BoundOption = Annotated[
    list[str] | None, typer.Option(help="A parameter held between two values, e.g. k_max=0:2; may stand several times.")
]
SeedOption = Annotated[int, typer.Option(help="Seed of random numbers.")]


def fit(
    source: SourceArgument,
    law: LawOption = None,
    x: XOption = None,
    size_column: SizeColumnOption = None,
    objective: ObjectiveOption = None,
    where: WhereOption = None,
    where_only: WhereOnlyOption = None,
    by: Annotated[str | None, typer.Option(help="Fit each value of this column on its own.")] = None,
    steps: StepsOption = None,
    points: PointsOption = None,
    split: SplitOption = None,
    bounds: BoundsOption = None,
    fix: FixOption = None,
    bound: BoundOption = None,
    law_exact: Annotated[
        bool, typer.Option("--law-exact", help="Narrower intervals, right only if sizes follow the law exactly.")
    ] = False,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="Simulate studies from the fit and print how often its intervals hold.")
    ] = False,
    contours: Annotated[
        bool, typer.Option("--contours", help="Correlations, and a figure of regions of two parameters at once.")
    ] = False,
    seed: SeedOption = 0,
    as_json: AsJson = False,
) -> None:
    """Fit a law to curves and print it with its intervals.

    In a study folder the record is saved under fits/.
    """
    import json

    from analysis.curves.load import load
    from analysis.fitting.choices import choose_for
    from analysis.intervals.fitted import fit_groups, fit_with_intervals, save_in_study
    from scaling.schema import InputError

    curves = load(source)
    choices = choose_for(curves, {
        "law": law, "x": x, "size_column": size_column, "objective": objective, "where": where,
        "where_only": where_only, "steps": steps, "points": points, "split": split, "seed": seed, "bounds": bounds,
        "fix": fix, "bound": bound,
    })  # fmt: skip
    column = curves.defaults.get("by") if by is None else by
    drawn: list[Path] = []
    if column is not None:
        if contours:
            raise InputError(
                f"contours are of one fit; leave out --contours, or --by {column} and choose with --where."
            )
        fits = fit_groups(curves, choices, column, law_exact=law_exact, coverage=coverage)
    else:
        fits = fit_with_intervals(curves, choices, law_exact=law_exact, coverage=coverage)
        drawn = [_draw_contours(fits)] if contours else []
    saved = [*save_in_study(fits, curves), *drawn]
    if as_json:
        print(json.dumps(fits.json(), indent=2, allow_nan=False))
    else:
        show_fits(fits)
        if contours:
            show_correlation(fits.json())
    for path in saved:
        print(f"saved {path}", file=sys.stderr)


def _draw_contours(fitted: Any) -> Path:
    """Put the regions of pairs of parameters into the record, and draw them; returns the path of the figure."""
    from analysis.figures import save
    from analysis.figures.contours import contours as draw
    from analysis.intervals.contours import contours

    regions = contours(fitted)
    fitted.record["contours"] = [region.json() for region in regions]
    folder = Path() if fitted.curves is None or fitted.curves.folder is None else fitted.curves.folder / "figures"
    save(draw(fitted, regions), draw(fitted, regions, layout="column"), folder, "contours")
    return folder / "contours.png"


def forecast(
    source: SourceArgument,
    size: Annotated[float | None, typer.Option(help="N of the run to predict, e.g. 72e9.")] = None,
    at: Annotated[
        list[float] | None, typer.Option(help="X at which to predict it; may be given several times.")
    ] = None,
    calibrate: Annotated[
        int, typer.Option(min=0, help="Set the level on the first M points of that size; in scores, 10 unless given.")
    ] = 0,
    fraction: Annotated[
        float | None, typer.Option(help="In scores: the part of each curve that is fitted, .3 unless given.")
    ] = None,
    law: LawOption = None,
    x: XOption = None,
    size_column: SizeColumnOption = None,
    objective: ObjectiveOption = None,
    where: WhereOption = None,
    where_only: WhereOnlyOption = None,
    steps: StepsOption = None,
    points: PointsOption = None,
    fix: FixOption = None,
    bound: BoundOption = None,
    seed: SeedOption = 0,
    as_json: AsJson = False,
) -> None:
    """Predict a run with a prediction interval, or score such forecasts.

    Give --size and --at for a prediction; without them forecasts are scored on held-out points.
    """
    import json

    from analysis.curves.load import load
    from analysis.fitting.choices import choose_for
    from analysis.questions.forecast import forecast as predict
    from analysis.questions.scores import score_protocols
    from scaling.schema import InputError

    curves = load(source)
    choices = choose_for(curves, {
        "law": law, "x": x, "size_column": size_column, "objective": objective, "where": where,
        "where_only": where_only, "steps": steps, "points": points, "seed": seed,
        "fix": fix, "bound": bound,
    })  # fmt: skip
    if (size is None) != (not at):
        raise InputError("forecast: give --size and --at together, or neither to score forecasts on held-out points.")
    if size is None or not at:
        part = 0.3 if fraction is None else fraction
        scores = [score.json() for score in score_protocols(curves, choices, calibrate or 10, part)]
        if as_json:
            document = {"source": source, "where": choices.where, "scores": scores}
            print(json.dumps(document, indent=2, allow_nan=False))
        else:
            show_rows(choices.where)
            show_scores(scores)
        return
    if fraction is not None:
        raise InputError(f"forecast: --fraction {fraction:g} is of scores, without --size and --at; leave it out.")
    record = predict(curves, choices, size, at, calibrate)
    if as_json:
        print(json.dumps(record, indent=2, allow_nan=False))
        return
    console = open_console()
    show_verdict(console, record["verdict"])
    place = (
        "a fitted size" if record["fitted_size"] else f"{number(record['size_factor'])} times the largest fitted size"
    )
    console.print(
        f"{record['formula']}\nlaw         {record['law']}, {record['n_points']} points of {record['n_runs']} runs\n"
        f"size        {number(record['size'], 'parameters')}: {place}; tuned on it: {record['tuned_on_size']}\n"
        f"rests on    {record['rests_on']}"
    )
    show_rows(record["window"]["where"])
    show_predictions(console, record)
    show_warnings(console, record)


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
    where_only: WhereOnlyOption = None,
    steps: StepsOption = None,
    points: PointsOption = None,
    fix: FixOption = None,
    bound: BoundOption = None,
    seed: SeedOption = 0,
    as_json: AsJson = False,
) -> None:
    """Best size for a budget, cost of a loss, how far to reuse prompts."""
    import json

    from analysis.curves.load import load
    from analysis.fitting.choices import choose_for
    from analysis.questions.frontier import frontier as find

    curves = load(source)
    choices = choose_for(curves, {
        "law": law, "x": x, "size_column": size_column, "objective": objective, "where": where,
        "where_only": where_only, "steps": steps, "points": points, "seed": seed,
        "fix": fix, "bound": bound,
    })  # fmt: skip
    record = find(curves, choices, target, None if replicates is None else load(replicates))
    if as_json:
        print(json.dumps(record, indent=2, allow_nan=False))
    else:
        show_frontier(record)


def compare(
    source: SourceArgument,
    laws: Annotated[str | None, typer.Option(help="Laws to compare, with commas: efficiency,sigmoid,per_size.")] = None,
    by: Annotated[str | None, typer.Option(help="A column, e.g. algorithm: its values are compared by pairs.")] = None,
    baseline: Annotated[str | None, typer.Option(help="With --by: the value to compare with. [default: grpo]")] = None,
    x: XOption = None,
    size_column: SizeColumnOption = None,
    objective: ObjectiveOption = None,
    where: WhereOption = None,
    where_only: WhereOnlyOption = None,
    steps: StepsOption = None,
    points: PointsOption = None,
    seed: Annotated[int | None, typer.Option(help="Seed of random numbers.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare laws by points not seen, or algorithms by paired runs.

    Runs are paired by seed.
    """
    import json

    from analysis.curves.load import load
    from analysis.fitting.choices import Given, choose_for
    from analysis.questions.laws import compare_laws
    from analysis.questions.pairs import NO_FIT, compare_by
    from scaling.schema import InputError

    curves = load(source)
    if (laws is None) == (by is None):
        raise InputError("compare: give either --laws A,B,... or --by COLUMN.")
    given: Given = {
        "x": x, "size_column": size_column, "objective": objective, "where": where, "where_only": where_only,
        "steps": steps, "points": points, "seed": seed,
    }  # fmt: skip
    if by is not None:
        for name in NO_FIT:
            if (value := given.get(name)) is not None:
                raise InputError(
                    f"compare: --{name} {value} does not count with --by, each run has a line; leave it out."
                )
        # The where of a study chooses one algorithm: here all are wanted, and only what is given counts.
        record = compare_by(curves, choose_for(curves, given, without=("where",)), by, baseline)
    else:
        if baseline is not None:
            raise InputError(f"compare: --baseline {baseline} is a value of --by; laws have none, leave it out.")
        names = [name.strip() for name in str(laws).split(",") if name.strip()]
        record = compare_laws(curves, names, choose_for(curves, given, without=("fix", "bound")))
    if as_json:
        print(json.dumps(record, indent=2, allow_nan=False))
    elif by is not None:
        show_pairs(record)
    else:
        show_laws(record)


def asymptote(
    source: SourceArgument,
    by: Annotated[str | None, typer.Option(help="A column, e.g. algorithm: its values are compared.")] = None,
    share: Annotated[float, typer.Option(help="Part of the compute that is fitted; the rest is predicted.")] = 0.5,
    cut: Annotated[float, typer.Option(help="Part of the compute at the start that is left out.")] = 0.02,
    x: XOption = None,
    size_column: SizeColumnOption = None,
    where: WhereOption = None,
    where_only: WhereOnlyOption = None,
    as_json: AsJson = False,
) -> None:
    """The pass rate that training tends to, by the ScaleRL protocol.

    The rate before training is measured; a sigmoid is fitted to the first part of the compute and set against the rest.
    """
    import json

    from analysis.curves.load import load
    from analysis.fitting.choices import Given, choose_for
    from analysis.questions.asymptote import asymptotes

    curves = load(source)
    without = ("law", "objective", "steps", "points", "split", "fix", "bound", *(("where",) if by else ()))
    given: Given = {"x": x, "size_column": size_column, "where": where, "where_only": where_only}
    record = asymptotes(curves, choose_for(curves, given, without=without), by, share, cut)
    if as_json:
        print(json.dumps(record, indent=2, allow_nan=False))
    else:
        show_asymptotes(record)


def reproduce(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A published study: tan2025.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where report/ and figures/ go. [default: reproduce-STUDY]")
    ] = None,
) -> None:
    """A published study's tables, ours beside theirs."""
    from analysis.reproduce import reproduce as write_page

    print(write_page(study, out))


def report(
    source: SourceArgument,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where report/, figures/ and fits/ go. [default: the study, report-NAME]"),
    ] = None,
    law: LawOption = None,
    x: XOption = None,
    size_column: SizeColumnOption = None,
    objective: ObjectiveOption = None,
    where: WhereOption = None,
    where_only: WhereOnlyOption = None,
    steps: StepsOption = None,
    points: PointsOption = None,
    split: SplitOption = None,
    bounds: BoundsOption = None,
    fix: FixOption = None,
    bound: BoundOption = None,
    seed: SeedOption = 0,
) -> None:
    """Write the report: figures, tables and what is not identified.

    Its choices are those of `scaling fit`, over those of the study. Prints the path of the page.
    """
    from analysis.curves.load import load
    from analysis.fitting.choices import choose_for
    from analysis.reporting import report as write_report

    curves = load(source)
    choices = choose_for(curves, {
        "law": law, "x": x, "size_column": size_column, "objective": objective, "where": where,
        "where_only": where_only, "steps": steps, "points": points, "split": split, "seed": seed, "bounds": bounds,
        "fix": fix, "bound": bound,
    })  # fmt: skip
    if out is not None:
        make_folder(output_folder(out))
    print(write_report(curves, choices, out))


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
                    {"name": p.name, "unit": p.unit, "meaning": law.meaning(p), "per_size": p.per_size}
                    for p in law.parameters
                ],
            }
            for law in known
        ]
        print(json.dumps({"laws": document}, indent=2))
        return
    for law in known:
        of_each = [p.name for p in law.parameters if p.per_size]
        named = [*(p.name for p in law.shared), *([f"{', '.join(of_each)} for each {law.each}"] if of_each else [])]
        open_console().print(
            f"{law.name}\n  {law.formula}   ({law.citation})\n  parameters  {', '.join(named)}\n"
            f"  predicts    {law.predicts}"
        )
