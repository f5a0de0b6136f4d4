"""Hugging Face folders: parity with transformers both ways, and what happens to broken ones."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.parity import ParityTests, reference_of, spread_out

from scratch_llm.generation import SamplingConfig, generate_tokens
from scratch_llm.models import GPT2, GPT2Config, Llama, LlamaConfig, build_model, load_model

transformers = pytest.importorskip("transformers")
transformers.logging.disable_progress_bar()

TOLERANCE = 1e-5

# Odd shapes on purpose: nothing is a power of two, heads wider than d_model / n_heads, one and many groups.
CONFIGS = {
    "llama-mha-tied": LlamaConfig(vocab_size=97, context_length=40, n_layers=2, n_heads=4, d_model=32, d_ff=52),
    "llama-gqa-untied": LlamaConfig(
        vocab_size=101, context_length=40, n_layers=3, n_heads=6, n_kv_heads=2, d_model=42, head_dim=14, d_ff=37,
        rope_theta=500.0, norm_eps=1e-6, tie_embeddings=False,
    ),
    "llama-mqa-odd": LlamaConfig(
        vocab_size=53, context_length=40, n_layers=1, n_heads=3, n_kv_heads=1, d_model=33, head_dim=10, d_ff=65,
        bos_token_id=1, eos_token_id=(2, 3), pad_token_id=0,
    ),
    "gpt2-tied": GPT2Config(vocab_size=97, context_length=40, n_layers=2, n_heads=4, d_model=36),
    "gpt2-untied-odd": GPT2Config(
        vocab_size=59, context_length=40, n_layers=3, n_heads=3, d_model=33, d_ff=47, tie_embeddings=False, norm_eps=1e-4
    ),
}  # fmt: skip


class TestParity(ParityTests):
    CONFIGS = CONFIGS


@pytest.mark.parametrize("name", ["llama-gqa-untied", "gpt2-tied"])
def test_bfloat16_round_trip(name, tmp_path):
    model = spread_out(build_model(CONFIGS[name], seed=0))
    model.save_pretrained(tmp_path, dtype=torch.bfloat16)
    loaded = load_model(tmp_path)
    assert loaded.dtype == torch.bfloat16 and model.dtype == torch.float32
    for key, weight in loaded.state_dict().items():
        assert torch.equal(weight, model.state_dict()[key].bfloat16())
    assert load_model(tmp_path, dtype=torch.float32).dtype == torch.float32
    assert transformers.AutoConfig.from_pretrained(tmp_path).dtype == torch.bfloat16


def test_sharded_folder(tmp_path):
    ours = spread_out(build_model(CONFIGS["llama-gqa-untied"], seed=0))
    theirs = reference_of(ours, tmp_path)
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").is_file()
    loaded = load_model(tmp_path / "shards")
    assert all(torch.equal(weight, ours.state_dict()[name]) for name, weight in loaded.state_dict().items())
    lost = sorted((tmp_path / "shards").glob("model-*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(FileNotFoundError, match=f"{lost.name} is missing"):
        load_model(tmp_path / "shards")
    # Saving over it leaves no index that points at shards that are no longer of this model.
    ours.save_pretrained(tmp_path / "shards")
    assert all(
        torch.equal(w, ours.state_dict()[n]) for n, w in load_model(tmp_path / "shards").state_dict().items()
    )


def test_device_and_no_tensor_left_without_memory(tmp_path):
    build_model(CONFIGS["llama-gqa-untied"]).save_pretrained(tmp_path)
    model = load_model(tmp_path, device="cpu")
    assert {tensor.device.type for tensor in [*model.parameters(), *model.buffers()]} == {"cpu"}


def test_from_pretrained_checks_the_class(tmp_path):
    build_model(CONFIGS["gpt2-tied"]).save_pretrained(tmp_path)
    assert isinstance(GPT2.from_pretrained(tmp_path), GPT2)
    with pytest.raises(ValueError, match="holds a gpt2 model, not llama"):
        Llama.from_pretrained(tmp_path)


def test_bare_gpt2_checkpoint(tmp_path):
    """Names without "transformer.", and the masks that the first checkpoints carry."""
    model = build_model(CONFIGS["gpt2-tied"], seed=0)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    bare = {key.removeprefix("transformer."): tensor for key, tensor in tensors.items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 40, 40).tril()
    save_file(bare, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path)
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in loaded.state_dict().items())


# -- the real checkpoint ------------------------------------------------------------------------------

STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
    "One day, she saw a big, red ball."
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_stories260k_tells_its_story(shared_data, dtype):
    tokenizers = pytest.importorskip("tokenizers")
    folder = shared_data / "tiny_models" / "stories260K" / "hf"
    model = load_model(folder, dtype=dtype)
    assert model.n_parameters() == 260_032
    assert model.config.eos_token_id == (1, 2)
    ids = generate_tokens(model, [1], SamplingConfig(max_new_tokens=60, temperature=0))
    text = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).decode(ids).strip()
    assert text.startswith(
        STORY if dtype == torch.float32 else "Once upon a time, there was a little girl named Lily."
    )


def test_stories260k_logits(shared_data):
    folder = shared_data / "tiny_models" / "stories260K" / "hf"
    ours, theirs = load_model(folder), transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokens = torch.randint(3, 512, (2, 300), generator=torch.Generator().manual_seed(0))
    # Logits here reach 20, and 1e-5 is relative to that.
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits, atol=3e-5, rtol=TOLERANCE)


# -- broken folders -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    build_model(CONFIGS["llama-gqa-untied"], seed=0).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def rewrite_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def rewrite_config(folder, **changes):
    values = json.loads((folder / "config.json").read_text())
    values.update(changes)
    (folder / "config.json").write_text(json.dumps({k: v for k, v in values.items() if v != "gone"}))


def one_line(caught):
    assert "\n" not in str(caught.value)


def test_keys_missing_or_left_over_are_named(folder):
    def change(tensors):
        tensors["model.layers.9.extra"] = tensors.pop("model.layers.1.self_attn.k_proj.weight")

    rewrite_weights(folder, change)
    with pytest.raises(
        ValueError,
        match=r"1 missing: model\.layers\.1\.self_attn\.k_proj\.weight; 1 unexpected: model\.layers\.9\.extra",
    ) as caught:
        load_model(folder)
    one_line(caught)


def test_wrong_shape_is_named(folder):
    rewrite_weights(folder, lambda t: t.update({"model.layers.0.self_attn.v_proj.weight": torch.zeros(3, 4)}))
    with pytest.raises(
        ValueError, match=r"layers\.0\.self_attn\.v_proj\.weight.*shape \(3, 4\).*asks for \(28, 42\)"
    ):
        load_model(folder)


def test_wrong_shape_of_a_transposed_matrix_is_named_as_in_the_file(tmp_path):
    build_model(CONFIGS["gpt2-tied"]).save_pretrained(tmp_path)
    rewrite_weights(tmp_path, lambda t: t.update({"transformer.h.0.mlp.c_fc.weight": torch.zeros(2, 2)}))
    with pytest.raises(ValueError, match=r"h\.0\.mlp\.c_fc\.weight.*asks for \(36, 144\)"):
        load_model(tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 300, 0.5, -1])
def test_half_written_weights(folder, keep):
    file = folder / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(
        ValueError, match=r"model\.safetensors is damaged or half-written.*save the model again"
    ) as caught:
        load_model(folder)
    one_line(caught)


def test_weights_of_garbage(folder):
    (folder / "model.safetensors").write_bytes(b"\xff" * 1000)
    with pytest.raises(ValueError, match="damaged or half-written"):
        load_model(folder)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\x00"])
def test_broken_config(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json (is not valid JSON|holds no JSON object)") as caught:
        load_model(folder)
    one_line(caught)


def test_not_a_model_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"has no config\.json, so it is not a model folder"):
        load_model(tmp_path)


def test_config_without_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors is missing"):
        load_model(folder)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_type": "bert"}, "model_type is 'bert'"),
        ({"model_type": "gone"}, "model_type is ''"),
        ({"hidden_size": "gone"}, r"config\.json has no field 'hidden_size'"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu': only 'silu'"),
        ({"attention_bias": True}, "attention_bias = True"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 8.0}}, "rotary scaling of type 'dynamic'"),
        ({"rope_scaling": {"type": "linear"}}, "linear scaling without a factor"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "beta_fast": 1}}, "beta_fast in its linear scaling"),
        ({"rope_scaling": {"type": "yarn", "factor": 0.5}}, "factor of yarn scaling is 0.5: it must be at least 1"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ({"num_key_value_heads": 4}, "n_kv_heads is 4: it must divide n_heads, 6"),
    ],
)
def test_configurations_we_do_not_have(folder, changes, message):
    rewrite_config(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load_model(folder)


def test_old_spelling_of_the_rotary_base(folder):
    rewrite_config(folder, rope_parameters="gone", rope_theta=1234.0)
    assert load_model(folder).config.rope_theta == 1234.0


def test_tied_checkpoint_with_another_output_matrix_is_refused(tmp_path):
    """A copy of the embedding is harmless; anything else would be dropped without a word."""
    build_model(CONFIGS["llama-mha-tied"], seed=0).save_pretrained(tmp_path)
    rewrite_weights(tmp_path, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    load_model(tmp_path)
    rewrite_weights(tmp_path, lambda t: t["lm_head.weight"].add_(1.0))
    with pytest.raises(ValueError, match=r"lm_head\.weight.*differs.*tie_word_embeddings"):
        load_model(tmp_path)


def test_a_failed_save_keeps_the_old_model(folder, monkeypatch):
    before = load_model(folder).state_dict()
    import scratch_llm.weights.shards as module

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_safetensors", full_disk)
    with pytest.raises(OSError, match="No space left"):
        build_model(CONFIGS["llama-gqa-untied"], seed=1).save_pretrained(folder)
    assert all(torch.equal(weight, before[name]) for name, weight in load_model(folder).state_dict().items())
    assert not list(folder.glob(".*partial"))
