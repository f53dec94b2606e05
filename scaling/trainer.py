"""One run, read top to bottom: prompts, rollouts, rewards, advantages, loss, step, record, evaluate, checkpoint.

Which GRPO this is:
- advantages: (r - mean) / (sd + 1e-6) within the group, sample standard deviation (ddof 1); PAPO adds a process part
  normalised among the correct responses. The trainer only calls a pure function of the rewards.
- loss: PPO clip per token (0.2 / 0.2 by default), summed and divided by the response tokens of the mini-batch (token
  mean) or averaged per response first (sequence mean). An entropy bonus and a KL to the base model only if asked for.
- old log-probs are the sampler's own: sampler and trainer agree to rounding, so no pass is spent on them, unless
  `loss.old_logprobs` says trainer; `logprob_difference` records how well, `loss.mismatch` corrects what is left.
- groups whose advantages are all zero are left out of the forward and backward pass, but counted in the mean.
- train_flops C = 6 N T: N without embeddings, T = prompt + response tokens of every sampled sequence.

Every draw is a function of (seed, purpose, step, prompt): no generator state crosses a step, so a resumed run equals an
uninterrupted one to the byte. Dimension suffixes: see `scaling.rollout_types`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from scaling import checkpoint, process, record, schema
from scaling.algorithm.batch import collect
from scaling.algorithm.grading import Grading
from scaling.algorithm.guard import Guard
from scaling.algorithm.rewards import grade_all
from scaling.algorithm.update import training_row, update_policy
from scaling.base_models import ensure_base, load_base
from scaling.compute import Shape
from scaling.config import RunConfig, is_done, resolve
from scaling.determinism import Determinism, deterministic
from scaling.evaluate import ended_by, evaluate, notes_on_sets
from scaling.files import Row, exclusive
from scaling.launched import check_launch
from scaling.ledger import Ledger, rollout_flops
from scaling.optim import learning_rate, policy_optimizer
from scaling.parallel import Team
from scaling.policy import checkpoint_activations, count_parameters, load_encoding
from scaling.process import Clock, Interrupted
from scaling.prompts import PromptStream
from scaling.rollout_types import SamplingParams
from scaling.rollouts import load_engine
from scaling.tasks import load_task


def train_run(config: RunConfig, folder: Path, artifacts: Path, job: process.Job | None = None) -> None:
    """Train until the stop of `config`, resuming where the run folder allows it; returns once DONE stands there.

    Args:
        config: the run, whole.
        folder: the run folder (created if need be).
        artifacts: folder of base models; the run's own is made if it is missing.
        job: the scheduler's job that this process is. It hears the signals itself, and it takes a run over from an
            older process, which is fenced: a node that was given up may go on for a while.

    Raises Interrupted where TERM or INT came (a checkpoint is written), InputError where the folder belongs to another
    run, is being trained by another process, or cannot be extended. Any other exception is written to FAILED.json, too.
    """
    config = resolve(config)
    device = process.pick_device(config)
    check_launch(config, device)
    team = Team(config.resources.parallel, device, config.model.dtype, config.resources.peer_minutes)
    with exclusive(folder / f"lock{team.rank or ''}", wait=False) as mine, team.working_on(folder):
        if not all(team.all_gather(mine is not None)) and job is None:
            raise schema.InputError(f"{folder}: another process is training this run; wait for it or stop it first.")
        if team.broadcast(is_done(folder, config.stop)):
            return
        # The base comes first: it may have to be made, and until then a signal simply ends the process.
        if team.is_main and config.model.made:  # transformers saves nothing in the other processes
            ensure_base(config, artifacts)
        team.all_gather(None)
        policy = team.model(lambda device: load_base(config, artifacts, device))
        kl = config.loss.kl_weight > 0
        reference = team.model(lambda device: load_base(config, artifacts, device)) if kl else None
        signals = contextlib.nullcontext(job.stopping) if job else process.signals_heard()
        with signals as stopping, deterministic() as determinism:
            run = Run(config, folder, policy, reference, team, determinism)
            with contextlib.closing(run.engine), contextlib.closing(run.grading):
                run.resume(job.info if job else {})
                while not run.finished:
                    run.step_once()
                    run.checkpoint_if_due(stopping)
                run.finish()


class Run:
    """One run in this process: its parts, and how far it has come. The methods stand in the order of their calls.

    Attributes:
        step: the newest step that is whole; -1 before step 0, which only evaluates.
        ledger: what the run has consumed, over all its attempts.
        here: where the run stands, as `StopConfig.reached` takes it; the wall clock is that of process 0.
        finished: whether the stop is reached.
    """

    attempt: record.Attempt
    say: process.Log

    def __init__(self, config: RunConfig, folder: Path, policy, reference, team: Team, determinism: Determinism):
        self.started, self.started_cpu, self.wall_before = time.monotonic(), time.process_time(), 0.0
        torch.set_num_threads(config.resources.threads)
        self.config, self.folder, self.policy, self.reference, self.team = config, folder, policy, reference, team
        self.determinism = determinism
        self.encoding = load_encoding(config.model.folder, policy)
        self.task = team.task(load_task(config.task, self.encoding))
        sampler: Any = {"dtype": config.model.dtype, "device": team.device}
        sampler |= {"allowed_V": self.task.allowed_V, "end_ids": self.task.end_ids}
        self.engine = team.engine(load_engine(config.resources.engine, **sampler), config.resources.rollout_sequences)
        self.num_params, self.non_embedding = count_parameters(policy)
        if config.resources.gradient_checkpointing:
            checkpoint_activations(policy)
        for model in (policy, reference):
            team.shard(model)
        self.optimizer = policy_optimizer(policy, config.optimizer)
        self.stream = PromptStream(self.task, config.data, config.seed, config.model.size or "path")
        self.shape = Shape.from_transformers(policy.config.to_dict())
        self.max_new_tokens = config.rollout.max_new_tokens or self.task.max_new_tokens
        self.grading = Grading(lambda new: grade_all(self.task, new), self.task, config, self.max_new_tokens, team)
        self.ledger, self.step, self.guard = Ledger(), -1, Guard(config.model.dtype)

    def resume(self, info: dict[str, Any]) -> None:
        """Begin an attempt at the newest whole checkpoint, else before step 0. `info` enters attempt.json."""
        team, folder = self.team, self.folder
        number = record.claim_attempt(folder) if team.is_main else 0
        newest = checkpoint.to_resume(folder)
        if newest is not None:
            team.load(self.policy, self.optimizer, newest.state["policy"], newest.state["optimizer"])
            self.ledger, self.step = Ledger(**newest.state["ledger"]), newest.step
            self.wall_before = newest.state["wall_seconds"]
        about = {**team.document(), **info}  # asks all: every process has read the record before one adds to it
        self.attempt = record.Bystander(folder, number)
        if team.is_main:
            process.write_config(self.config, folder, self.num_params, self.non_embedding)
            self.attempt = process.begin_attempt(folder, number, newest, self.config, about)
        process.start_engine(self.engine, self.policy, self.attempt, self.config, team.device, self.determinism)
        self.engine.load_weights(self.policy, self.step)
        self.say = process.Log(self.attempt, self.config.name or folder.name)
        about_sets = notes_on_sets(self.task, self.config.evaluation)  # before task.notes: what it drops stands there
        notes = self.config.algorithm.notes(self.config.rollout.group_size)
        after = f" after checkpoint {self.step}" if newest else ""
        starts = f"attempt {self.attempt.number} starts at step {self.step + 1}{after}"
        for line in (starts, *self.task.notes, *notes, *about_sets):
            self.say(line)
        self.saved_step, self.saved_time = self.step, time.monotonic()
        self.here = self.position()
        self.finished = self.step >= 0 and self.config.stop.reached(**self.here)

    def wall_seconds(self) -> float:
        return self.wall_before + time.monotonic() - self.started

    def position(self) -> dict[str, float]:
        prompts, flops = self.ledger.prompts_seen, self.ledger.train_flops
        wall = self.team.broadcast(self.wall_seconds())
        return {"step": self.step, "prompts_seen": prompts, "train_flops": flops, "wall_seconds": wall}

    def step_once(self) -> None:
        """Train one step, evaluate where that is due, and write its row. Step 0 only evaluates."""
        self.step += 1
        clock = Clock()
        row = self.train(clock) if self.step > 0 else Row()
        clock.update = time.monotonic()
        self.write_row(row | self.evaluate_if_due() | self.task.counts(), clock)

    def train(self, clock: Clock) -> Row:
        """Prompts, rollouts, rewards, advantages, optimizer steps; the columns of the step."""
        config, step, before = self.config, self.step, self.ledger.prompts_seen
        sampling = SamplingParams(config.rollout.temperature, self.max_new_tokens, config.seed, "rollout", step)
        batch = collect(self.engine, sampling, self.grading, self.stream, before, config, self.team)
        clock.rollout, rate = batch.sampled_at, learning_rate(config.optimizer, step, config.stop.steps)
        update = update_policy(
            self.policy, self.optimizer, batch.rollouts, batch.advantage.total_PG, config, rate, self.task.allowed_V,
            self.reference, self.team, self.guard,
        )  # fmt: skip
        self.engine.load_weights(self.policy, step)
        self.consumed, unique = batch.ids, self.stream.distinct(before + len(batch.ids))
        for groups, active_P in batch.counted(update.active_P):
            self.ledger.add_step(self.shape, self.non_embedding, groups, active_P, config, unique)
        return training_row(batch.rollouts, batch.reward, batch.advantage, update, rate) | batch.row

    def evaluate_if_due(self) -> Row:
        """Evaluate by the schedule, at the stop, and where a shorter planned cell stops; the evaluation columns."""
        config, before, longest = self.config, self.here, self.max_new_tokens
        self.here = self.position()
        self.finished = config.stop.reached(**self.here)
        arrived = any(stop.reached(**self.here) and not stop.reached(**before) for stop in config.stop.also_evaluate)
        if not (config.evaluation.due(self.step) or arrived or self.finished):
            return {}
        result = evaluate(
            self.engine, self.task, config.evaluation, seed=config.seed, step=self.step, max_new_tokens=longest
        )
        self.ledger.eval_flops += sum(rollout_flops(self.shape, rollouts) for rollouts in result.rollouts)
        self.attempt.append(schema.OUTCOMES, [result.outcomes])
        self.attempt.append(schema.ROLLOUTS, result.samples)
        loss, flops, ended = result.row["test_loss"], self.ledger.train_flops, ended_by(self.task, result.rollouts[0])
        self.say(f"step {self.step}: test loss {loss:.4f}, {flops:.3g} FLOPs; ended by {ended}")
        return result.row

    def write_row(self, row: Row, clock: Clock) -> None:
        if self.step > 0:
            self.attempt.append(schema.PROMPTS, [{"step": self.step, "ids": self.consumed}])
        self.determinism.tell(self.attempt)
        timing = clock.timing(self.wall_seconds())
        self.attempt.append(schema.CURVE, [{"step": self.step, **self.ledger.row(), **row, "timing": timing}])

    def checkpoint_if_due(self, stopping: Callable[[], bool]) -> None:
        """Save where it is due or the run is asked to stop; then raise Interrupted unless the run is finished."""
        minutes, resources = (time.monotonic() - self.saved_time) / 60, self.config.resources
        due = self.step - self.saved_step >= resources.checkpoint_steps or minutes >= resources.checkpoint_minutes
        due, stopped = self.team.broadcast(due), any(self.team.all_gather(stopping()))
        if due or stopped:
            self.save()
        self.attempt.check_newest()
        if stopped and not self.finished:
            self.close_attempt("interrupted")
            self.say(f"interrupted after step {self.step}; run again to resume")
            raise Interrupted

    def save(self) -> None:
        """A checkpoint of the whole state, unless this step has one."""
        if self.step == self.saved_step:  # the same in every process
            return
        whole, state = self.team.whole(self.policy), {"optimizer": self.team.optimizer_state(self.optimizer)}
        if self.team.is_main and whole is not None:
            state |= {"policy": whole.state_dict(), "ledger": dataclasses.asdict(self.ledger)}
            checkpoint.save(self.attempt, self.step, state | {"wall_seconds": self.wall_seconds()})
        self.saved_step, self.saved_time = self.step, time.monotonic()

    def close_attempt(self, reason: str) -> None:
        self.attempt.update(last_step=self.step, reason=reason, device_seconds=time.monotonic() - self.started)

    def finish(self) -> None:
        """Save, export the model, write the merged record and DONE."""
        self.save()
        whole = self.team.whole(self.policy)
        if self.team.is_main:
            if self.config.resources.export_model:
                process.export_model(whole, self.folder, self.encoding)
            self.close_attempt("done")
            record.finish(self.attempt, self.step, self.config.stop.model_dump(mode="json"))
            if not self.config.resources.keep_final:
                checkpoint.drop_all(self.folder)
        self.team.all_gather(self.step)  # nobody leaves before the record is whole
        self.say(f"done at step {self.step}: {time.process_time() - self.started_cpu:.0f} CPU s")
