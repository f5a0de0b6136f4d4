"""Whole answers into pieces: whatever a server does to its text, what is shown is whole and in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llm_workshop.serving.client.pieces import Pieces, Response


def shown(pieces, *responses):
    return [delta for response in responses if (delta := pieces.push(response))]


@given(st.text(max_size=30), st.lists(st.integers(0, 90)))
def test_any_cut_of_the_bytes_gives_the_text(text, cuts):
    text = text.replace("\ufffd", "")
    raw = text.encode()
    deltas = shown(Pieces(9), *(Response(raw[:cut]) for cut in sorted(cuts)), Response(raw, "stop"))
    assert "".join(d.text for d in deltas) == text and deltas[-1].finish_reason == "stop"


def test_repeated_responses_give_nothing_and_cost_no_token_where_tokens_are_counted():
    pieces = Pieces(9)
    deltas = shown(pieces, *(Response("가", n_tokens=1) for _ in range(3)), Response("가나", n_tokens=4), Response("가나", "stop", n_tokens=4))
    assert [(d.text, d.n_tokens) for d in deltas] == [("가", 1), ("나", 3), ("", 0)] and pieces.n_tokens == 4


def test_without_counts_a_response_is_a_token_but_the_last_may_repeat():
    pieces = Pieces(9)
    shown(pieces, Response("가"), Response("가"), Response("가나"), Response("가나", "stop"))
    assert pieces.n_tokens == 3
    pieces = Pieces(9)
    shown(pieces, Response("가"), Response("가나", "length"))
    assert pieces.n_tokens == 2


def test_characters_that_never_get_whole_are_left_out():
    deltas = shown(Pieces(9), Response("가\ufffd"), Response("가\ufffd나"), Response("가\ufffd나\ufffd\ufffd", "length"))
    assert "".join(d.text for d in deltas) == "가나"


def test_reasons():
    for told, reason in {"stop": "stop", "length": "length", "cancelled": "cancelled", "END_ID": "stop", "LENGTH": "length"}.items():
        assert shown(Pieces(9), Response("가", told))[-1].finish_reason == reason
    for nothing in (None, "", "None", "not_finished"):
        assert shown(Pieces(9), Response("가", nothing))[-1].finish_reason is None
    one, two = Pieces(2), Pieces(2)
    shown(one, Response("가"))
    shown(two, Response("가"), Response("가나"))
    assert one.end().finish_reason == "stop" and two.end().finish_reason == "length" and two.end() is None
