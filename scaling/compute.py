"""FLOPs and parameters of a dense decoder, by formula. No torch: planning uses it as well as the run's ledger.

For L layers, width d, attention width d_a = heads x head_dim, feed-forward matrices and vocabulary V, with n the
weights in matrix products per token without embedding look-up and output head:

    forward of one token at context c    2 n + 2 d V + 4 L d_a c       (the last: QK^T and AV, 2 L d_a c each)
    forward of S tokens                  (2 n + 2 d V) S + 2 L d_a S^2 (the sum over c = 1..S, causal counted as half)
    backward                             2 x forward

Lookups, norms, softmax and activations are left out, as everywhere in the field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling.ladder import VOCABULARY, Rung
from scaling.schema import InputError


@dataclass(frozen=True)
class Shape:
    """A dense decoder of the Qwen2 / Llama kind: gated feed-forward (three matrices), grouped-query attention."""

    width: int
    layers: int
    heads: int
    key_value_heads: int
    head_width: int
    feed_forward: int
    vocabulary: int
    tied: bool = True
    attention_biases: int = 0  # biases on q, k, v (Qwen2): 1, none (Llama): 0

    @classmethod
    def from_rung(cls, rung: Rung, vocabulary: int = VOCABULARY) -> Shape:
        head_width = rung.width // rung.heads
        return cls(rung.width, rung.layers, rung.heads, rung.heads, head_width, rung.feed_forward, vocabulary, True, 1)

    @classmethod
    def from_transformers(cls, config: dict[str, Any]) -> Shape:
        """From the dictionary of a transformers config (Qwen2, Llama and their like); InputError for another kind."""
        wanted = ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"]
        if missing := [key for key in wanted if config.get(key) is None]:
            raise InputError(
                f"a {config.get('model_type')} config has no {', '.join(missing)}; FLOPs are counted for "
                f"dense decoders of the Qwen2 or Llama kind; give such a model."
            )
        heads = config["num_attention_heads"]
        return cls(
            width=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=heads,
            key_value_heads=config.get("num_key_value_heads") or heads,
            head_width=config.get("head_dim") or config["hidden_size"] // heads,
            feed_forward=config["intermediate_size"],
            vocabulary=config["vocab_size"],
            tied=bool(config.get("tie_word_embeddings", False)),
            attention_biases=int(config.get("model_type") == "qwen2" or bool(config.get("attention_bias"))),
        )

    @property
    def attention_width(self) -> int:
        return self.heads * self.head_width

    @property
    def key_value_width(self) -> int:
        return self.key_value_heads * self.head_width

    @property
    def product_weights(self) -> int:
        """n: weights in matrix products per token, without the output head."""
        attention = self.width * (2 * self.attention_width + 2 * self.key_value_width)
        return self.layers * (attention + 3 * self.width * self.feed_forward)

    @property
    def num_params_non_embedding(self) -> int:
        biases = self.attention_biases * (self.attention_width + 2 * self.key_value_width)
        norms = 2 * self.width
        return self.product_weights + self.layers * (biases + norms) + self.width

    @property
    def num_params(self) -> int:
        tables = 1 if self.tied else 2
        return self.num_params_non_embedding + tables * self.width * self.vocabulary

    @property
    def _per_token(self) -> int:
        return 2 * self.product_weights

    @property
    def _per_logit(self) -> int:
        return 2 * self.width * self.vocabulary

    @property
    def _per_pair(self) -> int:
        """QK^T and AV for one query and one key."""
        return 4 * self.layers * self.attention_width


def train_flops(num_params_non_embedding: float, tokens: float) -> float:
    """C = 6 N T (Kaplan et al. 2020): 2 per weight forward, 4 backward. T: prompt + response of every sequence."""
    return 6.0 * num_params_non_embedding * tokens


def forward_flops(shape: Shape, length: np.ndarray | int) -> np.ndarray | float:
    """Forward of whole sequences of `length` tokens, logits at every position: (2 n + 2 d V) S + 2 L d_a S^2."""
    length = np.asarray(length, dtype=float)
    return (shape._per_token + shape._per_logit) * length + shape._per_pair / 2 * length**2


def rollout_flops(
    shape: Shape, prompt_lengths_P: np.ndarray, lengths_PG: np.ndarray, *, prefix_block: int | None = None
) -> float:
    """Prefill of each prompt and one forward per generated token after the first.

    prefix_block: None where a prompt is run once per group; else the tokens of a block of the cache from which the
    second and later samples of a prompt take what they can, 0 without a cache (a prompt is run G times). They take
    whole blocks, but never the last token, whose logits they need: of S tokens c = block x floor((S - 1) / block), and
    run the other S - c, at contexts c + 1 .. S.

    A prefill yields the first token's logits; a response of R tokens then takes R - 1 single-token forwards, at
    contexts S + 1 .. S + R - 1 for a prompt of S tokens. Only the last position of a prefill needs logits.
    """
    prompt_P = np.asarray(prompt_lengths_P, dtype=float)
    lengths_PG = np.asarray(lengths_PG, dtype=float)

    def prefill(cached_P: np.ndarray) -> float:
        pairs_P = shape._per_pair / 2 * (prompt_P**2 - cached_P**2)
        return (shape._per_token * (prompt_P - cached_P) + shape._per_logit + pairs_P).sum()

    prefills = prefill(np.zeros_like(prompt_P))
    if prefix_block is not None:
        cached_P = prefix_block * ((prompt_P - 1) // prefix_block) if prefix_block else np.zeros_like(prompt_P)
        prefills += (lengths_PG.shape[1] - 1) * prefill(cached_P)
    steps_PG = lengths_PG - 1
    # The sum of the contexts S + 1 .. S + R - 1.
    contexts_PG = steps_PG * prompt_P[:, None] + steps_PG * (steps_PG + 1) / 2
    decode_PG = (shape._per_token + shape._per_logit) * steps_PG + shape._per_pair * contexts_PG
    return float(prefills + decode_PG.sum())


def sequence_flops(
    shape: Shape, prompt_lengths_P: np.ndarray, lengths_PG: np.ndarray, *, shared_prompt: bool = True
) -> float:
    """One forward that gives the log-probs of all responses: logits at response positions only.

    With a shared prompt its S tokens are run once per group; a response's R tokens then attend to S + 1 .. S + R.
    """
    prompt_P = np.asarray(prompt_lengths_P, dtype=float)
    lengths_PG = np.asarray(lengths_PG, dtype=float)
    times = 1 if shared_prompt else lengths_PG.shape[1]
    prompts = times * (shape._per_token * prompt_P + shape._per_pair / 2 * prompt_P**2).sum()
    contexts_PG = lengths_PG * prompt_P[:, None] + lengths_PG**2 / 2
    responses = ((shape._per_token + shape._per_logit) * lengths_PG + shape._per_pair * contexts_PG).sum()
    return float(prompts + responses)


def of_equal_group(
    flops: Callable[..., float], shape: Shape, lengths: tuple[float, float], group_size: int, **options: Any
) -> float:
    """`flops` (a function below or above) of one prompt whose G responses are of one length; lengths: (S, R).

    It is linear in G, so that a group of any size is reckoned from two small ones.
    """
    prompt, response = lengths
    one, two = (flops(shape, np.array([prompt]), np.full((1, size), response), **options) for size in (1, 2))
    return one + (group_size - 1) * (two - one)


def update_flops(
    shape: Shape, prompt_lengths_P: np.ndarray, lengths_PG: np.ndarray, *, shared_prompt: bool = True
) -> float:
    """Forward and backward (3 x forward) over the groups given; leave skipped groups out of the arrays."""
    return 3 * sequence_flops(shape, prompt_lengths_P, lengths_PG, shared_prompt=shared_prompt)
