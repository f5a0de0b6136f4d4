"""The main job end to end at a tiny size: every stage, its reuse, its failures."""

import json
import math

import pytest

from llm_workshop.artifacts import STAGES, Artifacts
from llm_workshop.corpora.document import read_documents
from llm_workshop.pipeline import build_base_model, build_corpus, build_tokenizer, build_tokens
from llm_workshop.pipeline.samples import generate_samples, is_chat_corpus
from llm_workshop.pretraining.run_log import RunLog
from llm_workshop.settings import load_settings
from scratch_llm.data import TokenFile
from scratch_llm.tokenizers import ByteLevelBPE

TINY = (
    "corpus.megabytes=0.3",
    "tokenizer.vocab_size=400",
    "model.context_length=32",
    "model.n_layers=1",
    "model.n_heads=2",
    "model.d_model=32",
    "pretrain.steps=6",
    "pretrain.batch_size=4",
    "pretrain.eval_batches=1",
    "pretrain.log_every=2",
    "pretrain.precision=float32",
    "pretrain.compile=off",
    "generate.max_new_tokens=8",
)


def tiny(root, *overrides, data="sample", seed=0):
    return Artifacts(load_settings("smoke", data, seed, (*TINY, *overrides)), root=root)


def build_all(artifacts):
    for build in (build_corpus, build_tokenizer, build_tokens, build_base_model):
        build(artifacts)
    return artifacts


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_all(tiny(tmp_path_factory.mktemp("artifacts")))


def test_every_stage_has_a_manifest_with_its_figures(built):
    for stage in STAGES:
        assert built.require(stage).is_dir()
    corpus = built.read_manifest("corpus")["metrics"]
    assert corpus["train"]["bytes"] >= 250_000 and corpus["valid"]["documents"] > 0
    assert built.read_manifest("tokenizer")["metrics"]["bytes_per_token"] > 1.5
    model = built.read_manifest("base-model")["metrics"]
    assert model["steps"] == 6 and model["valid_loss"] < math.log(400) + 0.5 and model["bits_per_byte"] > 0


def test_tokens_decode_to_the_documents(built):
    tokenizer = ByteLevelBPE.load(built.path("tokenizer"))
    tokens = TokenFile(built.path("tokens") / "valid")
    documents = list(read_documents(built.path("corpus") / "valid.jsonl"))
    assert tokens.n_documents == len(documents)
    start = 0
    for document, end in zip(documents, tokens.document_ends):
        ids = tokens.tokens[start:end].tolist()
        start = end
        assert ids[-1] == tokenizer.eos_id
        text = tokenizer.decode(ids[:-1])
        if document.messages is None:
            assert text == document.text
        else:
            assert text.startswith("<|") and document.messages[-1]["content"] in text


def test_nothing_is_built_twice_and_force_builds_again(built, capsys, monkeypatch):
    before = {stage: built.read_manifest(stage)["created"] for stage in STAGES}
    capsys.readouterr()
    build_all(built)
    assert capsys.readouterr().out.count("up to date") == 4
    assert before == {stage: built.read_manifest(stage)["created"] for stage in STAGES}
    monkeypatch.setenv("FORCE", "1")
    build_corpus(built)
    assert "written to" in capsys.readouterr().out


def test_a_changed_setting_rebuilds_only_what_depends_on_it(tmp_path, capsys):
    build_all(tiny(tmp_path))
    capsys.readouterr()
    build_all(tiny(tmp_path, "pretrain.learning_rate=5e-4"))
    out = capsys.readouterr().out
    assert out.count("up to date") == 3 and "base-model: written" in out


def test_interrupted_training_goes_on_from_its_checkpoint(tmp_path, monkeypatch, capsys):
    """Ctrl-C after some steps, then the same command: the same metrics as a run that was never stopped."""
    straight = build_all(tiny(tmp_path / "straight", "pretrain.save_every=2"))

    interrupted = tiny(tmp_path / "interrupted", "pretrain.save_every=2")
    for build in (build_corpus, build_tokenizer, build_tokens):
        build(interrupted)
    calls = []

    def stop_at_second_evaluation(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "on_eval", stop_at_second_evaluation)
        with pytest.raises(KeyboardInterrupt):
            build_base_model(interrupted)
    assert not interrupted.path("base-model").exists() and list(interrupted.root.glob(".work/base-model-*"))
    build_base_model(interrupted)
    assert not list(interrupted.root.glob(".work/base-model-*"))

    def losses(artifacts):
        lines = (artifacts.path("base-model") / "metrics.jsonl").read_text().splitlines()
        records = map(json.loads, lines)
        return [(r["step"], r.get("loss"), r.get("valid_loss")) for r in records if "step" in r]

    assert losses(interrupted) == losses(straight)
    weights = [(a.path("base-model") / "model.safetensors").read_bytes() for a in (straight, interrupted)]
    assert weights[0] == weights[1]


