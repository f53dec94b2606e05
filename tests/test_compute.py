"""FLOPs and parameters: by hand on a two-layer toy, and against torch's own counter on real models."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny_policies import SAMPLING, policy_of
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, Qwen2Config, Qwen2ForCausalLM

from scaling import compute, ledger
from scaling.compute import Shape
from scaling.ladder import LADDER, ROPE_THETA, VOCABULARY
from scaling.rollout_types import Prompt
from scaling.rollouts import load_engine
from scaling.schema import InputError
from scaling.vllm_server import prefix_block

# Per layer: q 4 x 6, k and v 4 x 3, output 6 x 4 = 72; feed-forward 3 x 4 x 5 = 60. n = 2 x 132 = 264.
TOY = Shape(width=4, layers=2, heads=2, key_value_heads=1, head_width=3, feed_forward=5, vocabulary=7,
            tied=True, attention_biases=1)  # fmt: skip
QWEN_05B = {
    "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "intermediate_size": 4864, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip


def model_config(name: str, **changes) -> Qwen2Config:
    rung = LADDER[name]
    return Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=rung.width, intermediate_size=rung.feed_forward,
        num_hidden_layers=rung.layers, num_attention_heads=rung.heads, num_key_value_heads=rung.heads,
        tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        attn_implementation="eager", **changes,
    )  # fmt: skip


def test_parameters_of_the_ladder():
    counts = {name: Shape.from_rung(rung).num_params_non_embedding for name, rung in LADDER.items()}
    assert counts == {"us": 5_296, "xs": 20_832, "s": 55_824, "m": 151_552, "l": 333_312, "xl": 805_504}
    assert Shape.from_rung(LADDER["us"]).num_params == 5_296 + 32 * 16


def test_parameters_of_published_models():
    shape = Shape.from_transformers(QWEN_05B)
    assert (shape.num_params, shape.num_params_non_embedding) == (494_032_768, 357_898_112)
    # Llama-3.1-8B: untied, no biases; 8,030,261,248 parameters are published.
    llama = LlamaConfig(
        hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        intermediate_size=14336, vocab_size=128256, tie_word_embeddings=False,
    )  # fmt: skip
    assert Shape.from_transformers(llama.to_dict()).num_params == 8_030_261_248


def test_parameters_of_the_toy():
    # Biases 6 + 3 + 3 and two norms of 4 a layer, a last norm of 4; table 7 x 4, twice where untied.
    assert TOY.product_weights == 264
    assert TOY.num_params_non_embedding == 264 + 2 * (12 + 8) + 4 == 308
    assert TOY.num_params == 308 + 28
    assert Shape(**{**TOY.__dict__, "tied": False}).num_params == 308 + 56


@pytest.mark.parametrize("name", LADDER)
def test_shape_equals_the_real_model(name):
    config = model_config(name)
    shape = Shape.from_rung(LADDER[name])
    assert Shape.from_transformers(config.to_dict()) == shape
    with torch.device("meta"):
        assert sum(p.numel() for p in Qwen2ForCausalLM(config).parameters()) == shape.num_params


def test_config_of_another_kind_is_refused():
    with pytest.raises(InputError, match=r"gpt2.*hidden_size"):
        Shape.from_transformers({"model_type": "gpt2", "n_embd": 768})


def test_flops_of_the_toy_by_hand():
    # 2 n + 2 d V = 528 + 56 = 584 a token; 2 L d_a = 24 times S squared.
    assert compute.forward_flops(TOY, 3) == 3 * 584 + 24 * 9 == 1968
    np.testing.assert_array_equal(compute.forward_flops(TOY, np.array([1, 3])), [608, 1968])

    # One prompt of 3 tokens, responses of 2 and 1. Prefill 3 x 528 + 56 + 24 x 9 = 1,856 yields the first tokens;
    # one more forward, at context 4: 584 + 48 x 4 = 776.
    prompts_P, lengths_PG = np.array([3]), np.array([[2, 1]])
    assert compute.rollout_flops(TOY, prompts_P, lengths_PG) == 1856 + 776
    assert compute.rollout_flops(TOY, prompts_P, lengths_PG, prefix_block=0) == 2 * 1856 + 776
    # Blocks of 2: the second sample has 2 of the 3 tokens and runs the last, 528 + 56 + 24 x (9 - 4) = 704. Blocks of 1
    # leave it the same one, as its logits are wanted; blocks of 3 hold nothing that ends before the last token.
    for block, second in ((2, 704), (1, 704), (3, 1856), (16, 1856)):
        assert compute.rollout_flops(TOY, prompts_P, lengths_PG, prefix_block=block) == 1856 + second + 776

    # Log-probs: the prompt without logits 3 x 528 + 216 = 1,800; responses 2 x 584 + 48 x (2 x 3 + 2) = 1,552 and
    # 584 + 48 x (3 + 1/2) = 752.
    assert compute.sequence_flops(TOY, prompts_P, lengths_PG) == 1800 + 1552 + 752
    assert compute.sequence_flops(TOY, prompts_P, lengths_PG, shared_prompt=False) == 2 * 1800 + 1552 + 752
    assert compute.update_flops(TOY, prompts_P, lengths_PG) == 3 * 4104

    assert compute.train_flops(308, 9) == 6 * 308 * 9


def test_sequences_without_sharing_are_whole_forwards_without_the_prompts_logits():
    rng = np.random.default_rng(0)
    shape = Shape.from_rung(LADDER["m"])
    prompts_P, lengths_PG = rng.integers(5, 12, 20), rng.integers(1, 46, (20, 8))
    whole = compute.forward_flops(shape, prompts_P[:, None] + lengths_PG).sum()  # type: ignore[union-attr]
    logits = 2 * shape.width * shape.vocabulary * prompts_P.sum() * 8
    assert compute.sequence_flops(shape, prompts_P, lengths_PG, shared_prompt=False) == pytest.approx(whole - logits)


def test_nothing_trained_costs_nothing():
    none = np.zeros(0, dtype=int), np.zeros((0, 16), dtype=int)
    assert compute.update_flops(TOY, *none) == compute.rollout_flops(TOY, *none) == 0


def uncounted_half(shape: Shape, length: int) -> float:
    """The counter sees the whole square of attention scores, of which half is counted here as causal."""
    return shape.layers * 2 * shape.heads * shape.head_width * length**2


@pytest.mark.parametrize("name", ["us", "s", "xl"])
def test_forward_and_backward_agree_with_torch(name):
    shape, model = Shape.from_rung(LADDER[name]), Qwen2ForCausalLM(model_config(name))
    length, batch = 32, 2
    tokens = torch.zeros(batch, length, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        loss = model(tokens, use_cache=False).logits.sum()
    expected = batch * (compute.forward_flops(shape, length) + uncounted_half(shape, length))
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.01)
    with counter:
        loss.backward()
    assert counter.get_total_flops() == pytest.approx(2 * expected, rel=0.01)  # a new `with` starts at 0


OLD_NAME = "ignore:.past_key_values. is deprecated"  # its new name is unknown to transformers 5.0


@pytest.mark.filterwarnings(OLD_NAME)
@pytest.mark.parametrize("name", ["us", "m"])
def test_rollout_agrees_with_torch(name):
    shape, model = Shape.from_rung(LADDER[name]), Qwen2ForCausalLM(model_config(name))
    prompt, response = 12, 20
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = model(torch.zeros(1, prompt, dtype=torch.int64), use_cache=True, logits_to_keep=1)
        for _ in range(response - 1):
            output = model(torch.zeros(1, 1, dtype=torch.int64), past_key_values=output.past_key_values)
    expected = compute.rollout_flops(shape, np.array([prompt]), np.array([[response]]))
    assert counter.get_total_flops() == pytest.approx(expected + uncounted_half(shape, prompt), rel=0.01)


# ---------------------------------------------------------------- what each engine computes


def counted(name, lengths, group_size, end_ids=(), rung="m"):
    """(FLOPs that torch counts while an engine samples, its rollouts, shape). Every id is allowed, as the formula has
    it."""
    model = policy_of(rung)
    model.set_attn_implementation("eager")
    engine = load_engine(name, allowed_V=np.ones(VOCABULARY, dtype=bool), end_ids=end_ids)
    engine.load_weights(model, 0)
    prompts = [Prompt("", tuple(range(1, 1 + length)), i) for i, length in enumerate(lengths)]
    with FlopCounterMode(display=False) as counter:
        rollouts = engine.generate(prompts, group_size, SAMPLING)
    return counter.get_total_flops(), rollouts, Shape.from_rung(LADDER[rung])


@pytest.mark.parametrize("name", ["hf", "native"])
@pytest.mark.parametrize("group_size", [1, 4])
def test_a_prompt_is_run_once_per_group(name, group_size):
    seen, rollouts, shape = counted(name, [12, 12], group_size)
    expected = ledger.rollout_flops(shape, rollouts) + 2 * uncounted_half(shape, 12)
    assert rollouts.truncated_B.all() and rollouts.prefix_block is None
    assert seen == pytest.approx(expected, rel=0.02)


def test_hf_decodes_what_is_running_and_native_a_little_more():
    ends = tuple(range(0, VOCABULARY, 8))
    seen, rollouts, shape = counted("hf", [12, 12], 8, ends)
    expected = ledger.rollout_flops(shape, rollouts) + 2 * uncounted_half(shape, 12)
    assert 0 < rollouts.truncated_B.sum() < 16 or rollouts.lengths_B.std() > 0
    assert seen == pytest.approx(expected, rel=0.02)
    more, same, _ = counted("native", [12, 12], 8, ends)
    assert (same.lengths_B == rollouts.lengths_B).all()
    assert expected < more < 1.12 * expected  # a tenth of a batch may have finished and run on


def test_padding_is_not_counted():
    """Prompts of 4 and 16 tokens side by side are run as two of 16."""
    seen, rollouts, shape = counted("hf", [4, 16], 2)
    _, even, _ = counted("hf", [16, 16], 2)
    assert ledger.rollout_flops(shape, rollouts) < ledger.rollout_flops(shape, even)
    assert seen == pytest.approx(ledger.rollout_flops(shape, even) + 2 * uncounted_half(shape, 16), rel=0.02)


def test_the_ledger_takes_the_engines_word():
    _, rollouts, shape = counted("hf", [12, 12], 4)
    lengths = np.array([12, 12]), rollouts.lengths_B.reshape(2, 4)
    found = ledger.rollout_flops(shape, dataclasses.replace(rollouts, prefix_block=8))
    assert found == compute.rollout_flops(shape, *lengths, prefix_block=8) > ledger.rollout_flops(shape, rollouts)


@pytest.mark.filterwarnings(OLD_NAME)
@pytest.mark.parametrize("block", [0, 4, 5, 16])
def test_a_prefix_cache_in_blocks_agrees_with_torch(block):
    shape, model = Shape.from_rung(LADDER["m"]), Qwen2ForCausalLM(model_config("m")).eval()
    prompt, samples = 16, 3
    cached = block * ((prompt - 1) // block) if block else 0
    assert cached == {0: 0, 4: 12, 5: 15, 16: 0}[block]
    ids = torch.zeros(1, prompt, dtype=torch.int64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(ids, use_cache=True, logits_to_keep=1)
        for _ in range(samples - 1):
            held = None
            if cached:
                with FlopCounterMode(display=False) as apart:  # what an earlier sample has left
                    held = model(ids[:, :cached], use_cache=True, logits_to_keep=1).past_key_values
            model(ids[:, cached:], past_key_values=held, use_cache=True, logits_to_keep=1)
    spent = (samples - 1) * apart.get_total_flops() if cached else 0
    lengths_PG = np.ones((1, samples))
    expected = compute.rollout_flops(shape, np.array([prompt]), lengths_PG, prefix_block=block)
    # The counter sees the square of the tokens that are run; half of it is counted here.
    seen_too = uncounted_half(shape, prompt) + (samples - 1) * uncounted_half(shape, prompt - cached)
    assert counter.get_total_flops() - spent == pytest.approx(expected + seen_too, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "on_cpu", "block"),
    [
        ((), True, 128), ((), False, 16), (("--block-size", "32"), True, 32), (("--block-size=64",), False, 64),
        (("--no-enable-prefix-caching",), False, 0), (("--no_enable_prefix_caching", "--block-size", "32"), True, 0),
    ],
)  # fmt: skip
def test_the_block_of_vllms_cache(arguments, on_cpu, block):
    assert prefix_block(arguments, on_cpu) == block
