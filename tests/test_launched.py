"""What `accelerate launch` says by its environment, against the run."""

import os

import pytest

from scaling.config.run import RunConfig
from scaling.launched import check_launch
from scaling.schema import InputError

CHECKPOINTED = {"forward": "plain", "parallel": "fsdp", "gradient_checkpointing": True}


@pytest.fixture
def told(monkeypatch):
    """Set what a launcher sets, and nothing else of it."""

    def tell(environment: dict[str, str]) -> None:
        for name in (*os.environ, "WORLD_SIZE", "RANK"):
            if name.startswith(("ACCELERATE_", "FSDP_", "MASTER_")) or name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
                monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return tell


def config(resources=None, dtype="float32") -> RunConfig:
    engine = {"engine": "hf", "forward": "plain"}
    return RunConfig.model_validate(
        {"model": {"size": "us", "dtype": dtype}, "resources": {**engine, **(resources or {})}}
    )


LAUNCHED = {
    "ACCELERATE_MIXED_PRECISION": "no",
    "ACCELERATE_DYNAMO_BACKEND": "NO",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "x",
}
SHARDED = {**LAUNCHED, "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "false"}
FSDP = {"parallel": "fsdp"}


@pytest.mark.parametrize(
    ("environment", "resources", "dtype"),
    [
        ({}, {}, "bfloat16"),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "x"}, {}, "bfloat16"),  # torchrun says nothing else
        (LAUNCHED, {}, "float32"),
        (LAUNCHED, {"processes": 2}, "float32"),
        (LAUNCHED, FSDP, "float32"),  # its config says how many processes, the run what they do
        ({**LAUNCHED, "ACCELERATE_MIXED_PRECISION": "bf16"}, {}, "bfloat16"),
        ({"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_CPU": "True"}, {}, "float32"),  # one process
        (SHARDED, FSDP, "float32"),
        ({**SHARDED, "FSDP_ACTIVATION_CHECKPOINTING": "true"}, CHECKPOINTED, "float32"),
    ],
)
def test_what_agrees_with_the_run_is_taken(told, environment, resources, dtype):
    told(environment)
    check_launch(config(resources, dtype), "cpu")


@pytest.mark.parametrize(
    ("changes", "resources", "dtype", "message"),
    [
        ({"WORLD_SIZE": None}, {}, "float32", "asked for several processes on a processor and started one; say dist"),
        ({"WORLD_SIZE": "4"}, {"processes": 2}, "float32", "num_processes: 4; resources.processes on 1 nodes make 2"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, {}, "float32", "mixed_precision: bf16; the run's model.dtype float32"),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, {}, "bfloat16", "mixed_precision: fp16; the run's model.dtype"),
        ({}, {}, "bfloat16", "mixed_precision: no; the run's model.dtype bfloat16 is 'bf16'"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, {}, "float32", "says DEEPSPEED; a run is data parallel"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, {}, "float32", "says MEGATRON_LM"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, FSDP, "float32", "says a parallelism_config"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, {}, "float32", "dynamo_backend: INDUCTOR"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, {}, "float32", "resources.parallel: ddp, set fsdp"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, FSDP, "float32", "set fsdp_version: 2"),
        ({"ACCELERATE_USE_FSDP": "true"}, FSDP, "float32", "set fsdp_version: 2"),
        ({**SHARDED, "FSDP_OFFLOAD_PARAMS": "true"}, FSDP, "float32", "fsdp_offload_params: true"),
        ({**SHARDED, "FSDP_ACTIVATION_CHECKPOINTING": "true"}, FSDP, "float32", "gradient_checkpointing: true in"),
    ],
)  # fmt: skip
def test_what_contradicts_the_run_is_refused_in_one_line(told, changes, resources, dtype, message):
    told({name: value for name, value in {**LAUNCHED, **changes}.items() if value is not None})
    with pytest.raises(InputError, match=message) as refused:
        check_launch(config(resources, dtype), "cpu")
    assert "\n" not in str(refused.value)


def test_a_processor_that_is_asked_for_is_not_a_gpu(told):
    told({**LAUNCHED, "ACCELERATE_USE_CPU": "true"})
    with pytest.raises(InputError, match=r"use_cpu: true; the run computes on cuda:0, set resources.device: cpu"):
        check_launch(config(), "cuda:0")
