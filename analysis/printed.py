"""What the commands of `analysis.commands` print for people."""

from __future__ import annotations

from pathlib import Path

from analysis.laws import get_law
from analysis.words import study_in_words
from scaling.terminal import few_names, interval, number, open_console, print_table


def show_rows(where: str | None) -> None:
    """Which rows an answer is made of, where it is not made of all."""
    if where:
        open_console().print(f"rows        where {where}")


def show_frontier(record: dict) -> None:
    console, x, each = open_console(), record["x"], record["each"]
    show_verdict(console, record["verdict"])
    if record["where"]:
        console.print(f"rows        where {record['where']}; of group sizes and reuse all")
    sized = lambda value: number(value, "parameters")  # noqa: E731
    for name, title, show in (("sizes", each, sized), ("group_size", "group size", number)):
        part = record[name]
        if "error" in part:
            console.print(f"best {title}: {part['error']}")
            continue
        rows = [
            [
                number(s["from"]), number(s["to"]),
                show(s["best"]) + ("" if s["compared"] else " (no other was run here)"),
                ", ".join(map(show, s["not_rejected"])) or "-",
            ]
            for s in part["segments"]
        ]  # fmt: skip
        print_table(console, f"best {title} by {x}", ["from", "to", "best", "indistinguishable from it"], rows)
        for s in part["switches"]:
            if s["kind"] == "crossover":
                known = number(s["x"]) if s["identified"] else f"not identified (they cross at {number(s['x'])})"
                console.print(f"crossover   {show(s['before'])} to {show(s['after'])}: {known} {interval(s['ci95'])}")
        law = part.get("law")
        if law and "error" not in law:
            console.print(
                f"law of G*   ln G*(C) a sigmoid in ln C from {law['smallest']:.0f} to {law['largest']:.0f}, "
                f"half of the way at {number(law['c_mid'])}, steepness {number(law['steepness'])}"
            )
        elif law:
            console.print(f"law of G*   none: {law['error']}")
    if record.get("untrained") is not None:
        console.print(f"untrained   the best base model has loss {number(record['untrained'])} at no cost")
    part = record["continuous"]
    if "error" not in part:
        rows = []
        for r in part["rows"]:
            optimum = f"(optimum {sized(r['num_params'])})" if r["num_params"] else "(beyond the sizes)"
            best = sized(r["num_params"]) if r["identified"] else f"not identified {optimum}"
            rows.append([number(r["x"]), best, interval(r["ci95"], "parameters")])
        title = f"continuous N* by law {part['law']}; band: {part['band']}"
        if part["per_prompt"] is not None:
            title += f"; {number(part['per_prompt'])} FLOPs per prompt and parameter"
        print_table(console, title, [part["x"], "N*", "95 %"], rows)
    if isinstance(record["crossovers"], list):
        rows = [
            [
                sized(c["smaller"]), sized(c["larger"]), number(c["x"]), interval(c["ci95"]),
                "yes" if c["identified"] else "not identified",
            ]
            for c in record["crossovers"]
        ]  # fmt: skip
        print_table(console, "where neighbours cross", ["smaller", "larger", x, "95 %", "identified"], rows)
    if "error" in (record.get("cost") or {}):
        console.print(f"cost        to a test loss of {record['target']}: {record['cost']['error']}")
    elif record.get("cost"):
        rows = [
            [
                sized(c["num_params"]), number(c["x"]) + (" (extrapolated)" if c["extrapolated"] else ""),
                interval(c["ci95"]), interval(c["if_law_holds"]["ci95"]), c["why"],
            ]
            for c in record["cost"]
        ]  # fmt: skip
        names = ["N", "cost", "95 %", f"95 % if the {_goes_on(record['law'])} goes on", ""]
        print_table(console, f"{x} to a test loss of {record['target']}", names, rows)
    part = record["reuse"]
    if "error" in part:
        console.print(f"data reuse: {part['error']}")
    else:
        rows = [
            [number(r["reuse_factor"]), number(r["difference"]), interval(r["ci95"]), r["basis"]] for r in part["rows"]
        ]
        title = f"final loss ({part['window']}) minus that at tau = {number(part['baseline'])}"
        print_table(
            console, f"{title}, N = {sized(part['num_params'])}", ["tau", "difference", "95 %", "rests on"], rows
        )
        if part["identified"]:
            console.print(f"reuse       worse from tau = {number(part['threshold'])}")
        else:
            tested = number(part["highest_run"])
            console.print(f"reuse       the tau from which the loss is worse is not identified up to {tested}")
    show_warnings(console, record)


