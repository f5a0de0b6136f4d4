"""WordPiece: scores by hand, greedy encoding, and the same ids as Hugging Face for the same vocabulary."""

from __future__ import annotations

import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE, WordPiece, load_tokenizer
from scratch_llm.tokenizers.wordpiece import WORDS
from scratch_llm.tokenizers.wordpiece_trainer import learn_pieces


def made(*pieces: str, **options) -> WordPiece:
    return WordPiece({piece: n for n, piece in enumerate(pieces, 1)}, {"[UNK]": 0}, **options)


def test_the_longest_piece_that_fits_is_taken_even_if_the_rest_then_costs_more():
    tokenizer = made("먹", "먹었", "##었다", "##다", "##ㅋ")
    assert tokenizer.encode("먹었다") == [2, 4]  # 먹었 + ##다, though 먹 + ##었다 is as short
    greedy = made("ab", "abc", "##cde", "##d", "##e")
    assert greedy.encode("abcde") == [2, 4, 5]  # three tokens where ab + ##cde would be two


def test_a_word_is_unknown_as_a_whole():
    tokenizer = made("나", "##는", "밥", "!")
    assert tokenizer.encode("나는 밥솥 밥!") == [1, 2, 0, 3, 4]
    assert made("나", "##나", max_characters=3).encode("나나나 나나나나") == [1, 2, 2, 0]


def test_spaces_are_lost_and_words_come_back():
    tokenizer = made("나", "##는", "밥", "!")
    ids = tokenizer.encode("나는\n밥   밥!")
    assert tokenizer.decode(ids) == "나는 밥 밥 !"
    assert tokenizer.pieces("나는 밥") == [" 나".encode(), "는".encode(), " 밥".encode()]
    assert tokenizer.decode([2, 1]) == "##는 나"  # as Hugging Face shows a text that begins inside a word


def test_the_first_join_of_every_score():
    # Symbols: 가 x4, ##나 x4 (in 가나), 가 x6, ##다 x6 (가다), 라 x2, ##마 x2 (라마).
    words = {"가나": 4, "가다": 6, "라마": 2}
    alphabet = {"가", "##나", "##다", "라", "##마"}

    def first(score: str) -> str:
        pieces = learn_pieces(words, 6, score=score, alphabet_size=6)
        assert set(pieces[:5]) == alphabet
        return pieces[5]

    n = 24
    gains = {"가나": 4 * math.log(n * 4 / (10 * 4)), "가다": 6 * math.log(n * 6 / (10 * 6)), "라마": 2 * math.log(n * 2 / (2 * 2))}
    assert first("frequency") == "가다"  # 6 times
    assert first("ratio") == "라마"  # 2/(2·2) against 6/(10·6) and 4/(10·4)
    assert first("likelihood") == max(gains, key=gains.get) == "가다"


def test_likelihood_weighs_both_how_often_and_how_surprising():
    # ##의 follows everything (so its pairs surprise nobody); 냉면 is always together.
    words = {"냉면": 9, "가의": 10, "나의": 10, "다의": 10, "가나": 5, "나다": 5, "다가": 5}
    assert learn_pieces(words, 10, score="frequency", alphabet_size=20)[9] in ("가의", "나의", "다의")
    assert learn_pieces(words, 10, score="likelihood", alphabet_size=20)[9] == "냉면"


def test_joining_updates_every_count():
    """After each join the pair counts are those of a corpus counted anew."""
    words = {"아이들이": 3, "아이아이": 2, "이아이": 4}
    pieces = learn_pieces(words, 12, score="frequency", alphabet_size=9, min_frequency=1)
    # (##아, ##이) 2+4 times, then (아, ##이) 3+2, then (이, ##아이) 4; (##들, ##이) and (아이, ##들) tie with 3, the first
    # of them is older; what is left joins to whole words.
    assert pieces[5:] == ["##아이", "아이", "이아이", "##들이", "아이들이", "아이아이"]


def test_frequency_learns_what_hugging_face_learns(korean_texts):
    """Its WordPieceTrainer joins by frequency; ties fall otherwise, so nearly all pieces agree."""
    peer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    peer.normalizer = normalizers.NFC()
    from tokenizers import Regex

    peer.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "removed", invert=True)
    peer.train_from_iterator(korean_texts, trainers.WordPieceTrainer(vocab_size=200, min_frequency=2, special_tokens=["[UNK]"], show_progress=False))
    ours = WordPiece.train(korean_texts, 200, score="frequency", alphabet_size=1000)
    # Its alphabet holds every letter without the prefix, too; what counts are the joined pieces.
    theirs = [piece for piece in peer.get_vocab() if len(piece.removeprefix("##")) > 1 and piece != "[UNK]"]
    joined = [piece for piece in ours.ordinary_names() if len(piece.removeprefix("##")) > 1][: len(theirs)]
    assert len(theirs) > 20 and len(set(joined) & set(theirs)) >= 0.95 * len(theirs)


