"""One run, read top to bottom: prompts, rollouts, grades, advantages, loss, step, record, evaluate, checkpoint.

Which GRPO this is:
- advantages: (r - mean) / (sd + 1e-6) within the group, sample standard deviation (ddof 1); PAPO adds a process part
  normalised among the correct responses. The trainer only calls a pure function of the rewards.
- loss: PPO clip per token (0.2 / 0.2 by default), summed and divided by the response tokens of the mini-batch (token
  mean) or averaged per response first (sequence mean). No entropy bonus. KL to the base model, k3, only if asked for.
- old log-probs are the sampler's own: sampler and trainer agree to rounding, so no pass is spent on them;
  `logprob_difference` records how well.
- groups whose advantages are all zero are left out of the forward and backward pass, but counted in the mean.
- train_flops C = 6 N T: N without embeddings, T = prompt + response tokens of every sampled sequence.

Every draw is a function of (seed, purpose, step, prompt): no generator state crosses a step, so a resumed run equals an
uninterrupted one to the byte. Dimension suffixes: _P prompts, _G rollouts of a prompt, _B flat batch, _T tokens.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scaling import checkpoint, files, process, record, schema
from scaling.algorithm.advantages import advantages
from scaling.algorithm.update import update_policy
from scaling.base_models import ensure_base, load_base
from scaling.compute import Shape
from scaling.config import checks, identity
from scaling.config.run import RunConfig
from scaling.evaluate import evaluate, grade_all, notes_on_sets, stop_reasons
from scaling.ledger import Ledger, rollout_flops
from scaling.optim import learning_rate, policy_optimizer
from scaling.parallel import Team
from scaling.policy import checkpoint_activations, count_parameters, load_encoding
from scaling.process import Interrupted
from scaling.prompts import PromptStream
from scaling.rollout_types import SamplingParams
from scaling.rollouts import load_engine
from scaling.tasks import load_task


def train_run(config: RunConfig, run: Path, artifacts: Path, job: process.Job | None = None) -> None:
    """Train until the stop of `config`, resuming where the run folder allows it; returns once DONE stands there.

    Args:
        config: the run, whole.
        run: the run folder (created if need be).
        artifacts: folder of base models; the run's own is made if it is missing.
        job: the scheduler's job that this process is. It hears the signals itself, and it takes a run over from an
            older process, which is fenced: a node that was given up may go on for a while.

    Raises:
        Interrupted: TERM or INT came; a checkpoint is written.
        InputError: the folder belongs to another run, is being trained by another process, or cannot be extended.
        Exception: anything else is also written to FAILED.json.
    """
    config = identity.resolve(config)
    device = process.pick_device(config)
    team = Team(config.resources.parallel, device)
    with contextlib.closing(team), files.exclusive(run / f"lock{team.rank or ''}", wait=False) as mine:
        if not all(team.all_gather(mine is not None)) and job is None:
            raise schema.InputError(f"{run}: another process is training this run; wait for it or stop it first.")
        if team.broadcast(checks.is_done(run, config.stop)):
            return
        try:
            # The base comes first: it may have to be made, and until then a signal simply ends the process.
            if team.is_main and config.model.made:  # transformers saves nothing in the other processes
                ensure_base(config, artifacts)
            team.all_gather(None)
            policy = team.model(lambda device: load_base(config, artifacts, device))
            reference = None
            if config.loss.kl_weight > 0:
                reference = team.model(lambda device: load_base(config, artifacts, device))
            with contextlib.nullcontext(job.stopping) if job else process.signals_heard() as stopping:
                _train(config, run, policy, reference, stopping, team, job.info if job else {})
        except (Interrupted, record.StaleAttempt, schema.InputError):
            raise
        except Exception as error:
            team.fail(run, error)
            raise


def _train(
    config: RunConfig, run: Path, policy, reference, stopping: Callable[[], bool], team: Team, info: dict[str, Any]
) -> None:
    torch.set_num_threads(config.resources.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    started, started_cpu = time.monotonic(), time.process_time()

    # The run's parts.
    encoding = load_encoding(config.model.folder, policy)
    task = load_task(config.task, encoding)
    sampler: Any = {"dtype": config.model.dtype, "device": team.device}
    sampler |= {"allowed_V": task.allowed_V, "end_ids": task.end_ids}
    engine = team.engine(load_engine(config.resources.engine, **sampler), config.resources.rollout_sequences)
    num_params, non_embedding = count_parameters(policy)
    if config.resources.gradient_checkpointing:
        checkpoint_activations(policy)
    team.shard(policy)
    team.shard(reference)
    optimizer = policy_optimizer(policy, config.optimizer)
    stream = PromptStream(task, config.data, config.seed, config.model.size or "path")
    shape = Shape.from_transformers(policy.config.to_dict())
    max_new_tokens = config.rollout.max_new_tokens or task.max_new_tokens
    group_size, ledger, step, wall_before = config.rollout.group_size, Ledger(), -1, 0.0

    # Where to go on: at the newest whole checkpoint, else before step 0.
    number = record.claim_attempt(run) if team.is_main else 0
    found = checkpoint.load_newest(run)
    done = files.read_json(run / schema.DONE)
    if done and (found is None or found.step < done["step"]):
        raise schema.InputError(
            f"{run}: done at step {done['step']} and its final checkpoint was not kept (resources.keep_final), "
            f"so it cannot be extended; move the folder away to train it anew."
        )
    if found is not None:
        team.load(policy, optimizer, found.state["policy"], found.state["optimizer"])
        ledger, step, wall_before = Ledger(**found.state["ledger"]), found.step, found.state["wall_seconds"]
    team.all_gather(step)  # every process has read the record before one of them adds to it
    attempt: record.Attempt = record.Bystander(run, number)
    if team.is_main:
        process.write_config(config, run, num_params, non_embedding)
        processes = {"processes": team.world, "parallel": team.mode} if team.world > 1 else {}
        attempt = record.start_attempt(
            run, number=number, parent=found and found.attempt, first_step=step + 1,
            loaded=found and {"attempt": found.attempt, "step": found.step, "sha256": found.sha256},
            threads=torch.get_num_threads(), **process.versions(), **processes, **info,
        )  # fmt: skip
    engine.load_weights(policy, step)
    say = process.Log(attempt, config.name or run.name)
    say(f"attempt {attempt.number} starts at step {step + 1}" + (f" after checkpoint {step}" if found else ""))
    found = None  # it keeps its file open
    about_sets = notes_on_sets(task, config.evaluation)  # before task.notes: what it leaves out stands there
    for note in (*task.notes, *about_sets):
        say(note)
    saved_step, saved_time = step, time.monotonic()

    def wall_seconds() -> float:
        return wall_before + time.monotonic() - started

    def save() -> None:
        nonlocal saved_step, saved_time
        if step == saved_step:  # the same in every process
            return
        whole, state = team.whole(policy), {"optimizer": team.optimizer_state(optimizer)}
        if team.is_main and whole is not None:
            state |= {"policy": whole.state_dict(), "ledger": dataclasses.asdict(ledger)}
            checkpoint.save(attempt, step, state | {"wall_seconds": wall_seconds()})
        saved_step, saved_time = step, time.monotonic()

    def position() -> dict[str, float]:
        counts = {"step": step, "prompts_seen": ledger.prompts_seen, "train_flops": ledger.train_flops}
        return counts | {"wall_seconds": team.broadcast(wall_seconds())}

    here = position()
    finished = step >= 0 and config.stop.reached(**here)
    while not finished:
        step += 1
        clock = {"start": time.monotonic(), "cpu": time.process_time()}
        row: files.Row = {}
        if step > 0:
            # Prompts and rollouts.
            prompts_P = stream.step(step)
            sampling = SamplingParams(config.rollout.temperature, max_new_tokens, config.seed, "rollout", step)
            rollouts = engine.generate(prompts_P, group_size, sampling)
            clock["rollout"] = time.monotonic()

            # Grades and advantages.
            grades_B = grade_all(task, rollouts)
            outcome_B = np.array([grade.outcome for grade in grades_B])
            process_B = np.array([np.nan if grade.process is None else grade.process for grade in grades_B])
            correct_B = np.array([grade.correct for grade in grades_B])
            careful_B = np.array([grade.careful for grade in grades_B], dtype=float)
            outcome_PG, process_PG, correct_PG = (
                values_B.reshape(-1, group_size) for values_B in (outcome_B, process_B, correct_B)
            )
            advantage = advantages(config.algorithm, outcome_PG, process_PG, correct_PG)

            # Loss and optimizer step.
            rate = learning_rate(config.optimizer, step, config.stop.steps)
            update = update_policy(
                policy, optimizer, rollouts, advantage.total_PG, config, rate, task.allowed_V, reference, team
            )
            engine.load_weights(policy, step)

            # Counts and the row of this step.
            ledger.add_step(shape, non_embedding, rollouts, update.active_P, config, stream.unique(step))
            row = {
                "reward_mean": float(outcome_B.mean()),
                "process_mean": _mean(process_B),
                "process_mean_correct": _mean(process_B[correct_B]),
                "careful_share": _mean(careful_B[correct_B]),
                "response_length_mean": float(rollouts.lengths_B.mean()),
                "response_length_max": int(rollouts.lengths_B.max()),
                "truncated_share": float(rollouts.truncated_B.mean()),
                **update.row,
                "learning_rate": rate,
                "advantage_norm": float(np.sqrt((advantage.total_PG**2).mean())),
                "groups_all_right": float(correct_PG.all(axis=1).mean()),
                "groups_all_wrong": float((~correct_PG).all(axis=1).mean()),
                "groups_active": float((advantage.total_PG != 0).any(axis=1).mean()),
                **task.counts(),
            }
        clock["update"] = time.monotonic()

        # Evaluation: by the schedule, at the stop, and where a shorter planned cell stops.
        before, here = here, position()
        finished = config.stop.reached(**here)
        arrived = any(stop.reached(**here) and not stop.reached(**before) for stop in config.stop.also_evaluate)
        if config.evaluation.due(step) or arrived or finished:
            result = evaluate(
                engine, task, config.evaluation, seed=config.seed, step=step, max_new_tokens=max_new_tokens
            )
            ledger.eval_flops += sum(rollout_flops(shape, rollouts) for rollouts in result.rollouts)
            row |= result.row
            attempt.append(schema.OUTCOMES, [result.outcomes])
            attempt.append(schema.ROLLOUTS, result.samples)
            reasons = stop_reasons(task, result.rollouts[0]).items()
            ended = ", ".join(f"{name} {count}" for name, count in reasons if count)
            say(f"step {step}: test loss {row['test_loss']:.4f}, {ledger.train_flops:.3g} FLOPs; ended by {ended}")

        # Record, then checkpoint.
        if step > 0:
            attempt.append(schema.PROMPTS, [{"step": step, "ids": stream.ids(step)}])
        timing = {
            "time_ms": int(time.time() * 1000),
            "wall_seconds": round(wall_seconds(), 3),
            "cpu_seconds": round(time.process_time() - clock["cpu"], 4),
            "rollout_seconds": round(clock.get("rollout", clock["start"]) - clock["start"], 4),
            "update_seconds": round(clock["update"] - clock.get("rollout", clock["start"]), 4),
            "eval_seconds": round(time.monotonic() - clock["update"], 4),
        }
        attempt.append(schema.CURVE, [{"step": step, **ledger.row(), **row, "timing": timing}])
        minutes, resources = (time.monotonic() - saved_time) / 60, config.resources
        due = step - saved_step >= resources.checkpoint_steps or minutes >= resources.checkpoint_minutes
        due, stopped = team.broadcast(due), any(team.all_gather(stopping()))
        if due or stopped:
            save()
        attempt.check_newest()
        if stopped and not finished:
            attempt.update(last_step=step, reason="interrupted", device_seconds=time.monotonic() - started)
            say(f"interrupted after step {step}; run again to resume")
            raise Interrupted

    save()
    whole = team.whole(policy)
    if team.is_main:
        if config.resources.export_model:
            process.export_model(whole, run, encoding)
        attempt.update(last_step=step, reason="done", device_seconds=time.monotonic() - started)
        record.finish(attempt, step, config.stop.model_dump(mode="json"))
        if not config.resources.keep_final:
            checkpoint.drop_all(run)
    team.all_gather(step)  # nobody leaves before the record is whole
    say(f"done at step {step}: {time.process_time() - started_cpu:.0f} CPU s")


def _mean(values: np.ndarray) -> float | None:
    """Mean of the values that are there; None where there is none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None
