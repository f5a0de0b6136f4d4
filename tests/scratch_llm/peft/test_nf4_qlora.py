"""Four-bit bases: codes and values of bitsandbytes, and adapters that learn beside them."""

import copy
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.parity import reference_of, spread_out
from support.tiny_configs import TINY
from torch import nn

from scratch_llm.generation import SamplingConfig, generate_tokens
from scratch_llm.models import build_model
from scratch_llm.models.llama import LlamaConfig
from scratch_llm.peft import (
    LoRAConfig,
    NF4Linear,
    NF4Matrix,
    adapted_layers,
    inject,
    load_adapter,
    merge,
    nf4_table,
    quantize_base,
    save_adapter,
    trainable_parameters,
    training_memory,
)
from scratch_llm.peft.nf4 import (
    BLOCK_SIZES,
    STATISTICS_BLOCK,
    dynamic_table,
    pack_codes,
    quantize_blocks,
    restore_blocks,
    unpack_codes,
)

bnb = pytest.importorskip("bitsandbytes")
peft = pytest.importorskip("peft")

TOKENS = torch.randint(1, 61, (3, 20), generator=torch.Generator().manual_seed(4))
# Every matrix is a whole number of blocks of 64.
WIDE = LlamaConfig(vocab_size=61, context_length=64, n_layers=2, d_model=64, n_heads=4, n_kv_heads=2, d_ff=128)


def weight_of(shape, dtype=torch.float32, seed=0):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.02).to(dtype)


# -- The number format ----------------------------------------------------------------------------------------------


def test_tables_are_bit_for_bit_those_of_bitsandbytes():
    assert torch.equal(nf4_table(), bnb.functional.get_4bit_type("nf4", device="cpu"))
    assert torch.equal(dynamic_table(), bnb.functional.create_dynamic_map())


def test_the_published_ends_of_the_table():
    """QLoRA, appendix E."""
    assert nf4_table()[[0, 1, 7, 8, 14, 15]].tolist() == pytest.approx(
        [-1, -0.6961928009986877, 0, 0.07958029955625534, 0.7229568362236023, 1], abs=1e-7
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(64, 128), (300, 100), (7, 9), (1, 3), (33, 65)])
@pytest.mark.parametrize("block_size", [32, 64, 128])
def test_codes_and_values_equal_bitsandbytes(shape, block_size, dtype):
    weight = weight_of(shape, dtype)
    packed, state = bnb.functional.quantize_4bit(weight, blocksize=block_size, quant_type="nf4")
    ours = NF4Matrix(weight, block_size, double=False)
    assert torch.equal(ours.packed, packed.flatten())
    assert torch.equal(ours.block_scales(), state.absmax)
    # Their kernel for the CPU restores rows that are no whole number of blocks with the scales of others.
    if shape[1] % block_size == 0:
        assert torch.equal(ours.restored(dtype), bnb.functional.dequantize_4bit(packed, state))


@pytest.mark.parametrize("seed", range(3))
def test_double_quantisation_equals_bitsandbytes(seed):
    weight = weight_of((384, 256), seed=seed)
    packed, state = bnb.functional.quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
    ours = NF4Matrix(weight)
    assert torch.equal(ours.packed, packed.flatten())
    assert torch.equal(ours.largest, state.state2.absmax) and torch.equal(ours.mean, state.offset)
    # Their search takes the farther of two neighbours where both are about as far; no other code may differ.
    differ = (ours.largest_codes != state.absmax).nonzero().flatten()
    assert len(differ) <= 0.01 * len(state.absmax)
    exact = NF4Matrix(weight, double=False).largest
    scaled = ((exact - ours.mean) / ours.largest.repeat_interleave(STATISTICS_BLOCK))[differ]
    errors = [(scaled - dynamic_table()[codes[differ].long()]).abs() for codes in (ours.largest_codes, state.absmax)]
    assert (errors[0] <= errors[1]).all() and torch.allclose(errors[0], errors[1], atol=1e-4)
    same = torch.ones(len(exact), dtype=torch.bool)
    same[differ] = False
    theirs = bnb.functional.dequantize_4bit(packed, state)
    assert torch.equal(ours.restored().view(-1, 64)[same], theirs.view(-1, 64)[same])


