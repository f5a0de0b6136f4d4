"""Instruction tuning: templates, what is learnt, what becomes of examples that do not fit, and the batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.tiny_configs import TINY, resized
from transformers import AutoTokenizer

from scratch_llm.finetuning.instruction import InstructionWindows, PackedTexts, prepare
from scratch_llm.finetuning.templates import ALPACA_TEMPLATE, Example, prompt_ids
from scratch_llm.models import build_model
from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE, encode_chat
from scratch_llm.training import TrainingConfig, train

ROW = {"instruction": "다음 영화평이 긍정인지 부정인지 답하세요.", "input": "정말 재미있었다!", "output": "긍정", "task": "sentiment"}
TALK = [
    {"role": "system", "content": "짧게 답하세요."},
    {"role": "user", "content": "안녕?"},
    {"role": "assistant", "content": "반가워요."},
    {"role": "user", "content": "뭐 먹지?"},
    {"role": "assistant", "content": "국수요."},
]


@pytest.fixture(scope="module")
def tokenizer() -> ByteLevelBPE:
    return ByteLevelBPE.train([ROW["instruction"], ROW["input"], "안녕하세요? 반가워요. 뭐 먹지? 국수요."], 280, SPECIAL_TOKENS)


def learnt(tokenizer, row) -> str:
    return tokenizer.decode(row.ids[row.learn].tolist())


def examples(n: int, seed: int = 0) -> list[Example]:
    random = np.random.default_rng(seed)
    return [
        Example.from_row({"instruction": "가" * int(random.integers(1, 9)), "output": "나" * int(random.integers(1, 5)), "id": i})
        for i in range(n)
    ]


# -- templates --------------------------------------------------------------------------------------------------------


def test_the_chat_template_is_encode_chat_after_the_token_that_begins_a_text(tokenizer):
    [row], count = prepare([Example(tuple(TALK))], tokenizer, 200)
    ids, is_answer = encode_chat(tokenizer, TALK)
    assert row.ids.tolist() == [tokenizer.eos_id, *ids]
    assert row.learn.tolist() == [False, *is_answer]
    assert learnt(tokenizer, row) == "반가워요.<|end|>국수요.<|end|>"
    assert str(count) == "1 of 1 examples, 0 with a shortened prompt"


def test_the_chat_template_is_what_transformers_renders(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    peer = AutoTokenizer.from_pretrained(tmp_path)
    theirs = peer.apply_chat_template(TALK, return_dict=True, return_assistant_tokens_mask=True)
    [row], _ = prepare([Example(tuple(TALK))], tokenizer, 200)
    assert row.ids.tolist()[1:] == theirs["input_ids"]
    assert row.learn.tolist()[1:] == [bool(mark) for mark in theirs["assistant_masks"]]
    asked = peer.apply_chat_template(TALK[:-1], add_generation_prompt=True, return_dict=False)
    assert prompt_ids(Example(tuple(TALK)), tokenizer)[1:] == asked


def test_alpaca_as_in_the_book(tokenizer):
    [row], _ = prepare([Example.from_row(ROW)], tokenizer, 400, template="alpaca")
    text = tokenizer.decode(row.ids.tolist())
    assert text == (
        "<|endoftext|>Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n다음 영화평이 긍정인지 부정인지 답하세요.\n\n### Input:\n정말 재미있었다!\n\n### Response:\n긍정<|endoftext|>"
    )
    assert learnt(tokenizer, row) == "긍정<|endoftext|>"
    prompt = prompt_ids(Example.from_row(ROW), tokenizer, "alpaca")
    assert row.ids.tolist()[: len(prompt)] == prompt and not row.learn[: len(prompt)].any()
    without_input, _ = prepare([Example.from_row(ROW | {"input": ""})], tokenizer, 400, template="alpaca")
    assert "### Input" not in tokenizer.decode(without_input[0].ids.tolist())


def test_the_input_belongs_to_the_question(tokenizer):
    example = Example.from_row(ROW)
    assert [m["content"] for m in example.prompt] == [f"{ROW['instruction']}\n\n{ROW['input']}"]
    [row], _ = prepare([example], tokenizer, 400)
    prompt = prompt_ids(example, tokenizer)
    assert row.ids.tolist()[: len(prompt)] == prompt
    assert tokenizer.decode(row.ids.tolist()[len(prompt) :]) == "긍정<|end|>"


def test_learning_everything(tokenizer):
    [row], _ = prepare([Example(tuple(TALK))], tokenizer, 200, learn="all")
    assert row.learn.all()


# -- what does not fit ------------------------------------------------------------------------------------------------


def test_a_long_prompt_loses_its_middle_and_never_its_answer(tokenizer):
    long = Example.from_row({"instruction": "처음" + "중" * 300 + "끝?", "output": "답은 이것."})
    [row], count = prepare([long], tokenizer, 64)
    assert 60 < len(row.ids) <= 65 and count.shortened == 1  # less by what is no whole character
    text = tokenizer.decode(row.ids.tolist())
    assert text.startswith("<|endoftext|><|user|>처음중") and "끝?<|end|>" in text
    assert learnt(tokenizer, row) == "답은 이것.<|end|>"
    assert 35 < len(prompt_ids(long, tokenizer, max_length=40)) <= 40


def test_old_exchanges_go_first_but_not_the_system_turn(tokenizer):
    old = [{"role": "user", "content": "가" * 30}, {"role": "assistant", "content": "나" * 30}]
    full = len(prepare([Example((TALK[0], *TALK[1:]))], tokenizer, 300)[0][0].ids)
    [row], count = prepare([Example((TALK[0], *old, *TALK[1:]))], tokenizer, full - 1)
    assert count.shortened == 1
    [expected], _ = prepare([Example(tuple(TALK))], tokenizer, 300)
    assert row.ids.tolist() == expected.ids.tolist()


def test_what_cannot_be_learnt_from_is_counted(tokenizer):
    bad = [
        Example(({"role": "user", "content": "혼잣말"},)),
        Example.from_row(ROW | {"output": "  "}),
        Example.from_row(ROW | {"output": "길" * 500}),
        Example.from_row(ROW),
    ]
    rows, count = prepare(bad, tokenizer, 64)
    assert (len(rows), count.given, count.kept) == (1, 4, 1)
    assert dict(count.dropped) == {"no turn of the assistant": 1, "empty answer": 1, "answer longer than the context of 64": 1}
    assert "1 dropped: empty answer" in str(count)
    with pytest.raises(ValueError, match="1 no turn of the assistant, 1 empty answer"):
        prepare(bad[:2], tokenizer, 64)
    with pytest.raises(ValueError, match="none was given"):
        prepare([], tokenizer, 64)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda t: prepare([Example.from_row(ROW)], t, 64, template="vicuna"), "template 'vicuna' is unknown; choose one of chat, alpaca"),
        (lambda t: prepare([Example.from_row(ROW)], t, 64, learn="prompts"), "learn 'prompts' is unknown"),
        (lambda t: prepare([Example(tuple(TALK))], t, 400, template="alpaca"), "use template=chat for conversations"),
        (lambda t: prepare([Example(({"role": "assistant", "content": "나"}, {"role": "robot", "content": "가"}))], t, 64), "role 'robot'"),
        (lambda t: Example.from_row({"instruction": "가"}), "needs the fields instruction and output"),
        (lambda t: InstructionWindows(prepare(examples(3), t, 64)[0], 8, 2), "more than context_length"),
        (lambda t: InstructionWindows(prepare(examples(3), t, 64)[0], 64, 2, layout="loose"), "layout 'loose' is unknown"),
        (lambda t: InstructionWindows([], 64, 2), "rows 0 must be at least 1"),
        (lambda t: PackedTexts(build_model(TINY["mamba"])), "use layout=grouped"),
    ],
)
def test_mistakes(call, complaint, tokenizer):
    with pytest.raises(ValueError, match=complaint):
        call(tokenizer)


def test_nothing_to_learn(tokenizer):
    rows, _ = prepare(examples(3), tokenizer, 64)
    for row in rows:
        row.learn[:] = False
    with pytest.raises(ValueError, match="every target is masked"):
        InstructionWindows(rows, 64, 2)


# -- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["packed", "grouped", "padded"])
def test_every_example_once_an_epoch_with_its_targets(layout, tokenizer):
    rows, _ = prepare(examples(60), tokenizer, 64)
    windows = InstructionWindows(rows, 64, 4, seed=3, layout=layout)
    seen, n_steps = [], windows.n_batches
    n_windows = len(windows._windows)
    for step in range(n_steps):
        inputs, targets = windows.batch(step)
        again = windows.batch(step)
        assert torch.equal(inputs, again[0]) and torch.equal(targets, again[1])
        tokens, numbers = inputs.unbind(1) if layout == "packed" else (inputs, (targets != -100).long().flip(1).cummax(1).values.flip(1))
        last = n_windows - step * 4
        for row in range(min(len(tokens), last) if layout != "grouped" else len(tokens)):
            for number in range(1, int(numbers[row].max()) + 1):
                here = numbers[row] == number
                taught = targets[row][here]
                seen.append((tokens[row][here].tolist(), taught[taught != -100].tolist()))
    expected = [(row.ids[:-1].tolist(), row.ids[1:][row.learn[1:]].tolist()) for row in rows]
    assert sorted(seen) == sorted(expected)
    assert 0 < windows.fill <= 1
    assert windows.learnt == pytest.approx(sum(len(t) for _, t in expected) / sum(len(i) for i, _ in expected))


def test_packing_wastes_least(tokenizer):
    rows, _ = prepare(examples(300), tokenizer, 64)
    fill = {layout: InstructionWindows(rows, 64, 8, layout=layout).fill for layout in ("packed", "grouped", "padded")}
    assert fill["packed"] > 0.9 > fill["grouped"] > fill["padded"]


def test_epochs_differ_and_seeds_differ(tokenizer):
    rows, _ = prepare(examples(60), tokenizer, 64)
    for layout in ("packed", "grouped", "padded"):
        windows, other = (InstructionWindows(rows, 64, 4, seed=seed, layout=layout) for seed in (0, 1))
        first = windows.batch(0)[0]
        assert not torch.equal(first, windows.batch(windows.n_batches)[0]) or (layout == "packed" and windows.n_batches == 1)
        assert not torch.equal(first, other.batch(0)[0])


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_packed_and_padded_batches_have_one_loss(name, tokenizer):
    """The whole set as one batch, laid out in three ways: the same mean over the same targets."""
    torch.manual_seed(0)
    rows, _ = prepare(examples(24), tokenizer, 64)
    model = PackedTexts(build_model(resized(TINY[name], vocab_size=tokenizer.vocab_size))).eval()
    losses = []
    for layout in ("packed", "grouped", "padded"):
        probe = InstructionWindows(rows, 64, 1, layout=layout)
        windows = InstructionWindows(rows, 64, len(probe._windows), layout=layout)
        inputs, targets = windows.batch(0)
        losses.append(model(inputs, targets=targets).item())
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)


def test_training_learns_to_answer_and_resumes_to_the_bit(tokenizer, tmp_path):
    pairs = [Example.from_row({"instruction": f"{a}의 다음은?", "output": b}) for a, b in zip("가나다라", "나다라마")]
    rows, _ = prepare(pairs, tokenizer, 32)
    windows = InstructionWindows(rows, 32, 2, seed=1)
    config = TrainingConfig(steps=120, batch_size=2, learning_rate=1e-2, eval_every=40, save_every=40, compile="off", precision="float32")

    def fresh() -> PackedTexts:
        torch.manual_seed(5)
        return PackedTexts(build_model(resized(TINY["llama"], vocab_size=tokenizer.vocab_size, context_length=32)))

    whole = fresh()
    result = train(whole, windows, windows, config, tmp_path / "whole", log=lambda line: None)
    assert result.valid_loss < 0.1

    class Stop(Exception):
        pass

    def stop_at(model, step):
        if step == 80:
            raise Stop

    broken = fresh()
    with pytest.raises(Stop):
        train(broken, windows, windows, config, tmp_path / "broken", log=lambda line: None, on_eval=stop_at)
    again = fresh()
    train(again, windows, windows, config, tmp_path / "broken", log=lambda line: None)
    for mine, theirs in zip(again.parameters(), whole.parameters()):
        assert torch.equal(mine, theirs)


def test_the_stored_alpaca_template_says_the_same(tokenizer, tmp_path):
    tokenizer.chat_template = ALPACA_TEMPLATE
    try:
        tokenizer.save(tmp_path)
    finally:
        tokenizer.chat_template = None
    peer = AutoTokenizer.from_pretrained(tmp_path)
    asked = {"role": "user", "content": ROW["instruction"], "input": ROW["input"]}
    both = [asked, {"role": "assistant", "content": ROW["output"]}]
    theirs = peer.apply_chat_template(both, return_dict=True, return_assistant_tokens_mask=True)
    [row], _ = prepare([Example.from_row(ROW)], tokenizer, 400, template="alpaca")
    assert tokenizer.decode(theirs["input_ids"]) == tokenizer.decode(row.ids.tolist()[1:])
    assert [t for t, mark in zip(theirs["input_ids"], theirs["assistant_masks"]) if mark] == row.ids[row.learn].tolist()
    prompt = peer.apply_chat_template([asked], tokenize=False, add_generation_prompt=True)
    assert prompt == tokenizer.decode(prompt_ids(Example.from_row(ROW), tokenizer, "alpaca")[1:])
    with pytest.raises(Exception, match="one instruction and one answer"):
        peer.apply_chat_template(TALK, tokenize=False)


def test_no_part_of_a_character_is_left_where_a_text_was_cut(tokenizer):
    strange = Example.from_row({"instruction": "뷁꿻쀍휅" * 40, "output": "답"})  # three byte tokens a character
    for limit in (60, 61, 62, 63):
        [row], _ = prepare([strange], tokenizer, limit)
        assert "\ufffd" not in tokenizer.decode(row.ids.tolist()) and limit - 5 < len(row.ids) <= limit + 1
