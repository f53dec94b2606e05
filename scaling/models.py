"""Published models by name: their shapes as data, so that N is counted and never remembered. No torch.

Shapes are those of each model's config.json; the parameter counts follow from them (compute.Shape) and are tested
against the architecture built by transformers. A model's weights are found by path, or in the hub's cache.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from scaling.compute import Shape
from scaling.ladder import LADDER, VOCABULARY
from scaling.schema import InputError, check_name


@dataclass(frozen=True)
class Published:
    """One checkpoint. `nominal`: the size in its name, which the reference study uses as N."""

    name: str
    hub: str
    family: str
    nominal: float
    shape: Shape
    context: int
    chat_template: bool
    licence: str
    gpus: int  # of 80 GB or more, see above; scaling.memory says what a layout takes


# name: width, layers, heads, key-value heads, feed-forward, vocabulary, tied; head width where it is not width / heads.
_SHAPES = {
    "qwen2.5-0.5b": (896, 24, 14, 2, 4864, 151936, True),
    "qwen2.5-1.5b": (1536, 28, 12, 2, 8960, 151936, True),
    "qwen2.5-3b": (2048, 36, 16, 2, 11008, 151936, True),
    "qwen2.5-7b": (3584, 28, 28, 4, 18944, 152064, False),
    "qwen2.5-14b": (5120, 48, 40, 8, 13824, 152064, False),
    "qwen2.5-32b": (5120, 64, 40, 8, 27648, 152064, False),
    "qwen2.5-72b": (8192, 80, 64, 8, 29568, 152064, False),
    "llama-3.2-1b": (2048, 16, 32, 8, 8192, 128256, True),
    "llama-3.2-3b": (3072, 28, 24, 8, 8192, 128256, True),
    "llama-3.1-8b": (4096, 32, 32, 8, 14336, 128256, False),
    "llama-3.1-70b": (8192, 80, 64, 8, 28672, 128256, False),
    "smollm2-135m": (576, 30, 9, 3, 1536, 49152, True),
    "smollm2-360m": (960, 32, 15, 5, 2560, 49152, True),
    "smollm2-1.7b": (2048, 24, 32, 32, 8192, 49152, True),
}
_SHORT = ("qwen2.5-0.5b", "qwen2.5-3b")  # base models with 32,768 positions, as all of Qwen2.5-Instruct
_NOMINAL = {"b": 1e9, "m": 1e6}
_GPUS = {"qwen2.5-14b": 8, "qwen2.5-32b": 16, "qwen2.5-72b": 32, "llama-3.1-8b": 8, "llama-3.1-70b": 32}
_OWNERS = {"qwen2.5": "Qwen/Qwen2.5", "llama-3.2": "meta-llama/Llama-3.2", "llama-3.1": "meta-llama/Llama-3.1",
           "smollm2": "HuggingFaceTB/SmolLM2"}  # fmt: skip


def _published() -> dict[str, Published]:
    by_name = {}
    for name, (width, layers, heads, kv_heads, feed_forward, vocabulary, tied) in _SHAPES.items():
        family, size = name.rsplit("-", 1)
        qwen, smol = family == "qwen2.5", family == "smollm2"
        shape = Shape(
            width, layers, heads, kv_heads, width // heads, feed_forward, vocabulary, tied, attention_biases=int(qwen)
        )
        licence = "Apache-2.0" if qwen or smol else f"{family.replace('llama-', 'Llama ')} community"
        if name in ("qwen2.5-3b", "qwen2.5-72b"):
            licence = "Qwen research" if name == "qwen2.5-3b" else "Qwen"
        for variant in ("", "-instruct"):
            context = 8192 if smol else 32768 if qwen and (variant or name in _SHORT) else 131072
            hub = f"{_OWNERS[family]}-{size.upper()}{'-Instruct' if variant else ''}"
            by_name[name + variant] = Published(
                name + variant, hub, family, float(size[:-1]) * _NOMINAL[size[-1]], shape, context,
                qwen or bool(variant), licence, _GPUS.get(name, 4 if not smol else 1),
            )  # fmt: skip
    return by_name


MODELS = _published()


def model_shape(name: str, vocabulary: int = VOCABULARY) -> Shape:
    """The shape of a rung of the ladder, with the task's vocabulary, or of a published model.

    Raises InputError naming the nearest.
    """
    if name in LADDER:
        return Shape.from_rung(LADDER[name], vocabulary)
    return MODELS[check_name(name, [*LADDER, *MODELS], "model")].shape


def find_weights(name: str) -> Path:
    """The folder of a published model's weights in the hub's cache. Raises InputError that says where it looked."""
    model = MODELS[check_name(name, MODELS, "published model")]
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    folder = cache / f"models--{model.hub.replace('/', '--')}" / "snapshots"
    snapshots = sorted(path.parent for path in folder.glob("*/config.json") if any(path.parent.glob("*.safetensors")))
    if not snapshots:
        raise InputError(
            f"model {name}: its weights are not on this machine (looked in {folder}); fetch {model.hub} from the hub, "
            f"or give the folder as model.path."
        )
    return snapshots[-1]
