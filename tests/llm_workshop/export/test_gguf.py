"""GGUF files: read back by transformers and by llama.cpp's own program where it is installed; honest about the tokenizer."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_workshop.export import (
    GGUF_TYPES,
    LLAMA_CPP_PATTERNS,
    Checkpoint,
    agreement,
    exact_pre_tokenizer,
    write_gguf,
)
from llm_workshop.export.gguf_check import check_gguf, load_with_transformers, modelfile
from llm_workshop.export.gguf_file import interleave_heads
from llm_workshop.export.gguf_tokenizer import as_llama_cpp_reads, gguf_vocabulary
from llm_workshop.export.llama_cpp import LlamaCpp, is_installed
from scratch_llm.generation import SamplingConfig, generate_tokens
from scratch_llm.models import load_model
from scratch_llm.tokenizers import render_chat

from .conftest import TEXTS, make_checkpoint, make_tokenizer

IDS = torch.arange(60).reshape(2, 30) * 5


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_transformers_reads_equal_logits_from_the_file(kind, request, tmp_path):
    checkpoint = request.getfixturevalue(kind)
    facts = write_gguf(checkpoint, tmp_path / "model.gguf", "F32", pre_tokenizer="gpt-2")
    ours, theirs = logits(checkpoint.load_model()), logits(load_with_transformers(tmp_path / "model.gguf"))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-6)
    scratch = load_model(checkpoint.folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs, scratch(IDS), rtol=0, atol=2e-5)
    assert facts["bytes"] == (tmp_path / "model.gguf").stat().st_size
    assert facts["source_digest"] == checkpoint.digest()


def test_an_untied_output_layer_is_carried(llama, tmp_path):
    model = llama.load_model()
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.save_pretrained(tmp_path / "untied")
    llama.copy_tokenizer(tmp_path / "untied")
    checkpoint = Checkpoint.open(tmp_path / "untied")
    write_gguf(checkpoint, tmp_path / "model.gguf", "F32", pre_tokenizer="gpt-2")
    names = {tensor.name for tensor in gguf.GGUFReader(str(tmp_path / "model.gguf")).tensors}
    assert "output.weight" in names
    torch.testing.assert_close(logits(load_with_transformers(tmp_path / "model.gguf")), logits(model), rtol=0, atol=1e-6)


@pytest.mark.parametrize("weights", GGUF_TYPES)
def test_every_type_is_as_small_and_as_near_as_it_says(weights, llama, tmp_path):
    file = tmp_path / "model.gguf"
    facts = write_gguf(llama, file, weights, pre_tokenizer="gpt-2")
    errors = check_gguf(llama, file)
    assert weights in errors and set(facts["tensors"]) == set(errors)
    tensors = gguf.GGUFReader(str(file)).tensors
    matrices = [tensor for tensor in tensors if len(tensor.shape) == 2]
    bits = 8 * sum(t.n_bytes for t in matrices) / sum(int(t.n_elements) for t in matrices)
    assert bits == pytest.approx(GGUF_TYPES[weights])
    if weights != "F32":
        assert errors[weights] > 0
        largest = (logits(load_with_transformers(file)) - logits(llama.load_model())).abs().max()
        assert 0 < largest < {"F16": 0.01, "BF16": 0.05, "Q8_0": 0.1, "Q4_0": 1.0}[weights]


def test_a_damaged_or_foreign_file_is_found_out(llama, gpt2, tmp_path):
    file = tmp_path / "model.gguf"
    write_gguf(llama, file, "F16", pre_tokenizer="gpt-2")
    tensor = next(t for t in gguf.GGUFReader(str(file), "r+").tensors if t.name == "blk.1.attn_k.weight")
    tensor.data[3, 3] += 1
    del tensor
    with pytest.raises(ValueError, match=r"blk\.1\.attn_k\.weight as F16 is off"):
        check_gguf(llama, file)
    with pytest.raises(ValueError, match=r"lacks the tensor|tensors that the model does not|has shape"):
        check_gguf(gpt2, file)
    file.write_bytes(b"GGUF but no more")
    with pytest.raises(ValueError, match="transformers cannot read"):
        load_with_transformers(file)


def test_the_metadata_say_what_the_model_is(llama, tmp_path):
    write_gguf(llama, tmp_path / "m.gguf", "Q8_0", pre_tokenizer="gpt-2")
    fields = gguf.GGUFReader(str(tmp_path / "m.gguf")).fields

    def value(key):
        return fields[key].contents()

    assert value("general.architecture") == "llama" and value("llama.attention.head_count_kv") == 2
    assert value("llama.context_length") == 64 and value("llama.rope.dimension_count") == 16
    assert value("tokenizer.ggml.model") == "gpt2" and value("tokenizer.ggml.pre") == "gpt-2"
    tokens, special = value("tokenizer.ggml.tokens"), llama.tokenizer.special_tokens
    assert len(tokens) == llama.config["vocab_size"] and len(set(tokens)) == len(tokens)
    assert value("tokenizer.ggml.eot_token_id") == special["<|end|>"]
    assert value("tokenizer.ggml.eos_token_id") == special["<|endoftext|>"]
    assert value("tokenizer.ggml.add_bos_token") is True
    assert value("tokenizer.chat_template") == llama.tokenizer.chat_template
    assert "stands in for 'korean'" in value("general.description")


def test_the_pattern_that_llama_cpp_lacks_is_refused_unless_named(llama, tmp_path):
    with pytest.raises(ValueError, match=r"no pre-tokenizer with the pattern 'korean'.*gpt-2.*tokenizer\.pattern=gpt2"):
        write_gguf(llama, tmp_path / "m.gguf")
    with pytest.raises(ValueError, match="we know none named 'korean'"):
        write_gguf(llama, tmp_path / "m.gguf", pre_tokenizer="korean")
    assert not list(tmp_path.iterdir()), "a refused export leaves nothing behind"


@pytest.mark.parametrize(("pattern", "name"), [("gpt2", "gpt-2"), ("gpt4", "smaug-bpe"), ("korean", None), (r"\S+|\s+", None)])
def test_a_pattern_that_llama_cpp_has_is_exact(pattern, name):
    assert exact_pre_tokenizer(make_tokenizer(pattern)) == name


def test_an_exact_pattern_needs_no_name_and_is_not_marked(llama, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "model", load_model(llama.folder), make_tokenizer("gpt2"))
    facts = write_gguf(checkpoint, tmp_path / "m.gguf")
    assert facts["pre_tokenizer"] == "gpt-2" and facts["pre_tokenizer_exact"] is True


def test_agreement_counts_what_differs(tokenizer):
    same = agreement(tokenizer, "gpt-2", ["안녕하세요 오늘은", "고양이가"])
    assert same.share == 1 and not same.examples
    mixed = agreement(tokenizer, "qwen2", ["오늘은 2024년", "고양이가"])
    assert mixed.n_texts == 2 and mixed.n_same == 1 and "≠" in mixed.examples[0]
    with pytest.raises(ValueError, match="use one of"):
        agreement(tokenizer, "llama-bpe", ["가"])
    with pytest.raises(ValueError, match="no texts"):
        agreement(tokenizer, "gpt-2", [])


@pytest.mark.parametrize("weights", ["int8", "q8_0", ""])
def test_unknown_types_are_refused(weights, llama, tmp_path):
    with pytest.raises(ValueError, match="use one of F32, F16"):
        write_gguf(llama, tmp_path / "m.gguf", weights, pre_tokenizer="gpt-2")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mamba"}, "model_type='mamba'"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}, "rope_scaling": None}, "rope_type='llama3'"),
        ({"hidden_act": "relu"}, "activation 'relu'"),
    ],
)
def test_models_that_ggml_would_compute_otherwise_are_refused(change, words, llama, tmp_path):
    with pytest.raises(ValueError, match=words):
        write_gguf(replace(llama, config=llama.config | change), tmp_path / "m.gguf", pre_tokenizer="gpt-2")


def test_weights_that_are_not_finite_are_refused_and_the_old_file_stays(llama, tmp_path):
    folder = tmp_path / "bad"
    model = llama.load_model()
    with torch.no_grad():
        model.model.norm.weight[3] = float("nan")
    model.save_pretrained(folder)
    llama.copy_tokenizer(folder)
    (tmp_path / "m.gguf").write_text("old")
    with pytest.raises(ValueError, match=r"model\.norm\.weight holds values that are not finite"):
        write_gguf(Checkpoint.open(folder), tmp_path / "m.gguf", pre_tokenizer="gpt-2")
    assert (tmp_path / "m.gguf").read_text() == "old" and len(list(tmp_path.iterdir())) == 2


def test_a_folder_without_a_tokenizer_or_with_a_larger_one_is_refused(llama, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(llama.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
    with pytest.raises(ValueError, match="the tokenizer has 345 tokens, the model 100"):
        Checkpoint.open(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
        Checkpoint.open(folder)


@settings(max_examples=40, deadline=None)
@given(heads=st.integers(1, 6), half=st.integers(1, 5), columns=st.integers(1, 4))
def test_interleaving_gives_rotary_scores_of_pairs(heads, half, columns):
    """Row 2i of a head is row i of its first half, row 2i + 1 row i of its second."""
    matrix = np.random.default_rng(0).normal(size=(heads * half * 2, columns))
    changed = interleave_heads(matrix, heads).reshape(heads, half, 2, columns)
    before = matrix.reshape(heads, 2, half, columns)
    assert np.array_equal(changed[:, :, 0], before[:, 0]) and np.array_equal(changed[:, :, 1], before[:, 1])


def test_the_vocabulary_has_a_name_for_every_row(tokenizer):
    tokens, types, merges = gguf_vocabulary(tokenizer, tokenizer.vocab_size + 3)
    assert types.count(3) == 6 and types.count(5) == 3 and len(merges) == len(tokenizer.merges)
    assert all(re.fullmatch(r"\S+ \S+", merge) for merge in merges)
    assert tokens[tokenizer.special_tokens["<|user|>"]] == "<|user|>"


def test_the_modelfile_ends_answers_where_our_engine_does(llama):
    text = modelfile(llama, "model-Q8_0.gguf", temperature=0.3)
    assert text.startswith("FROM ./model-Q8_0.gguf\n") and "PARAMETER num_ctx 64" in text
    assert all(f'PARAMETER stop "{name}"' in text for name in llama.tokenizer.special_tokens)
    bare = replace(llama, tokenizer=as_llama_cpp_reads(llama.tokenizer, "gpt-2"))
    bare.tokenizer._set_added({"<|endoftext|>": llama.tokenizer.eos_id}, {})
    with pytest.raises(ValueError, match=r"lacks <\|user\|>"):
        modelfile(bare, "m.gguf")


# ------------------------------------------------------------------ by the program that the file is for


@pytest.fixture
def llama_cpp():
    """A function that starts llama.cpp with a file."""
    if not is_installed():
        pytest.skip("llama.cpp is not installed (pip install xllamacpp)")
    started = []

    def start(file) -> LlamaCpp:
        started.append(LlamaCpp(file, 64, threads=1))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.mark.parametrize("name", LLAMA_CPP_PATTERNS)
def test_llama_cpp_cuts_text_as_we_say_it_does(name, llama, llama_cpp, tmp_path):
    write_gguf(llama, tmp_path / "m.gguf", "F16", pre_tokenizer=name)
    program, expected = llama_cpp(tmp_path / "m.gguf"), as_llama_cpp_reads(llama.tokenizer, name)
    for text in [*TEXTS[:3], "한글English섞기\n\n  둘째 줄\t123456789", "we'LL  don’t…  끝 ", "ㅋㅋㅋ가ㅎㅎ🙂🙂ñandú", "각"]:
        assert program.tokenize(text) == expected.encode(text, allow_special=False), text


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_llama_cpp_generates_our_tokens(kind, request, llama_cpp, tmp_path):
    checkpoint = request.getfixturevalue(kind)
    write_gguf(checkpoint, tmp_path / "m.gguf", "F32", pre_tokenizer="gpt-2")
    program, model, tokenizer = llama_cpp(tmp_path / "m.gguf"), load_model(checkpoint.folder).eval(), checkpoint.tokenizer
    for text in ("안녕하세요", "고양이가 GPU를", "It's 3"):
        ids = [tokenizer.eos_id, *tokenizer.encode(text, allow_special=False)]
        ours = generate_tokens(model, [ids], SamplingConfig(max_new_tokens=20, temperature=0))[0]
        theirs = program.continue_greedily(text, 20)
        assert theirs == program.continue_greedily(ids, 20), "a text is begun as training documents are"
        ended = next((n for n, token in enumerate(ours) if token in tokenizer.special_tokens.ids), len(ours))
        assert ended > 5 and theirs[:ended] == ours[:ended]


def test_llama_cpp_writes_conversations_as_we_do(llama, llama_cpp, tmp_path):
    write_gguf(llama, tmp_path / "m.gguf", "Q8_0", pre_tokenizer="gpt-2")
    messages = [{"role": "system", "content": "짧게"}, {"role": "user", "content": "안녕?"}]
    assert llama_cpp(tmp_path / "m.gguf").render(messages) == render_chat(messages, add_generation_prompt=True)


def test_without_llama_cpp_the_cure_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("llm_workshop.export.llama_cpp.is_installed", lambda: False)
    with pytest.raises(ValueError, match="pip install xllamacpp"):
        LlamaCpp(tmp_path / "m.gguf", 64)
    monkeypatch.setattr("llm_workshop.export.llama_cpp.is_installed", lambda: True)
    with pytest.raises(ValueError, match="no GGUF file at"):
        LlamaCpp(tmp_path / "m.gguf", 64)
