"""Adapters on disk: PEFT opens ours, we open PEFT's, and none is put on a base that it was not trained on."""

import json
import shutil
import warnings

import pytest
import torch
from support.parity import reference_of, spread_out
from support.tiny_configs import TINY

from scratch_llm.models import build_model
from scratch_llm.peft import LoRAConfig, adapter_names, base_digest, inject, load_adapter, merge, save_adapter

peft = pytest.importorskip("peft")

TOKENS = torch.randint(1, 61, (2, 16), generator=torch.Generator().manual_seed(0))
CASES = {"llama": ("q_proj", "v_proj", "down_proj"), "gpt2": ("c_attn", "mlp.c_proj")}
METHODS = {"lora": {}, "rslora": {"rank_stabilized": True}, "dora": {"dora": True}}


def base(name="llama", seed=0):
    model = build_model(TINY[name], seed=seed)
    return spread_out(model)


def adapted(name="llama", targets=("q_proj", "v_proj"), **options):
    model = base(name)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for adapter in inject(model, LoRAConfig(**{"rank": 3, "alpha": 5, "targets": targets} | options)):
            for parameter in adapter.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


@pytest.fixture
def saved(tmp_path):
    save_adapter(adapted(), tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_peft_opens_what_we_save(name, method, tmp_path):
    ours = adapted(name, CASES[name], **METHODS[method])
    reference = reference_of(base(name), tmp_path / "base")
    save_adapter(ours, tmp_path / "adapter", base_model="some/base")
    with warnings.catch_warnings():
        warnings.simplefilter("error", peft.utils.warning.PeftWarning)
        theirs = peft.PeftModel.from_pretrained(reference, str(tmp_path / "adapter")).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(TOKENS), theirs(TOKENS).logits, rtol=1e-5, atol=2e-5)
    config = peft.PeftConfig.from_pretrained(str(tmp_path / "adapter"))
    assert config.task_type == "CAUSAL_LM" and config.base_model_name_or_path == "some/base"
    assert sorted(config.target_modules) == sorted(CASES[name])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_we_open_what_peft_saves(name, method, tmp_path):
    reference = reference_of(base(name), tmp_path / "base")
    theirs = peft.get_peft_model(
        reference,
        peft.LoraConfig(
            r=2, lora_alpha=7, target_modules=list(CASES[name]), fan_in_fan_out=name == "gpt2", task_type="CAUSAL_LM",
            use_dora=method == "dora", use_rslora=method == "rslora", init_lora_weights=False,
        ),
    ).eval()  # fmt: skip
    theirs.save_pretrained(tmp_path / "adapter")
    ours = base(name)
    plain = ours(TOKENS)
    with pytest.warns(UserWarning, match=r"has no base_model.json"):
        load_adapter(ours, tmp_path / "adapter")
    with torch.no_grad():
        logits = ours(TOKENS)
        assert (logits - plain).abs().max() > 0.01
        torch.testing.assert_close(logits, theirs(TOKENS).logits, rtol=1e-5, atol=2e-5)


def test_a_pattern_and_all_linear_mean_the_same_to_peft(tmp_path):
    for number, targets in enumerate((r".*\.1\..*_proj", "all-linear", ("attention.qkv",), ("blocks.0.mlp.down",))):
        ours = adapted(targets=targets)
        save_adapter(ours, tmp_path / str(number))
        theirs = peft.PeftModel.from_pretrained(reference_of(base(), tmp_path / f"base{number}"), str(tmp_path / str(number)))
        with torch.no_grad():
            torch.testing.assert_close(ours(TOKENS), theirs.eval()(TOKENS).logits, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["deepseek_v3", "rwkv7", "mamba", "qwen3_moe", "gemma3_text", "lstm"])
def test_any_architecture_comes_back(name, tmp_path):
    ours = adapted(name, "all-linear", rank=2)
    save_adapter(ours, tmp_path)
    again = base(name)
    load_adapter(again, tmp_path)
    with torch.no_grad():
        assert torch.equal(again(TOKENS), ours(TOKENS))


def test_several_from_disk_on_one_base(saved, tmp_path):
    other = adapted(targets=("o_proj",), dora=True)
    save_adapter(other, tmp_path / "other")
    model = base()
    load_adapter(model, saved, "first")
    load_adapter(model, tmp_path / "other", "second")
    assert adapter_names(model) == ["first", "second"]
    with torch.no_grad():
        assert torch.equal(model(TOKENS), other(TOKENS))
    save_adapter(model, tmp_path / "again", "first")
    first, again = ((folder / "adapter_model.safetensors").read_bytes() for folder in (saved, tmp_path / "again"))
    assert first == again