def test_averaged_weights_are_a_second_model_within_the_stage(tmp_path):
    """And the other settings of a run reach the training."""
    import torch

    from scratch_llm.weights import load_model

    artifacts = build_all(tiny(tmp_path, "pretrain.ema_decay=0.9", "pretrain.schedule=wsd", "pretrain.optimizer=muon",
                               "pretrain.on_bad_step=skip", "pretrain.spike_threshold=10", "pretrain.z_loss=1e-4"))
    folder, metrics = artifacts.path("base-model"), artifacts.read_manifest("base-model")["metrics"]
    last, averaged = (load_model(path) for path in (folder, folder / "averaged"))
    assert not torch.equal(last.head_weight, averaged.head_weight)
    assert ByteLevelBPE.load(folder / "averaged").vocab_size == 400
    assert metrics["ema_valid_loss"] != metrics["valid_loss"] and metrics["bad_steps"] == 0
    rates = [json.loads(line)["learning_rate"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(set(rates[:5])) == 1 and rates[5] == pytest.approx(rates[0] / 10)  # a plateau, and one step of decay


def test_transformers_opens_the_result_and_agrees(built):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from scratch_llm.models import load_model

    folder = built.path("base-model")
    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": "안녕하세요?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        ours = load_model(folder)(ids).float()
        torch.testing.assert_close(ours, theirs(ids).logits.float(), atol=1e-4, rtol=1e-4)


def test_samples_follow_the_prompts(built):
    assert is_chat_corpus(built)
    samples = generate_samples(built, ["안녕하세요?", "<|endoftext|> 이것도 글자일 뿐"])
    assert [prompt for prompt, _ in samples] == ["안녕하세요?", "<|endoftext|> 이것도 글자일 뿐"]
    assert all("�" not in text and "<|" not in text for _, text in samples)


def test_a_text_file_of_ones_own(tmp_path):
    """DATA=path: no chat documents, so the model continues text."""
    path = tmp_path / "mine.txt"
    path.write_text("\n\n".join(f"{i}번째 날에 나는 산책을 {i % 7}번 나갔다. " * 40 for i in range(40)), encoding="utf-8")
    artifacts = build_all(tiny(tmp_path / "artifacts", data=str(path)))
    assert artifacts.root.name == "smoke-mine.txt"
    assert not is_chat_corpus(artifacts)
    assert generate_samples(artifacts, ["1번째 날에"])[0][0] == "1번째 날에"


@pytest.mark.parametrize("documents", [1, 2])
def test_a_small_corpus_still_holds_something_out(tmp_path, documents):
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"{i} 하나 둘 셋 " * 200}) for i in range(documents)))
    artifacts = tiny(tmp_path / "artifacts", data=str(path))
    build_corpus(artifacts)
    splits = {s: list(read_documents(artifacts.path("corpus") / f"{s}.jsonl")) for s in ("train", "valid")}
    assert all(splits.values())
    assert not {d.text for d in splits["train"]} & {d.text for d in splits["valid"]}


def test_text_without_words_or_shorter_than_the_context(tmp_path):
    path = tmp_path / "blank.jsonl"
    path.write_text(json.dumps({"text": "  \n "}))
    with pytest.raises(ValueError, match="holds no text"):
        build_corpus(tiny(tmp_path / "a", data=str(path)))
    path.write_text(json.dumps({"text": "짧은 글입니다. 아주 짧아요."}))
    artifacts = tiny(tmp_path / "b", "tokenizer.vocab_size=270", data=str(path))
    with pytest.raises(ValueError, match="smaller context_length"):
        build_all(artifacts)
    assert not artifacts.path("base-model").exists()


def test_real_reviews_pretrain(shared_data, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(shared_data))
    artifacts = build_all(tiny(tmp_path, data="nsmc"))
    corpus = artifacts.read_manifest("corpus")["metrics"]
    assert corpus["train"]["kinds"].keys() == {"review"} and corpus["valid"]["documents"] > 10
    assert artifacts.read_manifest("base-model")["metrics"]["chat"] is False
