"""Rows of new tokens: where they come from and what stays as it was."""

from __future__ import annotations

import pytest
import torch

from llm_workshop.settings import load_settings
from llm_workshop.tokenization.extension import Reading, old_pieces, started, train_on, used_share
from llm_workshop.tokenization.trial import small_model
from scratch_llm.models import resize_embeddings, set_rows_to_means
from scratch_llm.tokenizers import END_OF_TEXT, ByteLevelBPE, continue_training

LINES = ["고양이가 밥을 먹는다.", "고양이는 학교에 갔다.", "할머니가 밥을 먹었다."] * 20


@pytest.fixture(scope="module")
def tokenizers():
    old = ByteLevelBPE.train(LINES, 270, [END_OF_TEXT])
    return old, continue_training(old, LINES, 20)


def test_old_pieces_are_the_bytes_of_the_new_token_in_order(tokenizers):
    old, new = tokenizers
    for number in range(old.vocab_size, new.vocab_size):
        pieces = old_pieces(old, new, number)
        assert len(pieces) > 1 and max(pieces) < old.vocab_size
        assert b"".join(old.token_of(piece) for piece in pieces) == new.token_of(number)


@pytest.mark.parametrize("start", ["random", "mean", "pieces"])
def test_every_start_keeps_the_old_rows(tokenizers, start):
    old, new = tokenizers
    model = small_model(old.vocab_size, 16, 1, 32, seed=1)
    before = model.embedding.weight.detach().clone()
    twin = started(model, old, new, start)
    assert twin.embedding.weight.shape == (new.vocab_size, 32)
    assert torch.equal(twin.embedding.weight[: old.vocab_size].cpu(), before.cpu()) and torch.equal(model.embedding.weight, before)
    last = new.vocab_size - 1
    rows = {"mean": before.mean(0), "pieces": before[old_pieces(old, new, last)].mean(0)}
    if start in rows:
        torch.testing.assert_close(twin.embedding.weight[last], rows[start])
    else:
        assert twin.embedding.weight[old.vocab_size :].std().item() == pytest.approx(before.std().item(), rel=0.2)


def test_both_tables_of_an_untied_model_get_means():
    from scratch_llm.models import LlamaConfig, build_model

    config = LlamaConfig(vocab_size=10, context_length=8, n_layers=1, d_model=32, n_heads=1, n_kv_heads=1, d_ff=32, tie_embeddings=False)
    model = resize_embeddings(build_model(config, seed=0), 12)
    set_rows_to_means(model, {10: [1, 2, 2], 11: [3]})
    for table in (model.embedding, model.lm_head):
        torch.testing.assert_close(table.weight[10], (table.weight[1] + 2 * table.weight[2]) / 3)
        assert torch.equal(table.weight[11], table.weight[3])
    for wrong in ({12: [1]}, {11: []}, {11: [12]}):
        with pytest.raises(ValueError, match="does not fit a model of 12 tokens"):
            set_rows_to_means(model, wrong)


def test_training_goes_on_from_the_first_value(tokenizers, tmp_path):
    old, new = tokenizers
    settings = load_settings("smoke", overrides=["compare_tokenizers.batch_size=2", "compare_tokenizers.window_bytes=64"])
    readings = [Reading(tokenizer, {"train": LINES, "valid": LINES[:6]}, settings, tmp_path / str(n)) for n, tokenizer in enumerate(tokenizers)]
    assert readings[0].context > readings[1].context
    model = small_model(old.vocab_size, readings[0].context, 1, 32, seed=0)
    points = train_on(model, readings[0], settings, tmp_path / "run", 8, 3e-3, evaluations=2)
    assert [step for step, _ in points] == [0, 4, 8] and points[-1][1] < points[0][1]
    with pytest.raises(ValueError, match="start 'zero' is unknown"):
        started(model, old, new, "zero")
    assert used_share(old, ["고양이"])["used"] == len(set(old.encode("고양이")))