def test_the_digest_is_of_the_base_alone():
    model, changed = base(), base()
    digest = base_digest(model)
    assert digest == base_digest(adapted()) == base_digest(adapted(targets="all-linear", dora=True))
    with torch.no_grad():
        changed.blocks[1].mlp.down.weight[0, 0] += 1e-6
    assert base_digest(changed) != digest
    assert base_digest(base().bfloat16()) != digest
    assert base_digest(merge(adapted())) != digest


def test_another_base_is_refused_unless_told(saved):
    other = base()
    with torch.no_grad():
        other.final_norm.weight[0] += 0.5
    with pytest.raises(ValueError, match="was trained beside other weights than this model's: load the base"):
        load_adapter(other, saved)
    assert not adapter_names(other) and all(p.requires_grad for p in other.parameters())
    load_adapter(other, saved, check_base=False)
    assert adapter_names(other) == ["default"]
    with pytest.raises(ValueError, match="is for a llama model; this is a gpt2"):
        load_adapter(base("gpt2"), saved)


def edit(folder, **changes):
    file = folder / "adapter_config.json"
    values = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps({key: value for key, value in values.items() if value != "gone"}), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "VERA"}, "has peft_type 'VERA'; implemented here are"),
        ({"modules_to_save": ["lm_head"]}, r"has modules_to_save = \['lm_head'\], which is not implemented here; use PEFT"),
        ({"rank_pattern": {"q_proj": 4}}, "has rank_pattern = "),
        ({"bias": "all"}, "has bias = 'all'"),
        ({"init_lora_weights": "pissa"}, "has init_lora_weights = 'pissa'"),
        ({"r": "gone"}, "is damaged or incomplete"),
        ({"r": 4}, r"lora_A.weight has shape \(3, 24\) in the adapter's file and \(4, 24\) here"),
        ({"target_modules": ["q_proj"]}, "does not fit the model and its adapter_config.json; 4 unexpected"),
        ({"target_modules": ["q_proj", "v_proj", "o_proj"]}, "4 missing"),
        ({"target_modules": ["c_attn"]}, "fit no matrix of the blocks"),
        ({"use_dora": True}, "4 missing"),
    ],
)
def test_what_does_not_fit_is_named_and_leaves_the_model_alone(saved, changes, message):
    edit(saved, **changes)
    model = base()
    inject(model, LoRAConfig(rank=1), "mine")
    before = [(name, parameter.requires_grad) for name, parameter in model.named_parameters()]
    with pytest.raises(ValueError, match=message):
        load_adapter(model, saved)
    assert adapter_names(model) == ["mine"] and model.blocks[0].attention.qkv.active == "mine"
    assert [(name, parameter.requires_grad) for name, parameter in model.named_parameters()] == before


def test_missing_and_damaged_files(saved):
    with pytest.raises(FileNotFoundError, match=r"has no adapter_config.json, so it holds no adapter"):
        load_adapter(base(), saved / "nowhere")
    weights = saved / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match="damaged or half-written"):
        load_adapter(base(), saved)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"adapter_model.safetensors is missing"):
        load_adapter(base(), saved)
    (saved / "adapter_config.json").write_text("[", encoding="utf-8")
    with pytest.raises(ValueError, match="is not valid JSON"):
        load_adapter(base(), saved)
    shutil.rmtree(saved)


def test_weights_of_the_model_that_learnt_are_not_lost_silently(tmp_path):
    model = adapted()
    model.final_norm.requires_grad_()
    with pytest.raises(ValueError, match=r"final_norm.weight of the model itself can be trained"):
        save_adapter(model, tmp_path)
    with pytest.raises(ValueError, match="has no adapter 'other'; it has default"):
        save_adapter(model, tmp_path, "other")
    assert not list(tmp_path.iterdir())


def test_a_model_with_adapters_is_not_saved_as_a_plain_one(tmp_path):
    model = adapted()
    with pytest.raises(ValueError, match=r"with adapters use scratch_llm.peft.merge, or save_adapter"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    merge(model).save_pretrained(tmp_path / "model")
