"""The commands of many runs: quickstart and sweep plan, launch, status, logs, verify, repair, retry, cancel, mlflow."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from scaling import record, schema
from scaling.config.checks import check_inputs
from scaling.schema import InputError, check_name
from scaling.terminal import AsJson, make_folder, open_console, output_folder
from scaling.tracking.mirror import Mirror, open_mirror
from scaling.tracking.store import serve as serve_charts
from sweeps import launch as launcher
from sweeps.cluster import Cluster
from sweeps.executors import Pool, load_pool
from sweeps.executors.local import Pool as LocalPool
from sweeps.journal import Journal
from sweeps.look import Look, batch_log
from sweeps.plan import Plan, make_plan, run_documents
from sweeps.printed import show_plan, show_status
from sweeps.reconcile import DAMAGED, DONE, FAILED, LIVE, REPAIR
from sweeps.status import base_statuses, counts, run_state, run_status, shortfall
from sweeps.study import load_study


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
    from analysis.printed import show_findings

    planned, folder = _planned("quickstart", out)
    status = _launch(planned, folder, workers, LocalPool)
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
    planned, folder = _planned(study, out)
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such study folder; `scaling sweep launch` makes it, or give --out.")
    look = None
    if Journal(folder).exists():
        cluster = Cluster(planned, folder, _say)
        look = _watch_slurm(cluster, planned, folder) if watch else cluster.look()
    elif watch:
        raise InputError(f"{folder}: nothing of this study was submitted to SLURM; a local launch shows its progress.")
    statuses = [run_status(run, folder, look and look.runs[run.run_id]) for run in planned.runs]
    bases = base_statuses(planned, look.bases if look else {}, look.jobs if look else {})
    orphans = look.orphans if look else {}
    if as_json:
        runs = [run.document() for run in statuses]
        document = {"study": planned.study.name, "runs": runs, "bases": bases, "orphans": orphans}
        print(json.dumps(document, indent=2))
    else:
        show_status(planned.study.name, statuses, bases, open_console())
        _tell_orphans(look)


def logs(
    study: StudyArgument,
    run: Annotated[str, typer.Argument(help="Name of a run.")],
    out: OutOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run is done or failed.")] = False,
) -> None:
    """Print the log of one run."""
    planned, folder = _planned(study, out)
    by_name = {item.name: item for item in planned.runs}
    named = by_name[check_name(run, by_name, "run of this study")]
    run_folder = named.folder(folder)
    log = run_folder / schema.LOG
    batch = batch_log(folder, Journal(folder).history().submissions.get(named.run_id, []), run_folder)
    if not log.exists() and batch is None:
        raise InputError(f"{run} has no log yet: it has not been started ({log}).")
    with open(log if log.exists() else os.devnull, errors="replace") as file:
        while True:
            over = run_state(named, folder) in (DONE, FAILED, DAMAGED)
            print(file.read(), end="", flush=True)
            if over or not follow or not log.exists():
                break
            time.sleep(0.5)
    if batch is not None:  # its newest job did not come to the run: what SLURM and the shell said of it
        print(f"--- {batch}")
        print(batch.read_text(errors="replace"), end="")


def verify(study: StudyArgument, out: OutOption = None, as_json: AsJson = False) -> None:
    """Name every run whose record is whole, and every one that is not and why.

    Exit status 1 if there is any of the second kind. Says for which whole ones equal bytes are promised.
    """
    from scaling.verify import equal_bytes, problems, sentence

    planned, folder = _planned(study, out)
    problems_of = {run.name: problems(run.folder(folder), run.run_id) or shortfall(run, folder) for run in planned.runs}
    whole = {run.name: equal_bytes(run.folder(folder)) for run in planned.runs if not problems_of[run.name]}
    if as_json:
        bytes_of = {name: one._asdict() for name, one in whole.items()}
        print(json.dumps({"study": planned.study.name, "problems": problems_of, "equal_bytes": bytes_of}, indent=2))
    else:
        for name, texts in problems_of.items():
            print(f"{name}: {'; '.join(texts) if texts else 'whole'}")
        if whole:
            print(sentence(whole))
    if any(problems_of.values()):
        raise typer.Exit(1)


def repair(study: StudyArgument, out: OutOption = None) -> None:
    """Put damaged runs back from what their folders still hold.

    What cannot be put back is set aside, in damaged/ of the study folder, and a launch trains it anew; nothing is lost.
    """
    from scaling.repair import repair as repair_run

    planned, folder = _planned(study, out)
    damaged = [run for run in planned.runs if record.damage(run.folder(folder))]
    place = folder / schema.DAMAGED
    left = 0
    for run in damaged:
        number = next(n for n in itertools.count(1) if not (place / f"{run.run_id}-{n}").exists())
        try:
            print(f"{run.name}: {repair_run(run.folder(folder), run.config, place / f'{run.run_id}-{number}')}")
        except InputError as error:
            left += 1
            print(f"{run.name}: {error}")
    print(f"{len(damaged)} runs were damaged{f', {left} of them are left alone' if left else ''}.")
    if left:
        raise typer.Exit(1)


def retry(study: StudyArgument, out: OutOption = None) -> None:
    """Let the next launch try failed runs again."""
    planned, folder = _planned(study, out)
    on_slurm = Journal(folder).exists()
    names = Cluster(planned, folder, print).retry() if on_slurm else launcher.retry(planned, folder)
    print(f"{len(names)} failed runs will be tried again at the next launch{': ' + ', '.join(names) if names else ''}.")


def cancel(study: StudyArgument, out: OutOption = None) -> None:
    """End the SLURM jobs of this study, and no others.

    A launch resumes its runs from their checkpoints.
    """
    planned, folder = _planned(study, out)
    if not Journal(folder).exists():
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
    planned, folder = _planned(study, out)
    mirror = Mirror(folder)
    updated = mirror.rebuild() if rebuild else mirror.sync()
    while follow:
        if updated.steps or updated.error:
            print(updated, flush=True)
        states = {run_state(run, folder) for run in planned.runs}
        time.sleep(2)
        updated = mirror.sync()  # after the states were read: a run that was over then is sent whole
        if states <= {DONE, FAILED, DAMAGED} and not updated.error:
            break
    mirror.close()
    print(updated)
    if updated.error:
        raise typer.Exit(1)
    if serve:
        raise typer.Exit(serve_charts(mirror.uri, mirror.experiment_id, port))


def _tell_orphans(look: Look | None) -> None:
    """Name the jobs in the queue whose cells were edited out of the study."""
    if look and look.orphans:
        names = sorted({name for some in look.orphans.values() for name in some})
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
        _say(f"{len(look.orphans)} jobs in the queue are of cells that the study no longer has ({shown}); "
             f"`scaling sweep cancel` ends them with the others.")  # fmt: skip


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _planned(study: str, out: Path | None) -> tuple[Plan, Path]:
    """The plan of a study and its folder: --out, the folder that was named, or studies/<name>."""
    loaded = load_study(study)
    folder = out or (Path(study) if os.path.isdir(study) else Path("studies") / loaded.name)
    return make_plan(loaded), output_folder(folder)


def _check_analysis(planned: Plan) -> None:
    """Raise InputError where the study's analysis section could not be used on its runs: before any is trained."""
    study = planned.study
    if not study.analysis:
        return
    from analysis.curves.load import expect
    from analysis.fitting.choices import check_choices
    from analysis.fitting.fit import check_planned

    try:
        expected = expect(run_documents(planned), study.where)
        choices = check_choices(study.analysis, expected)
        if "law" not in study.analysis:  # a law that nobody chose is no mistake: others fit a single size
            choices = choices.with_law("per_size")
        warning = check_planned(choices, expected, study.analysis.get("by"))
    except InputError as error:
        raise InputError(f"{study.where}: analysis: {error}") from None
    if warning:
        _say(f"{study.where}: analysis: {warning}; give more of them, or choose another law.")


