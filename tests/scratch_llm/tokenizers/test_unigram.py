"""Unigram: cuts and expectations by hand, and the same cuts as Hugging Face and SentencePiece."""

from __future__ import annotations

import io
import math
from itertools import pairwise, product

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer

from scratch_llm.tokenizers import SPECIAL_TOKENS, SpaceRules, Unigram, load_tokenizer
from scratch_llm.tokenizers.unigram import BYTE_NAMES
from scratch_llm.tokenizers.unigram_trainer import Lattice, _Model, learn_pieces

SCORES = {"먹": -3.0, "었": -3.0, "다": -2.0, "먹었": -4.5, "었다": -3.5, "먹었다": -7.0, "▁": -1.0}


def made(scores: dict[str, float], **options) -> Unigram:
    return Unigram([("<unk>", 0.0), *scores.items()], {"<unk>": 0}, byte_fallback=False, **options)


def test_the_likeliest_cut_by_hand():
    tokenizer = made(SCORES)
    # 먹+었+다 -8, 먹었+다 -6.5, 먹+었다 -6.5, 먹었다 -7: of the two best the one whose last piece begins first.
    assert [piece for piece, _ in tokenizer.cut_word("먹었다")] == ["먹", "었다"]
    assert [p for p, _ in made(SCORES | {"먹었": -4.4}).cut_word("먹었다")] == ["먹었", "다"]
    assert [p for p, _ in made(SCORES | {"먹었다": -6.4}).cut_word("먹었다")] == ["먹었다"]


def test_unknown_characters():
    tokenizer = made(SCORES)
    assert tokenizer.encode("뷁뷁다뷁") == [0, 3, 0]  # a run of them is one token
    with_bytes = Unigram([("<unk>", 0.0), *((n, -50.0) for n in BYTE_NAMES), *SCORES.items()], {"<unk>": 0})
    ids = with_bytes.encode("뷁다")
    assert [with_bytes.token_of(i) for i in ids[:3]] == [b"\xeb", b"\xb7", b"\x81"]
    assert with_bytes.decode(ids) == "뷁다"


def cuts(word: str, pieces: set[str]):
    """Every way to cut a word into pieces, by trying all."""
    for bits in product((0, 1), repeat=len(word) - 1):
        borders = [0, *(i + 1 for i, bit in enumerate(bits) if bit), len(word)]
        parts = [word[a:b] for a, b in pairwise(borders)]
        if pieces.issuperset(parts):
            yield parts


def test_expected_counts_are_those_of_all_cuts():
    words = {"가나다": 3, "나다가": 2, "가": 5}
    p = {"가": 0.2, "나": 0.1, "다": 0.1, "가나": 0.3, "나다": 0.2, "다가": 0.1}
    expected = dict.fromkeys(p, 0.0)
    for word, weight in words.items():
        weights = [(parts, math.prod(p[part] for part in parts)) for parts in cuts(word, set(p))]
        total = sum(w for _, w in weights)
        for parts, w in weights:
            for part in parts:
                expected[part] += weight * w / total
    model = _Model(words, list(p), np.array(list(p.values())), n_letters=3)
    np.testing.assert_allclose(model.expected_counts(), list(expected.values()), rtol=1e-12)


