"""The policy: its sizes, the shared-prefix forward against the plain one, and export to transformers."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_policies import SAMPLING, TASK, engine_with, policy_of, prompts, text_folder
from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM

from scaling import forwards, logprobs
from scaling.ladder import LADDER
from scaling.logprobs import draw_columns, token_logprobs
from scaling.policy import build_policy, count_parameters, load_policy, save_policy
from scaling.schema import InputError

SIZES = {"us": 5_296, "xs": 20_832, "s": 55_824, "m": 151_552, "l": 333_312, "xl": 805_504}


@pytest.mark.parametrize("rung", SIZES)
def test_non_embedding_parameters_are_the_ladders(rung):
    model = build_policy(LADDER[rung], 0, pad_id=TASK.pad_id, end_id=TASK.end_id)
    assert count_parameters(model) == (SIZES[rung] + 32 * LADDER[rung].width, SIZES[rung])


def scores(model, groups, forward, rows=None):
    """(log-probs, entropies, gradients) of a loss that weighs every token differently."""
    model.zero_grad()
    found = token_logprobs(model, groups, rows, allowed_V=TASK.allowed_V, temperature=0.9, forward=forward)
    weight_BT = torch.linspace(-1, 1, found.logprobs_BT.numel()).view(found.logprobs_BT.shape)
    (found.logprobs_BT * weight_BT).sum().backward()
    return found.logprobs_BT.detach(), found.entropy_BT, {n: p.grad.clone() for n, p in model.named_parameters()}


@pytest.mark.parametrize("rung", LADDER)
@pytest.mark.parametrize("rows", [None, [4, 5, 6, 7, 16, 17, 18, 19], [3, 0, 9]], ids=["all", "groups", "any"])
def test_the_shared_prefix_forward_equals_the_plain_one(rung, rows):
    model = policy_of(rung)
    groups = engine_with("native", model).generate(prompts(), 4, SAMPLING)
    assert len(set(groups.lengths_B)) > 2
    plain, shared = (scores(model, groups, forward, rows) for forward in ("plain", "shared_prefix"))
    assert (plain[0] - shared[0]).abs().max() < 1e-5
    assert (plain[1] - shared[1]).abs().max() < 1e-5
    for name, gradient in plain[2].items():
        assert (gradient - shared[2][name]).norm() < 1e-5 * gradient.norm(), name


def agree(one, other, tolerance=1e-5):
    assert (one[0] - other[0]).abs().max() < tolerance and (one[1] - other[1]).abs().max() < tolerance
    for name, gradient in one[2].items():
        assert (gradient - other[2][name]).norm() < tolerance * gradient.norm(), name


@pytest.mark.parametrize("rung", ["us", "l"])
@pytest.mark.parametrize("rows", [None, [3, 0, 9]], ids=["all", "any"])
def test_the_packed_forward_equals_the_plain_one(rung, rows):
    model = policy_of(rung)
    groups = engine_with("native", model).generate(prompts(), 4, SAMPLING)
    agree(*(scores(model, groups, forward, rows) for forward in ("plain", "packed")))


def test_the_packed_forward_attends_within_sequences_only(monkeypatch):
    """Pairs grow with the square of a sequence, not of the row; and what runs plain afterwards is what it was."""
    model, shapes, attend = policy_of("s"), [], torch.nn.functional.scaled_dot_product_attention
    groups = engine_with("native", model).generate(prompts(), 4, SAMPLING)
    before = scores(model, groups, "plain")

    def watched(query, key, *others, **options):
        shapes.append((query.shape[0], query.shape[2], key.shape[2]))
        return attend(query, key, *others, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    scores(model, groups, "packed")
    lengths = np.repeat([len(p.tokens) for p in groups.prompts], 4) + groups.lengths_B - 1
    layers = len(model.model.layers)
    assert sum(batch for batch, _, _ in shapes) == 24 * layers and all(mine == keys for _, mine, keys in shapes)
    assert max(mine for _, mine, _ in shapes) == lengths.max()
    assert lengths.sum() < sum(batch * mine for batch, mine, _ in shapes) / layers < 2 * lengths.sum()
    assert torch.equal(before[0], scores(model, groups, "plain")[0])


def test_chunks_hold_every_token_once_and_pad_to_at_most_twice():
    sizes = np.array([4000, 2100, 1999, 900, 500, 499, 60, 3, 2, 1, 1])
    found = forwards._chunks(sizes, "cpu")
    assert [(n, longest) for *_, n, longest in found] == [(2, 4000), (1, 1999), (3, 900), (1, 60), (2, 3), (2, 1)]
    ends = np.cumsum([6100, 1999, 1899, 60, 5, 2]).tolist()
    assert [(start, end) for start, end, *_ in found] == list(pairwise([0, *ends]))
    for start, end, place, count, longest in found:
        assert len(set(place.tolist())) == end - start >= count * longest / 2 and place.max() < count * longest
    assert found[2][2].tolist() == [*range(1400), *range(1800, 2299)]


def test_a_sliding_window_is_kept():
    groups = engine_with("native", policy_of("us")).generate(prompts(), 2, SAMPLING)
    sizes = {"vocab_size": 32, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    model = MistralForCausalLM(
        MistralConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, sliding_window=8, initializer_range=0.3)
    ).eval()
    narrow = scores(model, groups, "packed")
    agree(narrow, scores(model, groups, "plain"))
    model.config.sliding_window = 4096
    with pytest.raises(AssertionError):
        agree(narrow, scores(model, groups, "plain"))
    agree(*(scores(model, groups, forward) for forward in ("plain", "packed")))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("forward", ["plain", "packed"])
def test_other_architectures_pack_or_run_plain(architecture, forward, tmp_path):
    model = load_policy(text_folder(tmp_path, architecture))
    groups = engine_with("hf", policy_of("us")).generate(prompts(), 2, SAMPLING)  # ids below 264 are ids of both
    agree(*(scores(model, groups, each) for each in ("plain", forward)))
    whole = [model(input_ids=torch.tensor([[*groups.prompts[0].tokens, *groups.responses[0]]])).logits[0]]
    found = token_logprobs(model, groups, [0], allowed_V=np.ones(264, bool), temperature=1.0, forward=forward)
    start, length = len(groups.prompts[0].tokens) - 1, len(groups.responses[0])
    expected_T = torch.log_softmax(whole[0][start : start + length], -1)[range(length), list(groups.responses[0])]
    assert (found.logprobs_BT[0, :length] - expected_T).abs().max() < 1e-5


@pytest.mark.parametrize("forward", forwards.FORWARDS)
def test_the_head_in_pieces_gives_the_same_and_never_holds_all_logits(forward, monkeypatch):
    model = policy_of("s")
    groups = engine_with("native", model).generate(prompts(), 4, SAMPLING)
    whole, most = scores(model, groups, forward), []
    monkeypatch.setattr(logprobs, "LOGITS_AT_A_TIME", 7 * len(TASK.allowed_V))
    model.lm_head.register_forward_hook(lambda _, inputs, logits: most.append(logits.numel()))
    agree(whole, scores(model, groups, forward), 1e-6)
    assert max(most) == logprobs.LOGITS_AT_A_TIME < groups.lengths_B.sum() * len(TASK.allowed_V)


@pytest.mark.parametrize("forward", ["plain", "shared_prefix"])
def test_log_probs_are_those_of_each_sequence_alone(forward):
    model = policy_of("s")
    groups = engine_with("native", model).generate(prompts(), 3, SAMPLING)
    found = token_logprobs(model, groups, allowed_V=TASK.allowed_V, temperature=1.0, forward=forward)
    allowed = np.flatnonzero(TASK.allowed_V)
    for b, response in enumerate(groups.responses):
        prompt = groups.prompts[b // 3].tokens
        with torch.no_grad():
            logits_TV = model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        logprobs_TA = torch.log_softmax(logits_TV[:, allowed], -1)
        column = np.searchsorted(allowed, response)
        expected_T = logprobs_TA[torch.arange(len(response)), column]
        assert (found.logprobs_BT[b, : len(response)] - expected_T).abs().max() < 1e-5
        assert (found.logprobs_BT[b, len(response) :] == 0).all()
        entropy_T = torch.distributions.Categorical(logits=logprobs_TA).entropy()
        assert (found.entropy_BT[b, : len(response)] - entropy_T).abs().max() < 1e-5


def test_a_response_of_one_token():
    model = policy_of("us")
    groups = engine_with("native", model).generate(prompts(2), 2, SAMPLING)
    groups.tokens_BT[:], groups.lengths_B[:] = 0, 1
    groups.tokens_BT[:, 0] = TASK.end_id
    plain, shared = (scores(model, groups, forward) for forward in ("plain", "shared_prefix"))
    assert (plain[0] - shared[0]).abs().max() < 1e-5


def test_forbidden_ids_and_unknown_forwards_are_refused():
    model = policy_of("us")
    groups = engine_with("native", model).generate(prompts(2), 2, SAMPLING)
    with pytest.raises(InputError, match="'shared' is not a known forward"):
        token_logprobs(model, groups, allowed_V=TASK.allowed_V, temperature=1.0, forward="shared")
    groups.tokens_BT[0, 0] = TASK.pad_id
    with pytest.raises(InputError, match=rf"hold the ids \[{TASK.pad_id}\]"):
        token_logprobs(model, groups, allowed_V=TASK.allowed_V, temperature=1.0)


@pytest.mark.parametrize("rung", ["us", "m"])
def test_a_saved_policy_reloads_in_transformers_with_equal_logits(rung, tmp_path):
    model = policy_of(rung)
    save_policy(model, tmp_path)
    tokens = torch.tensor([prompts(1)[0].tokens])
    expected = model(input_ids=tokens).logits
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path)(input_ids=tokens).logits, expected)
    assert torch.equal(load_policy(tmp_path)(input_ids=tokens).logits, expected)
    assert load_policy(tmp_path).config.rope_parameters["rope_theta"] == 100


def test_the_row_of_the_padding_symbol_keeps_its_gradient(tmp_path):
    """nn.Embedding(padding_idx=...) drops it, and the table is tied to the head."""
    save_policy(policy_of("us"), tmp_path)
    model = load_policy(tmp_path)
    model(input_ids=torch.tensor([[TASK.pad_id, 1, 2]])).logits.square().sum().backward()
    assert model.get_input_embeddings().weight.grad[TASK.pad_id].abs().sum() > 0


def test_folders_without_a_model_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        load_policy(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(InputError, match="no causal language model"):
        load_policy(tmp_path)


def test_drawing_inverts_the_cumulative_distribution():
    logprobs = torch.log(torch.tensor([[0.25, 0.0, 0.5, 0.25]])).expand(7, 4)
    uniforms = torch.tensor([0.0, 0.2499, 0.25, 0.7499, 0.75, 0.9999, 1 - 2**-53], dtype=torch.float64)
    assert draw_columns(logprobs, uniforms).tolist() == [0, 0, 2, 2, 3, 3, 3]


@pytest.mark.parametrize("at_a_time", [2**26, 40])
def test_the_entropy_has_a_gradient_where_one_is_asked_for(at_a_time, monkeypatch):
    """That of the entropy by hand; of pieces of the head, which are computed again in the backward pass, too."""
    monkeypatch.setattr(logprobs, "LOGITS_AT_A_TIME", at_a_time)
    model = policy_of("us")
    groups = engine_with("native", model).generate(prompts()[:1], 2, SAMPLING)

    def gradient(entropies):
        model.zero_grad()
        entropies.sum().backward()
        return model.model.norm.weight.grad.clone()

    def found(entropy):
        return token_logprobs(model, groups, allowed_V=TASK.allowed_V, temperature=0.9, entropy=entropy).entropy_BT

    by_hand = []
    for response in groups.responses:
        tokens = groups.prompts[0].tokens
        logits_TV = model(input_ids=torch.tensor([[*tokens, *response]])).logits[0, len(tokens) - 1 : -1]
        logits_TA = logits_TV[:, np.flatnonzero(TASK.allowed_V)] / 0.9
        by_hand.append(torch.distributions.Categorical(logits=logits_TA).entropy().sum())
    torch.testing.assert_close(gradient(found("gradient")), gradient(torch.stack(by_hand)), rtol=1e-3, atol=1e-5)
    assert not found("value").requires_grad and not found("none").any()
    torch.testing.assert_close(found("value"), found("gradient").detach())