def test_a_block_by_hand():
    """Largest -2: 1 is half of it, between 0.4407 and 0.5626 (code 13, nearer to 0.4407: code 12)."""
    matrix = NF4Matrix(torch.tensor([[-2.0, 1.0, 0.0, 2.0]]), 32, double=False)
    assert matrix.codes().tolist() == [[0, 12, 7, 15]]
    assert matrix.packed.tolist() == [0 * 16 + 12, 7 * 16 + 15]
    torch.testing.assert_close(matrix.restored(), torch.tensor([[-2, 2 * 0.44070983, 0, 2]]))


def test_every_sixteenth_of_a_normal_sample_has_about_its_share():
    """What the format is for; the ends, which only the largest of each block reaches, have less."""
    codes = NF4Matrix(weight_of((512, 512)), double=False).codes()
    shares = torch.bincount(codes.flatten().long(), minlength=16) / codes.numel()
    assert shares.min() > 0.01 and shares[2:14].min() > 0.045 and shares[2:14].max() < 0.11


def test_bits_per_weight_are_those_of_the_paper():
    weight = weight_of((1024, 1024))
    assert NF4Matrix(weight, double=False).n_bytes() * 8 / weight.numel() == 4.5
    assert NF4Matrix(weight).n_bytes() * 8 / weight.numel() == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), abs=1e-4)


@given(n=st.integers(1, 700), block_size=st.sampled_from(BLOCK_SIZES[:4]), seed=st.integers(0, 99), scale=st.sampled_from([1e-30, 1.0, 1e30]))
@settings(deadline=None, max_examples=40)
def test_rounding_errs_by_half_a_step_and_the_second_time_by_nothing(n, block_size, seed, scale):
    values = torch.randn(n, generator=torch.Generator().manual_seed(seed)) * scale
    codes, largest = quantize_blocks(values, nf4_table(), block_size)
    restored = restore_blocks(codes, largest, nf4_table(), block_size)
    of_each = largest.repeat_interleave(block_size)[:n]
    widest = (nf4_table()[1:] - nf4_table()[:-1]).max() / 2
    assert ((restored - values).abs() <= of_each * widest * 1.0001).all()
    again, largest_again = quantize_blocks(restored, nf4_table(), block_size)
    assert torch.equal(again, codes) and torch.allclose(largest_again, largest)
    assert torch.equal(unpack_codes(pack_codes(codes), n), codes)


def test_zeros_stay_zeros():
    weight = weight_of((4, 64))
    weight[1:3] = 0
    weight[0, :7] = 0
    for double in (False, True):
        restored = NF4Matrix(weight, double=double).restored()
        assert not restored[0, :7].any() and (double or not restored[1:3].any())
        assert torch.isfinite(restored).all()


@pytest.mark.parametrize(
    ("weight", "block_size", "message"),
    [
        (torch.ones(2, 2), 48, "block_size is 48: choose one of 32, 64"),
        (torch.tensor([[1.0, float("nan")]]), 64, "NaN or infinity"),
        (torch.tensor([[1.0, float("inf")]]), 64, "NaN or infinity"),
        (torch.ones(0, 4), 64, r"\(0, 4\) that is empty"),
    ],
)
def test_bad_weights_and_blocks_are_named(weight, block_size, message):
    with pytest.raises(ValueError, match=message):
        NF4Matrix(weight, block_size)


# -- Layers and models ----------------------------------------------------------------------------------------------


