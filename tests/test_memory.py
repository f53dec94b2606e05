"""Memory on GPUs by formula against bytes that are really allocated, and the plan of the reference study."""

import dataclasses
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from scaling import cli, memory, server_memory
from scaling.compute import Shape, of_equal_group, rollout_flops, sequence_flops
from scaling.config.checks import check_engine
from scaling.config.run import RunConfig
from scaling.models import MODELS
from scaling.optim import policy_optimizer
from scaling.rollout_types import Prompt, SamplingParams
from scaling.rollouts import load_engine
from scaling.schema import InputError
from scaling.seconds import PHASES, seconds_a_step
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
    assert parts["cache"] * 2 / 3 == max(most) == 6 * 16 * server_memory.cache_bytes(shape, dtype)


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
    assert (parts["sampler"], parts["reference"], parts["casts"], parts["server"]) == (2 * n, n, 0, 0)
    # A layer: q and output 3584 x 3584, k and v 3584 x 512, three of 3584 x 18944; biases and norms. Gathered in two
    # bytes with another one and both tables; its gradients are there in two bytes and, while they are summed, in four.
    layer = 2 * 3584**2 + 2 * 3584 * 512 + 3 * 3584 * 18_944 + (3584 + 2 * 512) + 2 * 3584
    assert parts["exchange"] == pytest.approx(6 * layer, rel=1e-4)
    assert parts["gathered"] == pytest.approx(2 * (2 * layer + 2 * 3584 * 152_064), rel=1e-4)
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
    seconds = [sum(seconds_a_step(config, shape, layout).values()) for layout in layouts]
    assert totals == sorted(totals, reverse=True) and seconds == sorted(seconds, reverse=True)


# ---------------------------------------------------------------- vLLM's servers


def served(model="qwen2.5-7b", vllm=None, **resources):
    settings = {"servers": 8, "memory_share": 0.4, "arguments": ["--max-model-len", "6144"], **(vllm or {})}
    return config_of(model, resources={"engine": "vllm", "gpus": 8, "vllm": settings, **resources})


def plan_of(config):
    return SimpleNamespace(runs=[SimpleNamespace(config=config, run_id="a")])


def served_layout(config):
    return memory.layout_of(config, shape=MODELS[config.model.size].shape)


def test_a_server_of_seven_billion_parameters_by_hand():
    config, shape = served(), MODELS["qwen2.5-7b"].shape
    n = 7_615_616_512
    found = server_memory.server_memory(shape, "bfloat16", config.resources.vllm, "h100")
    assert (found["weights"], found["total"]) == (2 * n, 32e9)
    assert found["working"] == 4e9 + 22 * 256 * 152_064
    assert found["cache"] == 32e9 - 2 * n - found["working"]
    assert found["tokens"] == pytest.approx(found["cache"] / 57_344)
    # Two GPUs have two key-value heads each, eight would have one of the four twice over.
    two = server_memory.server_memory(shape, "bfloat16", served(vllm={"tensor_parallel": 2}).resources.vllm, "h100")
    assert two["weights"] == n and two["tokens"] == pytest.approx(two["cache"] / 28_672)
    wide = dataclasses.replace(shape, heads=32)
    eight = server_memory.server_memory(wide, "bfloat16", served(vllm={"tensor_parallel": 8}).resources.vllm, "h100")
    assert eight["tokens"] == pytest.approx(eight["cache"] / 14_336)


def test_a_server_beside_the_trainer_takes_its_share_of_the_gpu():
    config, shape = served(), MODELS["qwen2.5-7b"].shape
    layout = served_layout(config)
    assert (layout.gpus, layout.paid, layout.servers, layout.server_gpus, layout.beside) == (8, 8, 8, 1, True)
    parts = memory.memory(config, shape, layout)
    assert (parts["server"], parts["sampler"], parts["cache"], parts["prefill"], parts["sampling"]) == (
        32e9,
        0,
        0,
        0,
        0,
    )
    without = sum(parts[name] for name in memory.KEPT if name != "server")
    update = sum(parts[name] for name in memory.UPDATE)
    assert parts["total"] == pytest.approx(without + update + 2e9 + 32e9)
    # 256 under way in each at the most; of 625 tokens (prompt 150, half of 950) the cache of 192,799 holds more.
    assert layout.sequences == 8 * 256


def test_a_server_of_its_own_has_the_gpus_that_no_process_trains_on():
    config, shape = served(vllm={"servers": 1, "tensor_parallel": 4}, processes=4, nodes=2), MODELS["qwen2.5-7b"].shape
    layout = served_layout(config)
    assert (layout.gpus, layout.paid, layout.beside) == (8, 16, False)
    assert str(layout).startswith("8+8 H100 fsdp, ") and str(layout).endswith(", 1 vLLM x 4 GPUs, its own")
    spent, gpu_hours = sum(seconds_a_step(config, shape, layout).values()), Estimator(plan_of(config)).estimate(config)
    assert gpu_hours.gpu_hours == pytest.approx(gpu_hours.steps * spent * 16 / 3600), "idle GPUs are paid for, too"
    parts = memory.memory(config, shape, layout)
    assert parts["server"] == 0 and parts["weights"] == 4 * 7_615_616_512 / 8
    crowded = served_layout(served(vllm={"servers": 2, "tensor_parallel": 4}, processes=4, nodes=2))
    assert crowded.beside and crowded.gpus == 8


