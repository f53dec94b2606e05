"""The commands of many runs: quickstart and sweep plan, launch, status, logs, verify, retry, cancel, mlflow."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from analysis.printed import show_findings
from scaling.terminal import AsJson, make_folder, open_console, output_folder, print_table
from sweeps.printed import show_plan


def quickstart(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The study folder. [default: studies/quickstart]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Local processes at a time. [default: the number of cores]")
    ] = None,
) -> None:
    """The whole path: train twelve small models, fit, report."""
    from analysis import report as write_report
    from sweeps.executors import load_pool

    planned, folder = _planned("quickstart", out)
    status = _launch(planned, folder, workers, load_pool("local"))
    if status == 130:
        raise typer.Exit(status)
    page = write_report(folder)
    show_findings(folder)
    print(f"report: {page}")
    print(f"curves: make mlflow STUDY={folder}", file=sys.stderr)
    if status:
        raise typer.Exit(status)


StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study file, the name of a shipped study, or a study folder.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="The study folder. Default: studies/<name>.")
]


def plan(study: StudyArgument, out: OutOption = None, as_json: AsJson = False) -> None:
    """Print the runs of a study: what exists, what is missing, what it will cost.

    Writes nothing.
    """
    planned, folder = _planned(study, out)
    _check_analysis(planned)
    show_plan(planned, folder, open_console(), as_json)


def launch(
    study: StudyArgument,
    out: OutOption = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Local processes at a time. Default: the cores.")] = None,
    executor: Annotated[
        str, typer.Option(help="Where runs go: local, slurm, or another of sweeps/executors.")
    ] = "local",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="slurm: print the sbatch text and the costs, submit nothing.")
    ] = False,
    throttle: Annotated[int | None, typer.Option(min=1, help="slurm: jobs of an array at a time.")] = None,
    canary: Annotated[
        bool, typer.Option("--canary", help="slurm: run two steps of one cell first; submit nothing if they fail.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="slurm: stay until the runs are done.")] = False,
) -> None:
    """Run what is missing, on this machine or on SLURM.

    Locally it waits, and Ctrl-C leaves all resumable; on SLURM it submits and returns.
    """
    from scaling.schema import InputError
    from sweeps.executors import load_pool

    pool = load_pool(executor)
    given = {"--dry-run": dry_run, "--throttle": throttle, "--canary": canary, "--wait": wait}
    meant_for_slurm = ", ".join(option for option, value in given.items() if value)
    if pool and meant_for_slurm:
        raise InputError(
            f"launch: {meant_for_slurm} is for SLURM, and the executor is {executor}; add --executor slurm, or "
            f"leave it out (scaling sweep plan shows what a launch would run)."
        )
    if pool is None and workers:
        raise InputError(f"launch: --workers is for the local executor; with --executor {executor} give --throttle.")
    planned, folder = _planned(study, out)
    _check_analysis(planned)
    if pool:
        status = _launch(planned, folder, workers, pool)
    else:
        status = _launch_slurm(planned, folder, dry_run=dry_run, throttle=throttle, canary=canary, wait=wait)
    if status:
        raise typer.Exit(status)


def status(
    study: StudyArgument,
    out: OutOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="slurm: stay, submit lost runs again, bring MLflow up to date.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print where every run stands.

    On SLURM it answers from any shell, whatever became of the launcher.
    """
    from scaling.schema import InputError
    from sweeps.cluster import Cluster
    from sweeps.journal import submitted
    from sweeps.status import counts, run_status

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
    console = open_console()
    columns = ["run", "state", "step", "test loss", "steps/min", "left", "CPU s", "attempts", "steps redone", "why"]
    rows = []
    for run in found:
        loss = "-" if run.test_loss is None else f"{run.test_loss:.3f}"
        step = "-" if run.step is None else f"{run.step} of {run.stop.get('steps', '?')}"
        numbers = [f"{run.cpu_seconds:.0f}", str(run.attempts), str(run.redone_steps)]
        rate = "-" if run.steps_per_minute is None else f"{run.steps_per_minute:.3g}"
        left = "-" if run.minutes_left is None else f"{run.minutes_left:.0f} min"
        rows.append([run.name, run.state, step, loss, rate, left, *numbers, run.failure or run.why])
    print_table(console, f"study {planned.study.name}", columns, rows)
    console.print(counts([run.state for run in found]))


