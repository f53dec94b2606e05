"""The prompt stream: a pure function of (data config, seed, model, step)."""

import pytest

from scaling.config import DataConfig, HexChainConfig
from scaling.prompts import PromptStream
from scaling.schema import InputError
from scaling.tasks import load_task

TASK = load_task(HexChainConfig())


def stream(seed=0, model="xs", **data) -> PromptStream:
    return PromptStream(TASK, DataConfig(**data), seed, model)


def texts(prompts) -> list[str]:
    return [prompt.text for prompt in prompts]


def test_no_repeats_no_reserved_problems_levels_in_turn():
    prompts = [prompt for t in range(1, 101) for prompt in stream_100.step(t)]
    assert len(set(texts(prompts))) == 1600
    assert not any(TASK.reserved(prompt.text) for prompt in prompts)
    assert [prompt.level for prompt in prompts] == [2, 3, 4, 5] * 400
    assert [prompt.index for prompt in prompts] == list(range(1600))
    assert stream_100.unique(100) == 1600
    assert stream_100.unique(0) == 0


stream_100 = stream()


def test_a_step_does_not_depend_on_what_was_asked_before():
    assert stream().step(7) == stream_100.step(7)
    backwards = stream(prompts_unique=30)
    late = backwards.step(9)
    assert [backwards.step(t) for t in (3, 9)] == [stream(prompts_unique=30).step(3), late]


def test_seeds_and_models_are_independent():
    first = set(texts(stream().step(1)))
    assert not first & set(texts(stream(seed=1).step(1)))
    assert not first & set(texts(stream(model="s").step(1)))
    # Another batch size cuts the same stream elsewhere.
    assert texts(stream(prompts_per_step=32).step(1)) == texts(stream().step(1) + stream().step(2))


def test_pools_are_nested_and_the_first_pass_is_the_stream():
    unlimited = texts(stream(prompts_per_step=64).step(1))
    for pool in (10, 30, 64):
        reused = stream(prompts_unique=pool, prompts_per_step=pool)
        assert texts(reused.step(1)) == unlimited[:pool]
        assert set(texts(reused.step(5))) == set(unlimited[:pool])


def test_passes():
    shuffled = stream(prompts_unique=40, prompts_per_step=40)
    first, second, third = (texts(shuffled.step(t)) for t in (1, 2, 3))
    assert sorted(first) == sorted(second) == sorted(third)
    assert first != second != third != first
    same = stream(prompts_unique=40, prompts_per_step=40, pass_order="same")
    assert texts(same.step(1)) == texts(same.step(2)) == first
    # The place in the stream, not in the pool: repeats of a prompt are sampled with other draws.
    assert [prompt.index for prompt in same.step(2)] == list(range(40, 80))


def test_passes_may_cross_steps():
    reused = stream(prompts_unique=30)  # 16 a step
    prompts = [prompt for t in range(1, 16) for prompt in reused.step(t)]  # 240 = 8 passes
    for start in range(0, 240, 30):
        assert len(set(texts(prompts[start : start + 30]))) == 30
    assert [reused.unique(t) for t in (0, 1, 2, 3)] == [0, 16, 30, 30]


def test_exhausted_level_is_an_error_with_advice():
    # Modulo 10 there are 10 * 27 * 27 = 7,290 problems of level 2, of which 512 are reserved.
    small = PromptStream(load_task(HexChainConfig(modulus=10)), DataConfig(), 0, "xs")
    with pytest.raises(InputError, match=r"level 2 after 27112 distinct prompts; give data\.prompts_unique"):
        small.step(27112 // 16 + 1)


def test_bad_input():
    with pytest.raises(InputError, match="count from 1"):
        stream().step(0)
    with pytest.raises(InputError, match=r"config\.resolve"):
        stream(reuse_factor=32)
