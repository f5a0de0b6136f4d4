"""Measures of tokenizers, on texts where the answer is seen at once."""

from __future__ import annotations

import math

import pytest

from llm_workshop.artifacts import Artifacts
from llm_workshop.settings import load_settings
from llm_workshop.tokenization import UNKNOWN_PIECE, Peer, morphemes, show_pieces
from llm_workshop.tokenization.contenders import CONTENDERS, check_contenders, sweep
from llm_workshop.tokenization.measures import (
    decomposed_factor,
    inner_borders,
    megabytes_per_second,
    morpheme_agreement,
    tokens_per_syllable,
    unknown_share,
)
from llm_workshop.tokenization.morphemes import analyse, cut_at_morphemes, morpheme_starts
from llm_workshop.tokenization.plots import models_plot
from llm_workshop.tokenization.trial import lost_bytes, run_trials, trial

LINES = [f"{who} {where} {what}" for who in ("철수가", "영희는", "고양이도") for where in ("집에서", "학교에서", "산에서")
         for what in ("밥을 먹는다.", "노래를 부른다.", "GPU 3대를 샀다.", "책을 읽었어요.")]  # fmt: skip


def by_characters(text: str) -> list[bytes]:
    return [character.encode() for character in text]


def test_morphemes_are_cut_where_characters_part_them():
    assert list(cut_at_morphemes(["고양이가 학교에 갔다."])) == [["고양이", "가", " 학교", "에", " 갔", "다", "."]]
    assert list(morpheme_starts(["먹었다"])) == [(1, 2)]
    for line in [*LINES, "  두  칸 ", "ㅋㅋㅋ 👍 mixed글"]:
        assert "".join(next(cut_at_morphemes([line]))) == line
    assert list(cut_at_morphemes(LINES * 20))[:36] == [next(cut_at_morphemes([line])) for line in LINES]


def test_each_line_is_analysed_once_unless_the_analysis_is_timed(monkeypatch):
    analysed = []

    def whole_lines(lines):
        analysed.extend(lines)
        return ((len(line) - 1,) for line in lines)

    monkeypatch.setattr(morphemes, "_starts", whole_lines)
    remembered = {}
    monkeypatch.setattr(morphemes, "_remembered", lambda: remembered)
    seen = []
    analyse(["가나", "다라", "가나"], lambda *done: seen.append(done))
    assert analysed == ["가나", "다라"] and seen == [(0, 2)]
    assert list(morpheme_starts(["다라", "마바사", "가나"])) == [(1,), (2,), (1,)] and analysed == ["가나", "다라", "마바사"]
    assert list(cut_at_morphemes(["가나"] * 2, remember=False)) == [["가", "나"]] * 2 and analysed[3:] == ["가나", "가나"]


def test_borders_are_counted_without_white_space():
    assert inner_borders([" 가".encode(), "나 ".encode(), b" "]) == {3, 6}


def test_agreement_with_morphemes_by_hand():
    line = "고양이가 갔다"  # inside words: 고양이|가, 갔|다
    words = Peer("", 9, lambda text: [word.encode() for word in text.split(" ")])
    assert morpheme_agreement(words, [line]) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    characters = morpheme_agreement(Peer("", 9, by_characters), [line])
    # 고|양|이|가 and 갔|다 are four borders, two of which are right.
    assert (characters["precision"], characters["recall"]) == (0.5, 1.0)
    assert characters["f1"] == pytest.approx(2 / 3)
    spaces_thrown_away = Peer("", 9, lambda text: ["고양이".encode(), "가".encode(), " 갔다".encode()])
    assert morpheme_agreement(spaces_thrown_away, [line])["precision"] == 1.0
    unknown = Peer("", 9, lambda text: [UNKNOWN_PIECE])
    assert morpheme_agreement(unknown, [line])["f1"] == 0.0


def test_shares_and_factors_by_hand():
    characters = Peer("", 9, by_characters)
    assert tokens_per_syllable(characters, ["가나 다", "가3나"]) == pytest.approx(4 / 3)  # 가나 다: 3 syllables, 1 space
    assert decomposed_factor(characters, ["한"]) == 3.0
    half = Peer("", 9, lambda text: [UNKNOWN_PIECE, b"a"])
    assert unknown_share(half, ["글", "글"]) == 0.5
    assert show_pieces([UNKNOWN_PIECE, b"a"]) == "⟨?⟩ · a"
    assert lost_bytes(half, "가 a") == 3 and lost_bytes(characters, "가 a") == 0


@pytest.mark.parametrize("name", [name for name in CONTENDERS if CONTENDERS[name].lossless])
def test_lossless_contenders_give_the_text_back(name):
    peer = CONTENDERS[name].make(LINES, 330)
    for text in [*LINES, "처음 보는 글자: 뷁 👍", "  두 칸"]:
        assert b"".join(peer.pieces(text)).decode() == text
    assert peer.count(LINES) == sum(len(peer.pieces(line)) for line in LINES)


@pytest.mark.parametrize("name", [name for name in CONTENDERS if not CONTENDERS[name].lossless])
def test_the_others_say_that_something_is_unknown(name):
    peer = CONTENDERS[name].make(LINES, 340)
    assert UNKNOWN_PIECE in peer.pieces("뷁") and UNKNOWN_PIECE not in peer.pieces("철수가")