def show_laws(record: dict) -> None:
    show_rows(record["where"])
    console = open_console()
    rows = []
    for row in record["rows"]:
        if row["error"]:
            console.print(f"{row['law']}: {row['error']}")
            continue
        gap = row["difference"]
        numbers = [number(row[name]) for name in ("rmse_rolling", "rmse_largest_size", "weight", "qaic")]
        more = "best" if gap is None else f"{gap['mean']:+.2g} {interval(gap['ci95'])}"
        rows.append([row["law"], numbers[0], more, *numbers[1:], str(row["n_parameters"])])
    rows += [[name, number(value), "", "", "", "", ""] for name, value in record["baselines"].items()]
    names = ["law", "rmse ln L", "squared error above best", "largest size", "weight", "QAIC above best", "parameters"]
    title = f"rest of each curve from {', '.join(f'{100 * f:.0f} %' for f in record['origins'])}: "
    print_table(console, title + f"{record['n_held_out']} held-out points of {record['n_runs']} runs", names, rows)
    console.print(record["verdict"])


def show_asymptotes(record: dict) -> None:
    console, by = open_console(), record["by"]
    show_rows(record["where"])
    fitted = f"sigmoids in {record['x']}, fitted from {record['cut']:g} to {record['share']:g} of the compute"
    settings = [*([by] if by else []), *(["condition"] if any(row["condition"] for row in record["rows"]) else [])]
    names = ["N", *settings, "R before", "asymptote A", "95 %", "R at the end", "predicted", "95 %"]
    rows = []
    for row in record["rows"]:
        first = [number(row["num_params"], "parameters"), *(str(row[name]) for name in settings)]
        if "error" in row:
            rows.append([*first, row["error"], *[""] * 5])
            continue
        rest = row["rest"] or {}
        before = number(row["r0"]) + ("" if row["r0_measured"] else " (fitted)")
        rows.append([
            *first, before, number(row["asymptote"]), interval(row["ci95"]), number(rest.get("observed")),
            number(rest.get("predicted")), interval(rest.get("ci95")),
        ])  # fmt: skip
    print_table(console, fitted, names, rows)
    why = {text for row in record["rows"] for text in row.get("warnings", []) if text.startswith("no interval")}
    for text in sorted(why):
        console.print(text)
    for row in record["rows"]:
        if row.get("verdict") and row["verdict"]["verdict"] != "describes":
            of = ", ".join(filter(None, (number(row["num_params"], "parameters"), *(str(row[n]) for n in settings))))
            console.print(f"{of}: {row['verdict']['text']}")
    for one in record["differences"]:
        said = "" if one["established"] else ": not established"
        console.print(
            f"A of {one[by]} minus {one['baseline']} at {number(one['num_params'], 'parameters')}"
            f"{one['condition'] and ', ' + one['condition']}: "
            f"{one['difference']:+.3g} {interval(one['ci95'])}{said}"
        )