@pytest.mark.parametrize("normalization", ["NFC", None])
def test_saved_files_open_elsewhere_with_the_same_ids(korean_texts, awkward_texts, tmp_path, normalization):
    ours = WordPiece.train(korean_texts, 500, SPECIAL_TOKENS, normalization=normalization)
    ours.save(tmp_path)
    peers = [Tokenizer.from_file(str(tmp_path / "tokenizer.json")), AutoTokenizer.from_pretrained(tmp_path)]
    again = load_tokenizer(tmp_path)
    marked = [f"<|user|>{text}<|end|> {text}" for text in awkward_texts]
    for text in [*awkward_texts, *marked, *korean_texts[:300], "가" * 101, "\n".join(korean_texts[:50])]:
        ids = ours.encode(text)
        assert again.encode(text) == ids
        for peer in peers:
            encoded = peer.encode(text)
            assert getattr(encoded, "ids", encoded) == ids
            assert peer.decode(ids, skip_special_tokens=False) == ours.decode(ids)
            assert peer.decode(ids, skip_special_tokens=True) == ours.decode(ids, skip_special=True)
    assert isinstance(again, WordPiece) and again.vocab_size == ours.vocab_size == len(peers[1])
    assert (peers[1].unk_token, peers[1].eos_token_id) == ("[UNK]", ours.eos_id)


def test_a_file_as_of_bert_opens(tmp_path, korean_texts, awkward_texts):
    peer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    peer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    from tokenizers import decoders, processors

    peer.decoder = decoders.WordPiece(cleanup=False)
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    peer.train_from_iterator(korean_texts, trainers.WordPieceTrainer(vocab_size=400, special_tokens=names, show_progress=False))
    peer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    peer.save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(tmp_path)
    for text in [*korean_texts[:200], *awkward_texts, "값: $3 + 4^2 = `x`"]:
        assert ours.encode(text, add_special_tokens=True) == peer.encode(text).ids
    peer.normalizer = normalizers.BertNormalizer(lowercase=True)
    peer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"normalizer \['BertNormalizer'\] is not supported"):
        load_tokenizer(tmp_path)


def test_a_smaller_vocabulary_is_the_beginning_of_a_larger_one(korean_texts):
    large = WordPiece.train(korean_texts, 210, ["<|end|>"], alphabet_size=150)
    small = WordPiece.train(korean_texts, 190, ["<|end|>"], alphabet_size=150)
    cut = large.shrink(190)
    assert cut.ordinary_names() == small.ordinary_names() and cut.vocab_size == 190
    assert [cut.encode(text) for text in korean_texts[:50]] == [small.encode(text) for text in korean_texts[:50]]
    with pytest.raises(ValueError, match="vocab_size 2 is out of range"):
        large.shrink(2)


def test_it_is_extended_streamed_copied_and_packed_like_the_others(korean_texts):
    tokenizer = WordPiece.train(korean_texts, 400)
    longer = tokenizer.extend(["<|tool|>"])
    assert longer.encode("책을<|tool|>") == [*tokenizer.encode("책을"), tokenizer.vocab_size]
    assert pickle.loads(pickle.dumps(tokenizer)).encode(korean_texts[0]) == tokenizer.encode(korean_texts[0])
    assert [a.tolist() for a in tokenizer.encode_documents(korean_texts[:5], end_with=None)] == tokenizer.encode_batch(korean_texts[:5])


def test_what_does_not_fit_is_refused(korean_texts, tmp_path):
    with pytest.raises(ValueError, match="score 'best' is unknown: use one of likelihood"):
        WordPiece.train(korean_texts, 400, score="best")
    with pytest.raises(ValueError, match="do not fit into 19 pieces: raise vocab_size"):
        WordPiece.train(korean_texts, 20, alphabet_size=50)
    with pytest.raises(ValueError, match="corpus is empty"):
        WordPiece.train([" \n"], 400)
    with pytest.raises(ValueError, match=r"pass \[text\]"):
        WordPiece.train("글", 400)
    with pytest.raises(ValueError, match="unknown token"):
        WordPiece({"가": 0}, {})
    with pytest.raises(ValueError, match="lone surrogate"):
        made("가").encode("가\ud800")
    made("가").save(tmp_path)
    with pytest.raises(ValueError, match="holds a WordPiece, not a ByteLevelBPE"):
        ByteLevelBPE.load(tmp_path)


@pytest.fixture(scope="module")
def pair(korean_texts, tmp_path_factory) -> tuple[WordPiece, Tokenizer]:
    """Ours, and Hugging Face's opened from the file that ours wrote."""
    folder = tmp_path_factory.mktemp("wordpiece")
    ours = WordPiece.train(korean_texts, 200, alphabet_size=60)
    ours.save(folder)
    return ours, Tokenizer.from_file(str(folder / "tokenizer.json"))


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.one_of(st.sampled_from("할머니가 시장에서 사과를 \n!?~$GPU"), st.characters(exclude_categories=["Cs", "Cn"]))))
def test_any_text_is_cut_as_hugging_face_cuts(pair, text):
    ours, peer = pair
    ids = ours.encode(text)
    assert ids == peer.encode(text, add_special_tokens=False).ids
    assert ours.decode(ids) == peer.decode(ids, skip_special_tokens=False)