def test_the_host_holds_a_push():
    config, shape, n = served(), MODELS["qwen2.5-7b"].shape, 7_615_616_512
    assert memory.pushed(config, shape) == 2 * n
    assert memory.host(config, shape, served_layout(config)) == 12 * n + 2 * n + 8 * 2 * 2e9
    assert memory.pushed(config_of(), shape) == 0


@pytest.mark.parametrize(
    ("model", "vllm", "resources", "message"),
    [
        ("qwen2.5-72b", {"servers": 1}, {}, r"15\d\.\d GB on each of its 1 GPUs.*share 0\.4 of H100 is 32\.0"),
        ("qwen2.5-7b", {"tensor_parallel": 2}, {}, r"servers 8 x tensor_parallel 2 is more than the 8 GPUs"),
        ("qwen2.5-7b", {"servers": 1, "tensor_parallel": 8}, {}, r"28 attention and 4 key.*legal are 1, 2, 4\."),
        ("qwen2.5-7b", {"arguments": [], "memory_share": 0.3}, {}, r"one sequence of 131,072 tokens.*--max-model-len"),
        ("qwen2.5-7b", {}, {"memory_gb": 15}, r"memory_gb 15 does not hold the 15\.2 GB .*/dev/shm"),
    ],
)  # fmt: skip
def test_servers_that_would_not_start_are_refused_in_one_line(model, vllm, resources, message):
    with pytest.raises(InputError, match=message) as found:
        check_engine(served(model, vllm, **resources))
    assert "\n" not in str(found.value)


def test_servers_that_start_are_not_refused():
    check_engine(served())
    check_engine(served(memory_gb=16))
    check_engine(served("qwen2.5-72b", {"servers": 1, "tensor_parallel": 8}))
    check_engine(served("qwen2.5-72b", {"servers": 1, "memory_share": 0.9, "tensor_parallel": 2}, gpu_type="h200"))


def test_seconds_of_a_step_by_hand():
    """One server of one GPU on a node of one; 256 sequences under way."""
    config = served("qwen2.5-7b", {"servers": 1}, gpus=1, parallel="ddp")
    shape, layout = MODELS["qwen2.5-7b"].shape, served_layout(config)
    n, found = 7_615_616_512, seconds_a_step(config, shape, layout)
    assert found["push"] == 2 * n / 2e9
    # 4,096 responses of 950 tokens by a server that gives 10,000 a second, if decoding is no slower.
    step = 2 * n / (0.6 * 3.35e12)
    assert step > 28 * 1e-4
    read = 57_344 * 4096 * 950 * (150 + 475) / (0.6 * 3.35e12)
    work = 512 * of_equal_group(rollout_flops, shape, (150, 950), 8, prefix_block=16) / (0.35 * 989e12)
    decoded = 4096 / 256 * 950 * step + read + work
    assert found["generation"] == pytest.approx(max(decoded, 4096 * 950 / 1e4) + (4096 - 950) * step)
    # Updates: forward, backward twice that, forward again for checkpointed layers, and the reference.
    passes = 512 * of_equal_group(sequence_flops, shape, (150, 950), 8, shared_prompt=False)
    assert found["update"] == pytest.approx(5 * passes / (0.35 * 989e12))
    assert found["evaluation"] == 0, "by ratio: few"
    # Steps take longer than checkpoint_minutes, 5: a checkpoint after each.
    assert sum(found.values()) > 300 and found["checkpoint"] == pytest.approx(12 * n / 0.75e9)
    hourly = config.model_copy(update={"resources": config.resources.model_copy(update={"checkpoint_minutes": 1e4})})
    assert seconds_a_step(hourly, shape, layout)["checkpoint"] == pytest.approx(12 * n / 0.75e9 / 10)


def test_more_servers_sample_faster_and_decoding_has_no_push():
    shape, found = MODELS["qwen2.5-7b"].shape, []
    for servers in (1, 2, 4, 8):
        config = served(vllm={"servers": servers})
        found.append(seconds_a_step(config, shape, served_layout(config))["generation"])
    assert found == sorted(found, reverse=True) and found[0] > 3 * found[-1]
    assert seconds_a_step(config_of(), shape, memory.layout_of(config_of()))["push"] == 0


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
        assert found.gpu_phases and list(found.gpu_phases) == list(PHASES) and min(found.gpu_phases.values()) > 0
        assert sum(found.gpu_phases.values()) == pytest.approx(found.gpu_hours)
        assert found.shm_gb == pytest.approx(2 * MODELS[size].shape.num_params / 1e9, abs=0.01)
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
        "128 H100 fsdp",
        "1 vLLM x 8 GPUs, beside the trainer",
        "generation update push checkpoint evaluation",
        "qwen2.5-72b 1036 (145 in /dev/shm)",
        "10,000 tokens a second",
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