def test_the_loss_of_a_piece_by_hand():
    """가나 4 times: by its probability mostly one piece.  Without it, 가 and 나 take over its occurrences."""
    model = _Model({"가나": 4, "가": 2, "나": 2}, ["가", "나", "가나"], np.array([1.0, 1.0, 2.0]), n_letters=2)
    # p = 1/4, 1/4, 1/2: as one piece 1/2 against 1/16, so 4 * 8/9 times one piece and 4/9 times two.
    one, each = 4 * 8 / 9, 2 + 4 / 9
    total = one + 2 * each
    with_it, without = math.log(one / total), 2 * math.log((each + one) / (total + one))
    assert model.losses()[2] == pytest.approx(one / total * (with_it - without))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("가나다", min_size=1, max_size=6), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_lattice_finds_the_best_of_all_cuts(words, draw):
    pieces = {"가", "나", "다", "가나", "나다", "다다", "가나다", "다가나"}
    scores = {piece: -draw.random() * 5 for piece in sorted(pieces)}
    numbers = {piece: n for n, piece in enumerate(scores)}
    lattice = Lattice(words, numbers, 3)
    log_p = np.array(list(scores.values()))
    score, edge_into = lattice.best(log_p)
    by_hand = [max(sum(scores[part] for part in parts) for parts in cuts(word, pieces)) for word in words]
    np.testing.assert_allclose(score[lattice.last], by_hand)
    counted = np.zeros(len(words))
    for which, edges in lattice.best_edges(edge_into):
        counted[which] += log_p[lattice.piece[edges]]
    np.testing.assert_allclose(counted, by_hand)
    total = [math.log(sum(math.exp(sum(scores[part] for part in parts)) for parts in cuts(word, pieces))) for word in words]
    np.testing.assert_allclose(np.log(lattice.forward(np.exp(log_p))[lattice.last]), total)
    np.testing.assert_allclose(np.log(lattice.backward(np.exp(log_p))[lattice.first]), total)


def test_learning_keeps_what_is_missed_most():
    """A frequent pair stays, a rare one goes; so does one whose letters are as good alone."""
    words = {"가나": 100, "다라": 80, "마바": 3, "바마": 3, "사": 500, "아": 500, "사아": 8, "아사": 8}
    scores = learn_pieces(words, 10, alphabet_size=8)
    assert {piece for piece in scores if len(piece) > 1} == {"가나", "다라"}
    assert scores["사"] > scores["가나"] > scores["다라"] > scores["마"]
    assert sum(math.exp(score) for score in scores.values()) == pytest.approx(1, abs=0.02)


def test_saved_files_open_elsewhere_with_the_same_ids(korean_texts, awkward_texts, tmp_path):
    ours = Unigram.train(korean_texts, 520, SPECIAL_TOKENS)
    ours.save(tmp_path)
    peers = [Tokenizer.from_file(str(tmp_path / "tokenizer.json")), AutoTokenizer.from_pretrained(tmp_path)]
    again = load_tokenizer(tmp_path)
    marked = [f"<|user|>{text}<|end|> {text}" for text in awkward_texts]
    spelled = ["<0x41>", "<0xFF><0x0A>", "  두  칸 ", " 앞", "뷁뷁👍"]
    for text in [*awkward_texts, *marked, *spelled, *korean_texts[:300], "\n".join(korean_texts[:80])]:
        ids = ours.encode(text)
        assert again.encode(text) == ids
        if "\u2581" not in text and not text.count("e\u0301"):
            assert ours.decode(ids) == text
        for peer in peers:
            encoded = peer.encode(text)
            assert getattr(encoded, "ids", encoded) == ids
            assert peer.decode(ids, skip_special_tokens=False) == ours.decode(ids)
    assert isinstance(again, Unigram) and again.vocab == ours.vocab and len(peers[1]) == ours.vocab_size


def trained_by_sentencepiece(texts: list[str]) -> sentencepiece.SentencePieceProcessor:
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text.strip() for text in texts]), model_writer=written, vocab_size=420, model_type="unigram",
        byte_fallback=True, hard_vocab_limit=False, normalization_rule_name="identity", remove_extra_whitespaces=False,
        add_dummy_prefix=False, minloglevel=2,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())


def test_the_same_pieces_and_scores_cut_as_sentencepiece_and_hugging_face_cut(korean_texts):
    peer = trained_by_sentencepiece(korean_texts)
    vocab = [(peer.id_to_piece(i), peer.get_score(i)) for i in range(peer.vocab_size())]
    ours = Unigram(vocab, {"<unk>": 0, "<s>": 1, "</s>": 2}, normalization=None)
    other = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=True))
    other.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    other.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never")])
    for text in [*korean_texts, "뷁 쀍! GPU는👍", "  두  칸"]:
        text = text.strip("\n")
        ids = ours.encode(text)
        assert ids == peer.encode(text) == other.encode(text).ids