def _check_inputs(planned: Plan, folder: Path) -> None:
    """Raise InputError where something is missing that the missing runs read: before anything is written."""
    planned.check_files()
    for run in planned.runs:
        if run_state(run, folder) not in (DONE, DAMAGED):
            check_inputs(run.config)


def _launch(planned: Plan, folder: Path, workers: int | None, pool: type[Pool]) -> int:
    """Fill the slots of a pool and stay until the runs are done; returns the exit status."""
    console = Console(stderr=True)
    _check_inputs(planned, folder)
    make_folder(folder)
    launcher.prepare(planned, folder)
    with _mirrored(planned, folder, console):
        return launcher.launch(planned, folder, workers or os.cpu_count() or 1, console, pool)


def _launch_slurm(planned: Plan, folder: Path, *, dry_run: bool, throttle: int | None, canary: bool, wait: bool) -> int:
    """Submit what is missing; with `wait` stay until the runs are done. Returns the exit status."""
    cluster = Cluster(planned, folder, _say, throttle)
    if dry_run:
        result = cluster.launch(dry_run=True)
        print("\n".join(result.texts))
        show_plan(planned, folder, open_console(stderr=True))
        _say(
            f"dry run: {result.runs} runs and {result.bases} base models in {len(result.texts)} arrays, none submitted."
        )
        return 0
    _check_inputs(planned, folder)
    make_folder(folder)
    launcher.prepare(planned, folder)
    if left_over := launcher.obsolete(planned, folder):
        _say(f"{len(left_over)} runs in the folder are no longer in the study: kept, not analysed.")
    if canary and not cluster.canary():
        return 1
    result = cluster.launch()
    _say(f"study {planned.study.name}: submitted {result.runs} runs and {result.bases} base models; folder {folder}")
    if result.remaining:
        _say(
            f"{result.remaining} runs remain for the next launch: SLURM takes no more now"
            f"{f' ({result.refusals[-1]})' if result.refusals else ''}."
        )
    look = _watch_slurm(cluster, planned, folder) if wait else cluster.look()
    _say(f"study {planned.study.name}: {counts(look.states(planned))}.")
    bad = [run for run in planned.runs if look.runs[run.run_id].state not in (DONE, *LIVE)]
    for run in bad:
        _say(f"  {run.name}: {look.runs[run.run_id].state}, {look.runs[run.run_id].why}")
    if any(look.runs[run.run_id].state == DAMAGED for run in bad):
        _say(f"  {REPAIR}.")
    _tell_orphans(look)
    return int(bool(bad))


def _watch_slurm(cluster: Cluster, planned: Plan, folder: Path) -> Look:
    """Follow the jobs until nothing is left to wait for, and bring MLflow up to date meanwhile."""
    with _mirrored(planned, folder, Console(stderr=True)):
        return cluster.watch()


@contextlib.contextmanager
def _mirrored(planned: Plan, folder: Path, console: Console) -> Iterator[None]:
    """Let the MLflow mirror follow what happens inside; tracking never stops or delays a run."""
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
