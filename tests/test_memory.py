"""Memory on GPUs by formula against bytes that are really allocated, and the plan of the reference study."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from scaling import cli, memory
from scaling.compute import Shape
from scaling.config.run import RunConfig
from scaling.models import MODELS
from scaling.optim import policy_optimizer
from scaling.rollout_types import Prompt, SamplingParams
from scaling.rollouts import load_engine
from scaling.schema import InputError
from sweeps.cost import Estimator
from sweeps.plan import make_plan
from sweeps.study import load_study, parse_study

SHAPE = {"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2}
KINDS = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}


def model_of(kind="qwen2", layers=2, vocabulary=96, **changes):
    config, model = KINDS[kind]
    return model(config(vocab_size=vocabulary, num_hidden_layers=layers, **{**SHAPE, **changes}))


def config_of(model="qwen2.5-7b", **changes):
    values = {"task": {"name": "math", "train": "x.parquet"}, "rollout": {"group_size": 8, "max_new_tokens": 4096}}
    values |= {"data": {"prompts_per_step": 512}, "loss": {"updates_per_batch": 4, "kl_weight": 0.001}}
    resources = {"engine": "hf", "forward": "plain", "gradient_checkpointing": True, "parallel": "fsdp", "gpus": 4}
    resources |= {"micro_batch_tokens": 24576, "rollout_sequences": 128, **changes.pop("resources", {})}
    dtype = changes.pop("dtype", "bfloat16")
    return RunConfig.model_validate(
        {**values, "resources": resources, "model": {"size": model, "dtype": dtype}, **changes}
    )


def parts_of(config, shape):
    return memory.memory(config, shape, memory.layout_of(config))


def allocated(tensors):
    """Bytes of the distinct storages behind some tensors."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def test_weights_gradients_and_optimizer_are_the_bytes_that_training_allocates():
    model = model_of()
    shape = Shape.from_transformers(model.config.to_dict())
    config = config_of("qwen2.5-0.5b", resources={"gpus": 1, "parallel": "ddp"})
    optimizer = policy_optimizer(model, config.optimizer)
    model(input_ids=torch.arange(8)[None]).logits.sum().backward()
    optimizer.step()
    parts = parts_of(config, shape)
    assert parts["weights"] == allocated(model.parameters())
    assert parts["gradients"] == allocated(p.grad for p in model.parameters())
    moments = [value for state in optimizer.state.values() for value in state.values() if value.ndim]
    assert parts["optimizer"] == allocated(moments)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sampler_and_cache_are_the_bytes_that_sampling_allocates(dtype, monkeypatch):
    model, most = model_of(), []
    update = DynamicCache.update

    def watched(cache, *arguments, **options):
        found = update(cache, *arguments, **options)
        most.append(allocated(x for layer in cache.layers if layer.is_initialized for x in (layer.keys, layer.values)))
        return found

    monkeypatch.setattr(DynamicCache, "update", watched)
    engine = load_engine("hf", allowed_V=np.ones(96, bool), end_ids=[95], dtype=dtype)
    engine.load_weights(model, 0)
    engine.generate([Prompt("", tuple(range(9)), i) for i in range(3)], 2, SamplingParams(1.0, 8, 0, "rollout", 1))
    shape = Shape.from_transformers(model.config.to_dict())
    config = config_of(
        dtype=dtype, rollout={"group_size": 2, "max_new_tokens": 7}, data={"prompts_per_step": 3},
        loss={}, resources={"gpus": 1, "rollout_sequences": 6},
        task={"name": "math", "train": "x", "max_prompt_tokens": 9},
    )  # fmt: skip
    parts = parts_of(config, shape)
    assert parts["sampler"] == allocated(engine.model.parameters())
    # The last token is never fed: 9 of the prompt and 7 of 8 of the response; one layer stands twice while it grows.
    assert parts["cache"] * 2 / 3 == max(most) == 6 * 16 * memory.cache_bytes(shape, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{}, {"num_key_value_heads": 4}, {"hidden_size": 128, "intermediate_size": 512}])