def show_pairs(record: dict) -> None:
    show_rows(record["where"])
    console = open_console()
    for study in record["studies"]:
        what = f"{study[record['by']]} against {study['baseline']}{study['condition'] and ', ' + study['condition']}"
        console.print(f"{what}: {study_in_words(study, lambda size: number(size, 'parameters'))}")
    for one in record["comparisons"]:
        gap, level = one["efficiency"], one["level"]
        console.print(
            f"N = {number(one['num_params'], 'parameters')}{one['condition'] and ', ' + one['condition']}: "
            f"{one[record['by']]} minus {one['baseline']}, "
            f"{one['n_pairs']} pairs by seed\n"
            f"  k      {gap['mean']:+.3g} {interval(gap['ci95'])}\n"
            f"  ln L   {level['mean']:+.3g} {interval(level['ci95'])} at {record['x']} = {number(one['level_at'])}"
        )
        rows = [[number(r["loss"]), number(r["multiplier"]), interval(r["ci95"])] for r in one["multiplier"]]
        if rows:
            console.print(f"  to the same loss {one[record['by']]} needs so many times less {record['x']}:")
            print_table(console, "", ["test loss", "multiplier", "95 % band"], rows)
        else:
            console.print(f"  no multiplier: {one['no_multiplier']}")
    for run in record["unpaired"]:
        console.print(f"unpaired    {run}")


def show_predictions(console, record: dict) -> None:
    """The table of a forecast, then what its intervals are made of."""
    rows = [
        [
            number(r["x"]), number(r["x_factor"]),
            loss_cell(r),
            interval(r["ci95_mean"]), interval(r["ci95_run"]),
        ]
        for r in record["predictions"]
    ]  # fmt: skip
    names = [record["x"], "times fitted", "test loss", "95 %, mean curve", "95 %, one measured run"]
    print_table(console, "", names, rows)
    for row in record["predictions"]:
        if row["parts"] is not None:
            console.print(f"run at {number(row['x'])}: {interval_parts(row, record['law'])}")
    if any(row["parts"] is not None for row in record["predictions"]):
        console.print("law         an event after the window leaves no trace in it: the part of the law allows for one")


def loss_cell(row: dict) -> str:
    """The law's loss, or that it is not identified; with the median where the law does not go on."""
    loss = number(row["loss"])
    if not row["identified"] and row["ci95_mean"]:
        return f"not identified (point {loss})"
    return loss if row["median"] is None else f"{loss} (median {number(row['median'])})"


def interval_parts(row: dict, law: str) -> str:
    """`.31-.47 (evaluation and seeds ±.03, parameters ±.01, law ±.06); if the line goes on .36-.41`."""
    ends = lambda interval: "-".join(f"{end:.2f}".removeprefix("0") for end in interval)  # noqa: E731
    half = {name: f"±{value:.2f}".replace("±0", "±") for name, value in row["parts"].items()}
    return (
        f"{ends(row['ci95_run'])} (evaluation and seeds {half['evaluation']}, parameters {half['parameters']}, law "
        f"{half['law']}); if the {_goes_on(law)} goes on {ends(row['if_law_holds']['ci95_run'])}"
    )


def _goes_on(law: str) -> str:
    return "line" if get_law(law).slope is not None else "law"


def show_scores(scores: list[dict]) -> None:
    console = open_console()
    for entry in scores:
        if "error" in entry:
            console.print(f"{entry['protocol']}: {entry['error']}")
            continue
        rows = [
            [name, number(value), number(entry["bias_ln_loss"][name])] for name, value in entry["rmse_ln_loss"].items()
        ]
        print_table(console, entry["protocol"], ["rule", "rmse of ln L", "bias"], rows)
        inside = entry["interval_coverage"]
        covered = "no interval" if inside is None else f"{100 * inside:.0f} % inside the interval of a measured run"
        console.print(
            f"{entry['n_points']} held-out points, X up to {number(entry['x_factor'])} times the fitted; {covered}; "
            f"tuned on them: {entry['tuned_on_held_out']}; leak test: "
            f"{'FAILED, held-out values moved a prediction' if entry['leak'] else 'held-out values moved nothing'}"
        )


def show_fits(record) -> None:
    """A fit, or the fits of `--by`, for people: never a value without its interval or a pooled R2 without its floor."""
    from analysis.intervals.fitted import Fits

    if not isinstance(record, Fits):
        show_fit(record.json())
        return
    for value, one in record.items():
        open_console().rule(f"{record.column} = {value}", align="left")
        show_fit(one.json())
    for value, message in record.failed.items():
        open_console().print(f"{record.column} = {value} could not be fitted: {message}")