def logs(
    study: StudyArgument,
    run: Annotated[str, typer.Argument(help="Name of a run.")],
    out: OutOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run is done or failed.")] = False,
) -> None:
    """Print the log of one run."""
    import time

    from scaling.config.checks import is_done
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


def verify(study: StudyArgument, out: OutOption = None, as_json: AsJson = False) -> None:
    """Name every run whose record is whole, and every one that is not and why.

    Exit status 1 if there is any of the second kind.
    """
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


def retry(study: StudyArgument, out: OutOption = None) -> None:
    """Let the next launch try failed runs again."""
    from sweeps.cluster import Cluster
    from sweeps.journal import submitted
    from sweeps.launch import retry

    planned, folder = _planned(study, out)
    names = Cluster(planned, folder, print).retry() if submitted(folder) else retry(planned, folder)
    print(f"{len(names)} failed runs will be tried again at the next launch{': ' + ', '.join(names) if names else ''}.")


def cancel(study: StudyArgument, out: OutOption = None) -> None:
    """End the SLURM jobs of this study, and no others.

    A launch resumes its runs from their checkpoints.
    """
    from scaling.schema import InputError
    from sweeps.cluster import Cluster
    from sweeps.journal import submitted

    planned, folder = _planned(study, out)
    if not submitted(folder):
        raise InputError(f"{folder}: nothing of this study was submitted to SLURM; stop a local launch with Ctrl-C.")
    print(f"{Cluster(planned, folder, print).cancel()} jobs cancelled.")


def mlflow(
    study: StudyArgument,
    out: OutOption = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make the study's MLflow runs anew.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until every run is done or failed.")] = False,
    serve: Annotated[bool, typer.Option("--serve", help="Then serve the charts on this machine until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port for --serve.")] = 5000,
) -> None:
    """Bring MLflow up to date with the run folders; --serve shows them.

    Once, or with --follow as they grow.
    """
    import time

    from scaling.schema import RUNS
    from scaling.tracking.mirror import Mirror
    from scaling.tracking.store import serve as serve_charts
    from sweeps.status import run_state

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
    return make_plan(loaded), output_folder(folder)


def _check_analysis(planned) -> None:
    """The study's analysis section, checked before anything is trained that it could not be used on."""
    from scaling.schema import InputError

    study = planned.study
    if not study.analysis:
        return
    from analysis.curves.load import expect
    from analysis.fitting.choices import check_choices
    from sweeps.plan import run_documents

    try:
        check_choices(study.analysis, expect(run_documents(planned), study.where))
    except InputError as error:
        raise InputError(f"{study.where}: analysis: {error}") from None


def _check_inputs(planned, folder: Path) -> None:
    """What the missing runs read is looked for before anything is written or submitted."""
    from scaling.config.checks import check_inputs, is_done
    from scaling.schema import RUNS

    planned.check_files()
    for item in planned.runs:
        if not is_done(folder / RUNS / item.run_id, item.config.stop):
            check_inputs(item.config)


def _launch(planned, folder: Path, workers: int | None, pool) -> int:
    """Fill the slots of a pool and stay until the runs are done; returns the exit status."""

    from rich.console import Console

    from sweeps import launch as launcher

    console = Console(stderr=True)
    _check_inputs(planned, folder)
    make_folder(folder)
    launcher.prepare(planned, folder)
    with _mirrored(planned, folder, console):
        return launcher.launch(planned, folder, workers or os.cpu_count() or 1, console, pool)


def _launch_slurm(planned, folder: Path, *, dry_run: bool, throttle: int | None, canary: bool, wait: bool) -> int:
    """Submit what is missing; with `wait` stay until the runs are done. Returns the exit status."""
    from sweeps.cluster import Cluster
    from sweeps.launch import obsolete, prepare
    from sweeps.reconcile import LIVE
    from sweeps.status import counts

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    cluster = Cluster(planned, folder, say, throttle)
    if dry_run:
        result = cluster.launch(dry_run=True)
        print("\n".join(result.texts))
        show_plan(planned, folder, open_console(stderr=True))
        say(
            f"dry run: {result.runs} runs and {result.bases} base models in {len(result.texts)} arrays, none submitted."
        )
        return 0
    _check_inputs(planned, folder)
    make_folder(folder)
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

    from scaling.tracking.mirror import open_mirror

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