def test_the_layer_is_a_linear_one_with_the_rounded_weight_and_passes_gradients():
    linear = nn.Linear(32, 48).double()
    layer = NF4Linear(linear, (16, 32))
    x = torch.randn(2, 3, 32, dtype=torch.float64, requires_grad=True)
    plain = nn.functional.linear(x, layer.weight, linear.bias)
    torch.testing.assert_close(layer(x), plain)
    assert 0.01 < ((layer.weight - linear.weight).norm() / linear.weight.norm()).item() < 0.15
    assert torch.autograd.gradcheck(layer, (x,))
    assert torch.equal(layer.weight[:16], NF4Matrix(linear.weight[:16]).restored(torch.float64))


def test_backward_keeps_no_restored_weight():
    kept = []
    layer, x = NF4Linear(nn.Linear(64, 640, bias=False)), torch.randn(2, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        layer(x).sum().backward()
    assert sum(kept) == 0 and x.grad.abs().sum() > 0


def with_rounded_weights(model):
    """A plain model with the weights that the four bits restore to."""
    plain = build_model(model.config, seed=0)
    state = {k: v for k, v in model.state_dict().items() if ".matrices." not in k}
    for name, layer in model.named_modules():
        if isinstance(layer, NF4Linear):
            state[f"{name}.weight"] = layer.weight
    plain.load_state_dict(state)
    return plain.eval()


@pytest.mark.parametrize("name", TINY)
def test_any_model_computes_with_the_rounded_weights(name):
    model = quantize_base(spread_out(build_model(TINY[name], seed=0)))
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS), with_rounded_weights(model)(TOKENS), rtol=1e-4, atol=1e-5)
    assert any(isinstance(layer, NF4Linear) for layer in model.modules())


def test_qlora_equals_peft_on_bitsandbytes_layers(tmp_path):
    """Logits, and gradients of the adapters, where every frozen matrix of theirs is a ``Linear4bit``."""
    ours = spread_out(build_model(WIDE, seed=0))
    reference = reference_of(ours, tmp_path)
    for layer in reference.model.layers:
        for block in (layer.self_attn, layer.mlp):
            for name, linear in list(block.named_children()):
                if isinstance(linear, nn.Linear):
                    four = bnb.nn.Linear4bit(*linear.weight.shape[::-1], bias=False, quant_type="nf4", compute_dtype=torch.float32)
                    four.weight = bnb.nn.Params4bit(
                        linear.weight.data, quant_type="nf4", compress_statistics=False, requires_grad=False
                    )
                    setattr(block, name, four.to("cpu"))
    reference.is_loaded_in_4bit = True
    config = peft.LoraConfig(
        r=3, lora_alpha=5, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    # In training: for inference on a CPU bitsandbytes multiplies in bfloat16.
    theirs = peft.get_peft_model(reference, config).train()
    tensors = {k.removeprefix("base_model.model."): v for k, v in peft.get_peft_model_state_dict(theirs).items()}
    quantize_base(ours, double=False)
    adapters = inject(ours, LoRAConfig(rank=3, alpha=5, targets="all-linear"))
    for adapter in adapters:
        adapter.from_peft(tensors)
    our_logits, their_logits = ours(TOKENS), theirs(TOKENS).logits
    assert (our_logits - their_logits).abs().max() < 1e-5 * max(1, their_logits.abs().max())
    weights = torch.randn(our_logits.shape, generator=torch.Generator().manual_seed(5))
    (our_logits * weights).mean().backward()
    (their_logits * weights).mean().backward()
    their_grads = {k.removeprefix("base_model.model.").replace(".default", ""): p.grad for k, p in theirs.named_parameters() if p.requires_grad}
    for adapter in adapters:
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.copy_(parameter.grad)
        for key, grad in adapter.to_peft().items():
            assert (grad - their_grads[key]).abs().max() < 1e-5 * max(1, their_grads[key].abs().max()), key


@pytest.mark.parametrize("dora", [False, True])
def test_adapters_learn_beside_four_bits_and_merge_into_plain_weights(dora, tmp_path):
    model = quantize_base(spread_out(build_model(WIDE, seed=0)))
    inject(model, LoRAConfig(rank=4, targets="all-linear", dora=dora))
    before = {key: value.clone() for key, value in model.state_dict().items() if ".base." in key}
    optimiser = torch.optim.AdamW(trainable_parameters(model).values(), lr=0.02)
    losses = []
    for _ in range(12):
        losses.append(model(TOKENS, targets=TOKENS))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    with torch.no_grad():
        logits = model.eval()(TOKENS)
        save_adapter(model, tmp_path)
        again = quantize_base(spread_out(build_model(WIDE, seed=0)))
        load_adapter(again, tmp_path)
        assert torch.equal(again(TOKENS), logits)
        merged = merge(model)
        torch.testing.assert_close(merged(TOKENS), logits, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(layer, NF4Linear) for layer in merged.modules()) and not list(adapted_layers(merged))
    with pytest.raises(ValueError, match="trained beside other weights"):
        load_adapter(spread_out(build_model(WIDE, seed=0)), tmp_path)


def test_generation_uses_the_rounded_weights():
    model = quantize_base(spread_out(build_model(WIDE, seed=0)))
    prompts = [[5, 9, 3], [7]]
    greedy = SamplingConfig(max_new_tokens=12, temperature=0)
    assert generate_tokens(model, prompts, greedy) == generate_tokens(with_rounded_weights(model), prompts, greedy)


def test_a_state_dict_comes_back_and_casting_leaves_the_statistics():
    model = quantize_base(spread_out(build_model(WIDE, seed=0)))
    again = quantize_base(build_model(WIDE, seed=1))
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again(TOKENS), model(TOKENS))
    rough = copy.deepcopy(model).bfloat16()
    layer, exact = rough.blocks[0].attention.qkv, model.blocks[0].attention.qkv
    assert layer.matrices[0].largest.dtype == torch.float32 and layer.weight.dtype == torch.bfloat16
    assert torch.equal(layer.restored(torch.float32), exact.restored(torch.float32))
    with torch.no_grad():
        assert rough(TOKENS).dtype == torch.bfloat16