def show_fit(record: dict) -> None:
    console = open_console()
    window = record["window"]
    chosen = [f"{name} {window[name]}" for name in ("where", "steps", "points") if window[name]]
    show_verdict(console, record.get("verdict"))
    console.print(f"{record['formula']}   ({record['citation']})")
    console.print(
        f"source      {record['source']}, data {record['data_hash']}\n"
        f"axes        X = {record['x']} ({record['x_unit'] or 'unit not stated'}), N = {record['size_column']} "
        f"({record['size_convention']})\n"
        f"objective   {record['objective']}: {record['objective_meaning']}; weights: {record['weights']}\n"
        + "".join(f"{name:<12}{record[name]}\n" for name in ("fix", "bound") if name in record)
        + f"window      {', '.join(chosen) or 'everything after step 0'}: steps {window['first_step']} to "
        f"{window['last_step']}\n"
        f"used        {record['n_points']} points of {record['n_runs']} runs of {record['n_sizes']} sizes: "
        f"{few_names(record['run_names'])}"
    )
    reasons: dict[str, list[str]] = {}
    for item in record["left_out"]:
        reasons.setdefault(item["reason"], []).append(item["run"])
    for reason, runs in reasons.items():
        console.print(f"left out    {reason}: {few_names(runs)}")
    for note in record["notes"]:
        console.print(f"note        {note}")
    if record["values"]:
        rows = []
        for name, entry in record["values"].items():
            unit, value = entry["unit"], number(entry["value"], entry["unit"])
            shown = value if entry["identified"] else f"not identified (optimum {value})"
            bound = " at a bound" if entry["at_bound"] else ""
            error = number(entry["stderr"], unit)
            ends = "fixed" if "fixed" in entry else interval(entry["ci95"], unit)
            rows.append([name, shown + bound, ends, error, unit])
        print_table(console, "values", ["", "value", "95 % interval", "standard error", "unit"], rows)
    rows = [
        [
            number(row["num_params"], "parameters"), str(row["n_runs"]), str(row["n_points"]),
            number(row["efficiency"]), interval(row["efficiency_ci95"]), number(row["intercept"]),
            number(row["efficiency_law"]), number(row["r2"]), number(row["r2_law"]),
        ]
        for row in record["per_size"][:40]
    ]  # fmt: skip
    first = "N" if record["size_column"].startswith("num_params") else record["size_column"]
    names = [first, "runs", "points", "k, own line", "95 % interval", "E", "k, law", "R2 line", "R2 law"]
    more = len(record["per_size"]) - len(rows)
    print_table(console, "per size" + (f" ({more} more: --json has them all)" if more else ""), names, rows)
    named = list(record["per_size"][0]["values"])
    if not {"efficiency", "intercept"} & set(named) and named:
        rows = [
            [number(row["num_params"], "parameters")]
            + [
                number(row["values"][n]) + (f" {interval(row['values_ci95'][n])}" if n in row["values_ci95"] else "")
                for n in named
            ]
            for row in record["per_size"][:40]
        ]
        known = "95 % intervals" if record["per_size"][0]["values_ci95"] else "no intervals"
        print_table(console, f"parameters of each {first if first != 'N' else 'size'}, {known}", [first, *named], rows)
    good = record["goodness"]
    console.print(
        f"goodness    on L: pooled R2 {number(good['r2_pooled'])}, where k = 0 with a level per size has "
        f"{number(good['r2_pooled_constant'])}; within sizes {number(good['r2_within'])}; "
        f"rmse of ln L {number(good['rmse_ln_loss'])}"
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
    show_warnings(console, record)


def show_correlation(record: dict) -> None:
    """Correlations of the shared parameters at the optimum, and how far they reach two at a time."""
    known = record["diagnostics"]["correlation"]
    if isinstance(known, float):  # of a law with a shape there is one pair
        names = [name for name in record["values"] if "fixed" not in record["values"][name]]
        known = {f"{names[1]}, {names[0]}": known}
    console = open_console()
    if known:
        print_table(console, "correlation", ["parameters", "correlation"], [[k, number(v)] for k, v in known.items()])
    rows = []
    for region in record["contours"]:
        ends = list(zip(*region["outline"], strict=True))
        units = [record["values"][name]["unit"] for name in region["parameters"]]
        rows.append([
            ", ".join(region["parameters"]), f"{100 * region['level']:.0f} %",
            *(interval([min(values), max(values)], unit) for values, unit in zip(ends, units, strict=True)),
            "" if region["closed"] else "open on a side",
        ])  # fmt: skip
    print_table(console, "two parameters at once", ["parameters", "", "first", "second", ""], rows)


def show_verdict(console, verdict: dict | None) -> None:
    """The first line of a fit; nothing of a record that has none."""
    if verdict:
        console.print(f"verdict     {verdict['text']}")


def show_warnings(console, document: dict) -> None:
    """The warnings of a fit or a forecast, but for the verdict, which stands at its head."""
    for warning in document["warnings"]:
        if not (document.get("verdict") and warning.startswith("verdict: ")):
            console.print(f"warning     {warning}")


def _show_consistency(console, record: dict) -> None:
    data, cost = record["axes"]
    rows = [
        [
            number(row["num_params"], "parameters"), number(row["phi"]), number(row["efficiency_data"]),
            number(row["efficiency_compute"]), number(row["difference"]),
            number(row["intercept_compute"] - row["intercept_by_constraint"]),
        ]
        for row in record["per_size"]
    ]  # fmt: skip
    names = ["N", f"{cost} / (N {data})", f"k on {data}", f"k on {cost}", "difference", "E off the constraint"]
    print_table(console, "free fits, line by line", names, rows)
    test, p = record["by_run"], record["by_run"]["p"]
    console.print(
        f"constraint  phi {number(record['phi'])}; mean difference of k over {test['n_runs']} runs "
        f"{number(test['mean_difference'])}, {'no test below three runs' if p is None else f'p = {p:.2g}'}"
    )


def show_findings(study: Path) -> None:
    """What the study's own fit says, in a few lines: k of each size, and which parameters are identified."""
    from analysis.curves.load import load
    from analysis.fitting.choices import choose_for
    from analysis.intervals.fitted import fit_with_intervals

    curves = load(study)
    record = fit_with_intervals(curves, choose_for(curves, {})).json()
    console = open_console()
    show_verdict(console, record.get("verdict"))
    console.print(f"learning efficiency k(N) against {record['x']}, 95 % intervals:")
    for row in record["per_size"]:
        k, ends = number(row["efficiency"]), interval(row["efficiency_ci95"])
        console.print(f"k({number(row['num_params'], 'parameters'):>7}) = {k:<7} {ends}   {row['n_runs']} runs")
    for name, entry in record["values"].items():
        value = number(entry["value"], entry["unit"])
        known = f"= {value}" if entry["identified"] else "not identified"
        console.print(f"{name:<10} {known} {interval(entry['ci95'], entry['unit'])}")


def _show_held_out(console, held: dict | None) -> None:
    if held is None:
        return
    errors = ", ".join(f"{name} {number(value)}" for name, value in held["rmse_ln_loss"].items() if value is not None)
    console.print(
        f"held out    {held['split']}: {held['n_points']} points, X up to {number(held['x_factor'])} times that of "
        f"the fit; rmse of ln L: {errors}; tuned on them: {held['tuned_on_held_out']}"
    )
    if "reason" in held:
        console.print(
            f"            N = {number(held['num_params'], 'parameters')}: {held['reason']}; k by the law "
            f"{number(held['efficiency_law'])} {interval(held['efficiency_law_ci95'])}, by its own line "
            f"{number(held['efficiency_own_line'])}"
        )
