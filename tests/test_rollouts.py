"""What every engine keeps, and engine native against the oracle, transformers, given the same uniforms."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from tiny_policies import SAMPLING, TASK, engine_with, policy_of, prompts
from transformers import GPT2Config, GPT2LMHeadModel

from scaling import rollouts
from scaling.ladder import LADDER
from scaling.logprobs import token_logprobs
from scaling.rollout_types import RolloutGroups
from scaling.schema import InputError

# Those that sample in this process; tests/test_vllm.py has the contract of the one that has servers.
ENGINES = [name for name in rollouts.engine_names() if not rollouts.engine_class(name).SERVER]
EXACT = [name for name in ENGINES if rollouts.engine_class(name).EXACT_DRAWS]


@pytest.fixture(params=ENGINES)
def name(request):
    return request.param


@pytest.fixture(params=EXACT)
def exact(request):
    return request.param


@pytest.fixture(scope="module")
def model():
    return policy_of("xs")


def test_groups_lengths_and_end_tokens(name, model):
    found = engine_with(name, model).generate(prompts(), 5, SAMPLING)
    assert found.tokens_BT.shape == found.logprobs_BT.shape == (30, found.lengths_B.max())
    assert (found.group_size, found.weight_version, len(found.responses)) == (5, 7, 30)
    assert 0 < found.truncated_B.sum() < 30
    for response, truncated in zip(found.responses, found.truncated_B, strict=True):
        assert TASK.allowed_V[list(response)].all()
        assert TASK.end_id not in response[:-1]
        assert (response[-1] != TASK.end_id) == truncated
        assert not truncated or len(response) == 24
    beyond_BT = np.arange(found.tokens_BT.shape[1]) >= found.lengths_B[:, None]
    assert (found.tokens_BT[beyond_BT] == 0).all() and (found.logprobs_BT[beyond_BT] == 0).all()
    assert (found.logprobs_BT[~beyond_BT] < 0).all()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("forward", ["plain", "shared_prefix"])
def test_log_probs_equal_the_trainers(name, model, forward, temperature):
    found = engine_with(name, model).generate(prompts(), 4, dataclasses.replace(SAMPLING, temperature=temperature))
    own = token_logprobs(model, found, allowed_V=TASK.allowed_V, temperature=temperature, forward=forward)
    assert np.abs(own.logprobs_BT.detach().numpy() - found.logprobs_BT).max() < 1e-5


@pytest.mark.parametrize("rung", LADDER)
def test_native_equals_the_oracle_given_the_same_uniforms(rung):
    model = policy_of(rung)
    oracle, native = (engine_with(name, model).generate(prompts(), 6, SAMPLING) for name in ("hf", "native"))
    assert (oracle.tokens_BT == native.tokens_BT).all()
    assert (oracle.lengths_B == native.lengths_B).all() and (oracle.truncated_B == native.truncated_B).all()
    assert np.abs(oracle.logprobs_BT - native.logprobs_BT).max() < 1e-5


def test_native_equals_the_oracle_with_grouped_queries():
    model = policy_of("m")
    config = copy.deepcopy(model.config)
    config.num_key_value_heads = 2
    grouped = type(model)(config).eval()
    oracle, native = (engine_with(name, grouped).generate(prompts(), 6, SAMPLING) for name in ("hf", "native"))
    assert (oracle.tokens_BT == native.tokens_BT).all()
    assert np.abs(oracle.logprobs_BT - native.logprobs_BT).max() < 1e-5


def test_draws_do_not_depend_on_the_batch(exact, model):
    """A prompt's samples are a function of (seed, step, prompt): company, order and group size do not matter."""
    engine, some = engine_with(exact, model), prompts()
    whole = engine.generate(some, 4, SAMPLING).responses
    assert engine.generate(some[::-1], 4, SAMPLING).responses[-4:] == whole[:4]
    assert engine.generate(some[2:3], 2, SAMPLING).responses == whole[8:10]
    other = engine.generate(some, 4, dataclasses.replace(SAMPLING, step=6)).responses
    assert other != whole