def test_ours_writes_unseen_text_as_likely_as_sentencepiece_does(nsmc_texts):
    """The trainers differ in detail; the likelihood per byte of held-out text tells whether ours is as good."""
    train, unseen = nsmc_texts[:15_000], [text for text in nsmc_texts[15_000:17_000] if text.strip()]
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(train), model_writer=written, vocab_size=4000, model_type="unigram", byte_fallback=True,
        normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    peer = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    ours = Unigram.train(train, 4000)
    theirs = Unigram([(peer.id_to_piece(i), peer.get_score(i)) for i in range(peer.vocab_size())], {"<unk>": 0, "<s>": 1, "</s>": 2})

    def bits_per_byte(tokenizer: Unigram) -> float:
        scores, bits, n_bytes = dict(tokenizer.vocab), 0.0, 0
        for text in unseen:
            for word in tokenizer.pre_tokenizer.split(text):
                for piece, number in tokenizer.cut_word(word):  # an unknown character: 12 bits a byte, for both
                    bits += 12 * len(piece.encode()) if number is None else -scores[piece] / math.log(2)
            n_bytes += len(text.encode())
        return bits / n_bytes

    assert bits_per_byte(ours) <= 1.01 * bits_per_byte(theirs)


def test_space_rules_of_other_files_are_kept(tmp_path):
    rules = SpaceRules(prepend="missing", cut=True, drop="spaces of the first token")
    tokenizer = made(SCORES, space_rules=rules)
    tokenizer.save(tmp_path)
    peer, again = Tokenizer.from_file(str(tmp_path / "tokenizer.json")), load_tokenizer(tmp_path)
    for text in ("먹었다 다", " 먹었다", "먹었다먹"):
        assert tokenizer.encode(text) == peer.encode(text).ids == again.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == peer.decode(peer.encode(text).ids) == text.strip()


def test_what_does_not_fit_is_refused(korean_texts, tmp_path):
    with pytest.raises(ValueError, match="vocab_size leaves room for 4 pieces"):
        Unigram.train(korean_texts, 261)
    with pytest.raises(ValueError, match="corpus is empty"):
        Unigram.train([""], 400)
    with pytest.raises(ValueError, match=r"pass \[text\]"):
        Unigram.train("글", 400)
    with pytest.raises(ValueError, match="<0x00> is missing"):
        Unigram([("<unk>", 0.0), ("가", -1.0)], {"<unk>": 0})
    with pytest.raises(ValueError, match="unknown token '<unk>'"):
        Unigram([("가", -1.0)], {}, byte_fallback=False)
    with pytest.raises(ValueError, match="lone surrogate"):
        made(SCORES).encode("\udc00")
    made(SCORES).save(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text().replace('"unk_id": 0', '"unk_id": null'))
    with pytest.raises(ValueError, match="without unk_id"):
        load_tokenizer(tmp_path)


@pytest.fixture(scope="module")
def pair(korean_texts, tmp_path_factory) -> tuple[Unigram, Tokenizer]:
    """Ours, and Hugging Face's opened from the file that ours wrote."""
    folder = tmp_path_factory.mktemp("unigram")
    ours = Unigram.train(korean_texts, 520)
    ours.save(folder)
    return ours, Tokenizer.from_file(str(folder / "tokenizer.json"))


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.one_of(st.sampled_from("할머니가 시장에서 사과를 \n<0x41>GPU"), st.characters(exclude_categories=["Cs"], exclude_characters="\u2581"))))
def test_any_text_comes_back_and_is_cut_as_hugging_face_cuts(pair, text):
    ours, peer = pair
    ids = ours.encode(text)
    assert ids == peer.encode(text, add_special_tokens=False).ids
    if "<unk>" not in text:
        import unicodedata

        assert ours.decode(ids) == unicodedata.normalize("NFC", text)