def test_a_layer_keeps_what_autograd_saves(dtype, kind, changes):
    tokens, found = 256, []
    for layers in (2, 3):
        model, kept = model_of(kind, layers, **changes), []
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}

        def keep(tensor, own=own, kept=kept):
            if tensor.untyped_storage().data_ptr() not in own:
                kept.append(tensor)
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"),
        ):
            model(input_ids=torch.zeros(1, tokens, dtype=torch.int64), use_cache=False, logits_to_keep=1)
        found.append(allocated(kept))
    shape = Shape.from_transformers(model.config.to_dict())
    casts = 2 * shape.product_weights / shape.layers if dtype == "bfloat16" else 0
    assert memory.layer_bytes(shape, dtype) * tokens + casts == pytest.approx(found[1] - found[0], rel=0.03)


def test_seven_billion_parameters_by_hand():
    config, shape = config_of(), MODELS["qwen2.5-7b"].shape
    parts = parts_of(config, shape)
    n = 7_615_616_512
    assert [parts[name] for name in ("weights", "gradients", "optimizer")] == [n, n, 2 * n]  # 4, 4, 8 bytes on 4 GPUs
    assert (parts["sampler"], parts["reference"], parts["exchange"]) == (2 * n, n, 0)
    # 28 layers x 4 heads x 128 x (keys, values) x 2 bytes = 57,344 a token; 128 sequences of 6,144.
    assert parts["cache"] == pytest.approx(57_344 * 128 * 6_144 * 29 / 28)
    layer = (26 * 3584 + 4 * 3584 + 8 * 18_944 + 4 * 512) * 24_576
    assert parts["activations"] == 4 * 28 * 3584 * 24_576 + layer
    assert parts["logits"] == 24 * 2**26
    ddp = parts_of(config_of(resources={"parallel": "ddp"}), shape)
    assert ddp["exchange"] == 4 * n and ddp["weights"] == 4 * n and ddp["gathered"] == 0
    kept = sum(parts[name] for name in memory.KEPT)
    assert parts["total"] == pytest.approx(kept + sum(parts[name] for name in memory.ROLLOUT) + 2e9)


def test_the_layout_is_what_resources_ask_for():
    layout = memory.layout_of(config_of(resources={"nodes": 2}))
    assert layout == memory.Layout("h100", 8, "fsdp", 24_576, 128)
    # Without limits: 128 prompts of a mini-batch over 4 GPUs, 8 sequences of 6,144 each; 512 / 4 x 8 sampled.
    whole = memory.layout_of(config_of(resources={"micro_batch_tokens": None, "rollout_sequences": None}))
    assert (whole.pass_tokens, whole.sequences) == (32 * 8 * 6_144, 1_024)
    assert (
        memory.layout_of(config_of(resources={"micro_batch_tokens": 100})).pass_tokens == 6_144
    )  # a sequence goes alone


@pytest.mark.parametrize("name", ["qwen2.5-0.5b", "qwen2.5-7b", "qwen2.5-32b", "qwen2.5-72b"])
def test_what_would_fit_fits(name):
    config, shape = config_of(name, resources={"rollout_sequences": None}), MODELS[name].shape
    layout = memory.layout_of(config)
    assert not memory.fits(memory.memory(config, shape, layout), layout)
    would = memory.what_would(config, shape, layout)
    assert would is not None and would != layout
    assert memory.fits(memory.memory(config, shape, would), would)
    if name == "qwen2.5-72b":  # 145 GB of it are the sampler's copy
        assert memory.GPUS[would.gpu].memory > 145e9
        assert memory.what_would(config, dataclasses.replace(shape, layers=800), layout) is None