def test_weights_change_by_load_weights_only(name, model):
    policy = copy.deepcopy(model)
    engine = engine_with(name, policy)
    before = engine.generate(prompts(), 2, SAMPLING)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.5)
    assert engine.generate(prompts(), 2, SAMPLING).responses == before.responses
    engine.load_weights(policy, 8)
    after = engine.generate(prompts(), 2, SAMPLING)
    assert after.weight_version == 8 and after.responses != before.responses


def test_frequencies_are_those_of_the_policy(name, model):
    """First tokens of 4,000 samples of one prompt against the model's own probabilities."""
    (prompt,) = prompts(1)
    found = engine_with(name, model).generate([prompt], 4000, dataclasses.replace(SAMPLING, max_new_tokens=1))
    with torch.no_grad():
        logits_V = model(input_ids=torch.tensor([prompt.tokens])).logits[0, -1]
    allowed = np.flatnonzero(TASK.allowed_V)
    probability_A = torch.softmax(logits_V[allowed], 0).numpy()
    count_A = (found.tokens_BT[:, :1] == allowed).sum(0)
    error_A = np.sqrt(4000 * probability_A * (1 - probability_A))
    assert (np.abs(count_A - 4000 * probability_A) < 4 * error_A + 1).all()


def test_unknown_engines_and_models_are_refused():
    with pytest.raises(InputError, match=r"'nativ' is not a known rollout engine.*Did you mean native"):
        rollouts.load_engine("nativ", allowed_V=TASK.allowed_V, end_ids=TASK.end_ids)
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=16, n_layer=1, n_head=2, n_positions=64))
    with pytest.raises(InputError, match=r"model_type 'gpt2'.*resources.engine: hf"):
        engine_with("native", gpt2)
    for name in ENGINES:
        if rollouts.engine_class(name).ANY_MODEL:
            assert engine_with(name, gpt2).generate(prompts(2), 2, SAMPLING).responses
    assert "hf" in ENGINES and rollouts.engine_class("hf").ANY_MODEL  # the oracle takes any


def test_what_follows_an_end_is_cleared():
    tokens_BT, logprobs_BT = np.array([[4, 9, 5, 9], [4, 5, 6, 7]]), np.full((2, 4), -0.5, dtype=np.float32)
    cut = RolloutGroups.cut_at_ends(prompts(1), 2, tokens_BT, logprobs_BT, [9], 3)
    assert cut.responses == [(4, 9), (4, 5, 6, 7)] and cut.lengths_B.tolist() == [2, 4]
    assert cut.truncated_B.tolist() == [False, True] and cut.weight_version == 3
    assert cut.logprobs_BT.tolist() == [[-0.5, -0.5, 0, 0], [-0.5] * 4] and cut.logprobs_BT.dtype == np.float32
    short = RolloutGroups.cut_at_ends(prompts(1), 1, np.array([[4, 9, 5]]), logprobs_BT[:1, :3], [9], 0)
    assert short.tokens_BT.tolist() == [[4, 9]]


def test_a_sampler_in_bfloat16_keeps_the_policys_rotary_frequencies(model):
    """Rounded to bfloat16 they are off by up to .4 %: radians, some thousand tokens on. The policy itself stays."""
    engine = rollouts.load_engine("hf", allowed_V=TASK.allowed_V, end_ids=TASK.end_ids, dtype="bfloat16")
    engine.load_weights(model, 0)
    assert {parameter.dtype for parameter in engine.model.parameters()} == {torch.bfloat16}
    buffers = dict(engine.model.named_buffers())
    assert buffers and all(torch.equal(buffers[name], value) for name, value in model.named_buffers())
    assert {buffer.dtype for buffer in buffers.values()} == {torch.float32}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.dtype != torch.bfloat16
    assert engine.generate(prompts(2), 2, SAMPLING).responses
