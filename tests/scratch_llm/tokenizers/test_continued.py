"""Training a byte-level BPE further: as if it had been trained on, and other text keeps its ids."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from scratch_llm.tokenizers import ByteLevelBPE, continue_training
from scratch_llm.tokenizers.continued import learn_further


def test_further_merges_by_hand():
    # 1 2 3 three times, 2 3 twice: (2, 3) 5 times becomes 9, then (1, 9) 3 times becomes 10.
    assert learn_further([([1, 2, 3], 3), ([2, 3], 2)], 9, 5) == [(2, 3, 9), (1, 9, 10)]
    # Overlaps count from the left, and equally frequent pairs go by the smaller ids.
    assert learn_further([([7, 7, 7], 2), ([5, 6], 4)], 9, 2) == [(5, 6, 9), (7, 7, 10)]
    assert learn_further([([1, 2], 1)], 9, 5) == []  # once is not often


def test_going_on_gives_what_one_training_gives(korean_texts):
    full = ByteLevelBPE.train(korean_texts, 480, tie_break="least_ids")
    again = continue_training(full.shrink(350), korean_texts, 130)
    assert again.merges == full.merges and again.ordinary_tokens() == full.ordinary_tokens()


def test_old_ids_stay_and_other_text_is_cut_as_before(korean_texts, tmp_path):
    english = ["the cat sat on the mat, the cat!"] * 5
    old = ByteLevelBPE.train(english, 266, ["<|endoftext|>"], pattern="gpt2", normalization=None)
    new = continue_training(old, korean_texts, 100)
    assert new.vocab_size == old.vocab_size + 100 and new.eos_id == old.eos_id == 265
    assert all(new.encode(text) == old.encode(text) for text in [*english, "<|endoftext|>the hat"])
    text = korean_texts[0]
    assert len(new.encode(text)) < len(old.encode(text)) / 2 and new.decode(new.encode(text)) == text
    new.save(tmp_path)
    peer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert all(peer.encode(text).ids == new.encode(text) for text in [*korean_texts[:200], *english])


def test_what_cannot_be_learned_from_is_refused(tokenizer):
    with pytest.raises(ValueError, match="at least one new token"):
        continue_training(tokenizer, ["글"], 0)
    with pytest.raises(ValueError, match="corpus is empty"):
        continue_training(tokenizer, [""], 5)
    with pytest.raises(ValueError, match=r"pass \[text\]"):
        continue_training(tokenizer, "글", 5)