def test_autocast_gradients_pass():
    model = quantize_base(spread_out(build_model(WIDE, seed=0)))
    inject(model, LoRAConfig(rank=2, targets="all-linear"))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(TOKENS, targets=TOKENS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in trainable_parameters(model).values())
    assert loss.item() == pytest.approx(model(TOKENS, targets=TOKENS).item(), rel=0.05)


def test_memory_of_a_step_is_counted():
    config = LlamaConfig(vocab_size=64, context_length=64, n_layers=2, d_model=128, n_heads=4, n_kv_heads=4, d_ff=256)
    matrices = 2 * (4 * 128 * 128 + 3 * 128 * 256)
    full = training_memory(build_model(config, seed=0))
    rest = full.trained - 4 * matrices  # embedding and norms
    assert rest == 4 * (64 * 128 + 5 * 128)
    assert full.gradients == full.trained and full.optimizer == 2 * full.trained

    model = quantize_base(build_model(config, seed=0))
    inject(model, LoRAConfig(rank=4, targets=("o_proj",)))
    memory = training_memory(model)
    assert memory.trained == memory.gradients == 4 * 2 * 4 * (128 + 128) and memory.optimizer == 2 * memory.trained
    four_bits = memory.frozen - rest - (full.frozen)
    assert 4.127 < four_bits * 8 / matrices < 4.2
    assert memory.total < full.total / 15


def test_what_cannot_be_quantised_is_refused():
    model = build_model(WIDE, seed=0)
    with pytest.raises(ValueError, match="block_size is 100"):
        quantize_base(model, block_size=100)
    assert not any(isinstance(layer, NF4Linear) for layer in model.modules())
    with pytest.raises(ValueError, match="quantised already"):
        quantize_base(quantize_base(model))
    model = build_model(WIDE, seed=0)
    inject(model, LoRAConfig())
    with pytest.raises(ValueError, match="the model has adapters: quantise the base first"):
        quantize_base(model)
