"""Published models: their counts against the architectures themselves, and weights that are not there."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from scaling.base_models import load_base
from scaling.config.identity import run_id
from scaling.config.run import RunConfig
from scaling.ladder import LADDER
from scaling.models import MODELS, find_weights, model_shape
from scaling.policy import count_parameters
from scaling.schema import InputError

# As published: model cards and the safetensors index of each model.
PUBLISHED = {
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones_and_those_of_the_architecture(name):
    shape = MODELS[name].shape
    assert shape.num_params == PUBLISHED[name]
    assert MODELS[f"{name}-instruct"].shape == shape
    kind, model = (Qwen2Config, Qwen2ForCausalLM) if name.startswith("qwen") else (LlamaConfig, LlamaForCausalLM)
    config = kind(
        hidden_size=shape.width, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads, intermediate_size=shape.feed_forward,
        vocab_size=shape.vocabulary, tie_word_embeddings=shape.tied,
    )  # fmt: skip
    with torch.device("meta"):
        built = model(config)
    assert count_parameters(built) == (shape.num_params, shape.num_params_non_embedding)


def test_the_nominal_sizes_are_those_of_the_reference_study():
    sizes = [MODELS[f"qwen2.5-{size}"].nominal for size in ("0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b")]
    assert sizes == [0.5e9, 1.5e9, 3e9, 7e9, 14e9, 32e9, 72e9]
    assert MODELS["smollm2-135m"].nominal == 135e6
    assert MODELS["qwen2.5-0.5b"].shape.num_params_non_embedding == 357_898_112  # compute.md


def test_contexts_and_licences_are_those_of_configs_and_cards():
    contexts = {name: MODELS[name].context for name in PUBLISHED}
    assert {name for name, context in contexts.items() if context == 32_768} == {"qwen2.5-0.5b", "qwen2.5-3b"}
    assert {contexts[name] for name in PUBLISHED if name.startswith("smollm2")} == {8_192}
    assert all(MODELS[f"{name}-instruct"].context == 32_768 for name in PUBLISHED if name.startswith("qwen"))
    licences = {name: MODELS[name].licence for name in PUBLISHED}
    assert licences["qwen2.5-3b"] == "Qwen research" and licences["qwen2.5-72b"] == "Qwen"
    assert licences["llama-3.2-1b"] == "Llama 3.2 community" and licences["llama-3.1-70b"] == "Llama 3.1 community"


def test_names(tmp_path, monkeypatch):
    assert MODELS["qwen2.5-7b-instruct"].hub == "Qwen/Qwen2.5-7B-Instruct"
    assert MODELS["llama-3.2-1b"].hub == "meta-llama/Llama-3.2-1B" and not MODELS["llama-3.2-1b"].chat_template
    assert not set(LADDER) & set(MODELS)
    with pytest.raises(InputError, match=r"Did you mean qwen2\.5-7b"):
        model_shape("qwen2.5-7")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"looked in .*models--Qwen--Qwen2\.5-3B/snapshots.*model\.path"):
        find_weights("qwen2.5-3b")
    folder = tmp_path / "models--Qwen--Qwen2.5-3B" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError, match="not on this machine"):
        find_weights("qwen2.5-3b")
    (folder / "model.safetensors").write_bytes(b"")
    assert find_weights("qwen2.5-3b") == folder


def test_a_published_model_enters_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    small, large = (RunConfig.model_validate({"model": name}) for name in ("qwen2.5-0.5b", "qwen2.5-72b"))
    assert len({run_id(small), run_id(large), run_id(RunConfig.model_validate({"model": "xs"}))}) == 3
    assert not small.model.made
    with pytest.raises(InputError, match="looked in"):
        load_base(small, tmp_path)