def test_more_gpus_never_need_more_memory_or_time():
    config, shape = config_of(), MODELS["qwen2.5-7b"].shape
    layouts = [dataclasses.replace(memory.layout_of(config), gpus=2**i) for i in range(1, 6)]
    totals = [memory.memory(config, shape, layout)["total"] for layout in layouts]
    seconds = [memory.seconds_a_step(config, shape, layout) for layout in layouts]
    assert totals == sorted(totals, reverse=True) and seconds == sorted(seconds, reverse=True)


# ---------------------------------------------------------------- the plan

SIZES = ["qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b", "qwen2.5-7b", "qwen2.5-14b", "qwen2.5-32b", "qwen2.5-72b"]
# C of the published base runs at their last step, 6 N T with nominal N (arXiv 2509.25300, figures).
PUBLISHED = [1.21e18, 4.47e18, 8.50e18, 2.01e19, 4.05e19, 8.45e19, 2.28e20]


def test_the_reference_study_is_planned_for_all_seven_sizes():
    plan = make_plan(load_study("reference-qwen2.5"))
    assert len(plan.runs) == 64 and not plan.bases()
    estimator = Estimator(plan)
    by_name = {run.name: estimator.estimate(run.config) for run in plan.runs}
    ratios = []
    for size, published in zip(SIZES, PUBLISHED, strict=True):
        found = by_name[f"{size}-seed0"]
        assert found.fits and found.gpu_hours and found.gpu_hours > 0 and found.hours is None
        assert found.steps == 105 and found.prompts == 53_760
        nominal = found.train_flops * MODELS[size].nominal / MODELS[size].shape.num_params_non_embedding
        ratios.append(nominal / published)
    assert all(0.85 < ratio < 1.2 for ratio in ratios)  # runs differ in length: 940 to 1,250 tokens a rollout
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)
    assert "MFU" in estimator.basis() and "950 response tokens" in estimator.basis()


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["scaling", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    output = capsys.readouterr()
    return end.value.code or 0, output.out, output.err


def test_plan_prints_what_it_takes_and_launch_refuses_without_the_data(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    status, out, _ = command(monkeypatch, capsys, "sweep", "plan", "reference-qwen2.5")
    assert status == 0
    flat = " ".join(out.split())
    for word in (
        "GPU h",
        "32 B300 fsdp",
        "qwen2.5-72b 872",
        "is not here: launch will refuse",
        "GPU hours in runs",
        "35 % of a GPU's",
    ):
        assert word in flat, word
    status, _, err = command(monkeypatch, capsys, "sweep", "launch", "reference-qwen2.5")
    assert status == 2 and "there is no file data/aime2024.parquet" in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_does_not_fit_comes_with_what_would(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.jsonl").write_text("")
    (tmp_path / "mine.yaml").write_text(
        "study: mine\nrecipe: tan2025\n"
        "base: {model: qwen2.5-14b, task: {name: math, train: x.jsonl}, resources: {gpus: 8, engine: hf}}\n"
    )
    status, out, _ = command(monkeypatch, capsys, "sweep", "plan", "mine.yaml")
    assert status == 0 and "qwen2.5-14b does not fit on 8 H100 ddp; what would: " in out
    status, out, _ = command(monkeypatch, capsys, "sweep", "plan", "mine.yaml", "--json")
    (run,) = json.loads(out)["runs"]
    assert run["fits"] is False and "fsdp" in run["would_fit"]
    assert run["gpu_gb"]["weights"] == pytest.approx(4 * 14.77, abs=0.01)
    assert run["host_gb"] == pytest.approx(8 * 4 * 14.77, abs=0.1)  # ddp: each of the eight reads the weights


def test_a_gpu_that_is_not_known_is_refused():
    values = {"study": "q", "base": {"model": "qwen2.5-7b", "resources": {"gpu_type": "h10"}}}
    with pytest.raises(InputError, match=r"gpu_type.*Did you mean h100"):
        make_plan(parse_study(values, "q.yaml"))