def test_a_sweep_gives_the_sizes_that_can_be_had():
    assert [peer.vocab_size for peer in sweep("bpe", LINES, (300, 280, 100_000))] == [280, 300]
    [unigram] = sweep("unigram", LINES, (100, 330))  # 100 tokens do not even hold the bytes
    assert 0.95 * 330 <= unigram.vocab_size <= 330
    one = CONTENDERS["bpe"].make(LINES, 300)
    assert [one.pieces(line) for line in LINES] == [next(sweep("bpe", LINES, (300, 320))).pieces(line) for line in LINES]


def test_names_are_checked():
    with pytest.raises(ValueError, match=r"unknown tokenizer 'bpee' in compare_tokenizers\.models: use bytes, bpe"):
        check_contenders(["bpee"], "compare_tokenizers.models")
    with pytest.raises(ValueError, match="name each tokenizer once"):
        check_contenders(["bpe", "bpe"], "compare_tokenizers.models")


def test_a_trial_counts_bits_by_the_bytes_of_the_text(tmp_path):
    settings = load_settings("smoke", overrides=["compare_tokenizers.batch_size=2", "compare_tokenizers.window_bytes=64"]).compare_tokenizers
    found = {}
    for name in ("bytes", "bpe"):
        peer = CONTENDERS[name].make(LINES, 300)
        figures = trial(peer, LINES * 3, LINES[:12], settings, tmp_path / name)
        n_bytes = sum(len(line.encode()) + 1 for line in LINES[:12])
        n_targets = sum(len(peer.pieces(line)) + 1 for line in LINES[:12]) - 1
        assert figures["bits_per_byte"] == pytest.approx(figures["loss"] / math.log(2) * n_targets / n_bytes)
        assert figures["embedding"] == (peer.vocab_size + 1) * settings.d_model
        found[name] = figures
    assert found["bytes"]["body"] == found["bpe"]["body"] and found["bytes"]["steps"] == found["bpe"]["steps"]
    assert found["bytes"]["context"] == 64 > found["bpe"]["context"]


def test_a_slow_tokenizer_is_timed_once():
    calls = []
    megabytes_per_second(lambda lines: calls.append(len(lines)) or 0, ["가"], rounds=3, enough=1e-12)
    assert calls == [1]
    megabytes_per_second(lambda lines: calls.append(len(lines)) or 0, ["가"], rounds=3, enough=60)
    assert calls == [1] * 4


def test_an_interrupted_comparison_goes_on_with_the_trial_that_is_missing(tmp_path, capsys):
    settings = load_settings("smoke", overrides=["compare_tokenizers.batch_size=2", "compare_tokenizers.window_bytes=64"])
    artifacts = Artifacts(settings, tmp_path)
    with artifacts.write_stage("corpus", {}) as stage:
        (stage.folder / "train.jsonl").write_text("{}")
    runs = [(name, CONTENDERS[name].make(LINES, 300)) for name in ("bytes", "bpe")]
    trials = run_trials(artifacts, runs, LINES * 3, LINES[:12])
    first = next(trials)
    trials.close()  # the person stops here
    assert "[1/2] 바이트" in capsys.readouterr().out
    again = list(run_trials(artifacts, runs, LINES * 3, LINES[:12]))
    told = capsys.readouterr().out
    assert again[0] == first and "tokenizer-trial-bytes-256: up to date" in told and "tokenizer-trial-bpe-300: written" in told
    assert "스텝" in told and again[1]["bits_per_byte"] < 9
    assert not list(tmp_path.glob("smoke/.work/*"))


def test_the_best_bar_is_one_that_keeps_the_text():
    rows = [{"토크나이저": name, "어휘": size, "비트/바이트": bits} for name, size, bits in (("바이트", 256, 2.0), ("BPE", 512, 1.5), ("WordPiece *", 512, 1.2))]
    bars = [bar.get_facecolor() for bar in models_plot(rows, rows[:2]).axes[0].patches]
    assert bars[1] != bars[0] == bars[2]


def test_a_killed_trial_goes_on_at_its_last_checkpoint(tmp_path):
    settings = load_settings("smoke", overrides=["compare_tokenizers.batch_size=2", "compare_tokenizers.window_bytes=64"]).compare_tokenizers
    peer, lines = CONTENDERS["bpe"].make(LINES, 300), []

    def killed_at_the_third_line(line):
        lines.append(line)
        if sum(line.startswith("step") for line in lines) == 3:
            raise MemoryError

    with pytest.raises(MemoryError):
        trial(peer, LINES * 3, LINES[:12], settings, tmp_path / "killed", log=killed_at_the_third_line)
    lines.clear()
    again = trial(peer, LINES * 3, LINES[:12], settings, tmp_path / "killed", log=lines.append)
    whole = trial(peer, LINES * 3, LINES[:12], settings, tmp_path / "whole")
    assert any(line.startswith("resuming after step") for line in lines)
    assert again["loss"] == whole["loss"] and again["bits_per_byte"] == whole["bits_per_byte"]
