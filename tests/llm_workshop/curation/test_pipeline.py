"""The stages ``raw`` and ``clean``: shards, resumption after a kill, the same bytes however many processes work."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from support.curation_steps import Digits, Erase, FallsOver, ReturnsNothing, Slow, Squeeze, TooShort

from llm_workshop.artifacts import Artifacts
from llm_workshop.corpora.document import Document, read_documents, write_documents
from llm_workshop.curation import pipeline, shards
from llm_workshop.curation.collect import build_raw
from llm_workshop.curation.facts import LENGTH_EDGES, excerpts
from llm_workshop.curation.pipeline import build_clean, only_one_at, read_card
from llm_workshop.curation.recipe import Recipe
from llm_workshop.settings import load_settings

RECIPE = Recipe(title="시험", steps=(Squeeze(), TooShort(minimum=40), Digits()))


def artifacts_in(folder, *overrides, data="sample"):
    settings = load_settings("smoke", data=data, overrides=("curation.megabytes=0.15", "curation.shard_megabytes=0.05", *overrides))
    return Artifacts(settings, folder)


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory):
    artifacts = artifacts_in(tmp_path_factory.mktemp("run"), "curation.workers=2")
    build_raw(artifacts)
    build_clean(artifacts, RECIPE)
    return artifacts


def all_documents(folder, prefix):
    return [document for path in sorted(folder.glob(f"{prefix}-*.jsonl")) for document in read_documents(path)]


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


def test_raw_shards_hold_every_document_with_its_truth_and_noise(cleaned):
    raw = cleaned.path("raw")
    documents, metrics = all_documents(raw, "raw"), cleaned.read_manifest("raw")["metrics"]
    assert metrics["documents"] == len(documents) and metrics["shards"] == len(list(raw.glob("raw-*"))) > 3
    sizes = [path.stat().st_size for path in sorted(raw.glob("raw-*"))]
    assert all(50_000 <= size < 60_000 for size in sizes[:-1])
    assert sum(metrics["noise"].values()) == sum(len(document.noise) for document in documents) > 0.2 * len(documents)
    assert {document.split for document in documents} == {"train", "valid"}


def test_every_document_is_kept_or_dropped_once_and_changed_as_the_rules_say(cleaned):
    raw = {document.id: document for document in all_documents(cleaned.path("raw"), "raw")}
    clean = all_documents(cleaned.path("clean"), "clean")
    dropped = [json.loads(line) for path in sorted(cleaned.path("clean").glob("dropped-*")) for line in open(path, encoding="utf-8")]
    assert sorted([document.id for document in clean] + [record["id"] for record in dropped]) == sorted(raw)
    for document in clean:
        before = raw[document.id]
        text = " ".join(before.text.split())
        digits = sum(character.isdigit() for character in text)
        expected = "".join("#" if character in "0123456789" else character for character in text) if digits > 9 else text
        assert document.text == expected and len(text) >= 40
        assert (document.noise, document.truth, document.kind, document.split) == (before.noise, before.truth, before.kind, before.split)
        assert document.messages == (before.messages if expected == before.text else None)
    for record in dropped:
        text = " ".join(raw[record["id"]].text.split())
        assert record == {"id": record["id"], "rule": "too_short", "reason": "short", "detail": f"{len(text)} < 40", "start": text}


def test_tags_stand_with_the_document(cleaned):
    lines = [json.loads(line) for path in sorted(cleaned.path("clean").glob("clean-*")) for line in open(path, encoding="utf-8")]
    for record in lines:
        assert record["tags"]["digits"] == (any(map(str.isdigit, record["text"])) or record["text"].count("#") > 9)


def test_the_card_adds_up(cleaned):
    card, metrics = read_card(cleaned), cleaned.read_manifest("clean")["metrics"]
    raw, clean = (all_documents(cleaned.path(stage), stage) for stage in ("raw", "clean"))
    squeeze, short, digits = card["rules"]
    assert [rule["seen"] for rule in card["rules"]] == [len(raw), len(raw), len(clean)]
    assert short["dropped"] == short["reasons"]["short"] == len(raw) - len(clean) == metrics["dropped"]["too_short"]
    assert squeeze["changed"] == sum(document.text != " ".join(document.text.split()) for document in raw)
    assert squeeze["characters_removed"] == sum(len(document.text) - len(" ".join(document.text.split())) for document in raw)
    assert card["before"]["documents"] == len(raw) and card["after"]["characters"] == sum(len(document.text) for document in clean)
    for side, documents in (("before", raw), ("after", clean)):
        for number, edge in enumerate(LENGTH_EDGES[:-1]):
            assert card[side]["length"][number] == sum(edge <= len(document.text) < LENGTH_EDGES[number + 1] for document in documents)
        hangul = [sum("가" <= c <= "힣" for c in document.text) / len(document.text) for document in documents]
        assert card[side]["hangul"] == [sum(int(share * 20) == number for share in hangul) for number in range(21)]
    assert card["tags"]["digits"]["False"] + card["tags"]["digits"]["True"] == len(clean)
    assert len(squeeze["changes"]) == len(short["drops"]) == 5 and digits["changes"]
    assert all(sample["before"] != sample["after"] for rule in card["rules"] for sample in rule["changes"])
    assert [record["name"] for record in card["rule_seconds"]] == ["squeeze", "too_short", "digits"] and card["seconds"] > 0


@pytest.mark.parametrize("workers", [1, 3])
def test_neither_the_number_of_processes_nor_of_shards_changes_anything(cleaned, tmp_path, workers):
    other = artifacts_in(tmp_path, f"curation.workers={workers}")
    build_raw(other)
    build_clean(other, RECIPE)
    assert content(other.path("clean")) == content(cleaned.path("clean"))
    whole = artifacts_in(tmp_path / "whole", "curation.shard_megabytes=5")
    build_raw(whole)
    build_clean(whole, RECIPE)
    assert (whole.path("clean") / "card.json").read_bytes() == (cleaned.path("clean") / "card.json").read_bytes()
    assert len(list(whole.path("clean").glob("clean-*"))) == 1


def test_it_is_not_done_again_until_rules_or_data_change(cleaned, capsys, monkeypatch):
    monkeypatch.setattr(pipeline, "clean_shards", lambda *_: pytest.fail("done again"))
    build_clean(cleaned, RECIPE)
    assert "up to date" in capsys.readouterr().out
    with pytest.raises(pytest.fail.Exception):
        build_clean(cleaned, Recipe(title="시험", steps=(Squeeze(), TooShort(minimum=41), Digits())))


def test_killed_at_any_moment_it_goes_on_and_gives_the_same_bytes(tmp_path, cleaned):
    """SIGKILL of the parent again and again; no finished shard is worked on a second time."""
    artifacts, log = artifacts_in(tmp_path), tmp_path / "seen.log"
    build_raw(artifacts)
    script = tmp_path / "clean.py"
    script.write_text(
        "import sys\n"
        "from llm_workshop.artifacts import Artifacts\n"
        "from llm_workshop.curation.pipeline import build_clean\n"
        "from llm_workshop.curation.recipe import Recipe\n"
        "from llm_workshop.settings import load_settings\n"
        "from support.curation_steps import Digits, Slow, Squeeze, TooShort\n"
        "settings = load_settings('smoke', overrides=['curation.megabytes=0.15', 'curation.shard_megabytes=0.05', 'curation.workers=2'])\n"
        f"steps = (Squeeze(), Slow(log={str(log)!r}), TooShort(minimum=40), Digits())\n"
        f"build_clean(Artifacts(settings, {str(tmp_path)!r}), Recipe(title='시험', steps=steps))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folder for folder in sys.path if folder)}
    kills = 0
    work = artifacts.root / ".work"
    while kills < 3:
        finished = facts_in(work)
        process = subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(facts_in(work)) <= len(finished) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.05)  # in the midst of the next shard
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        kills += 1
        assert finished.items() <= facts_in(work).items()  # nothing that was finished has been written anew
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "이미 끝났습니다" in done.stdout
    expected = {name: data for name, data in content(cleaned.path("clean")).items() if name != "card.json"}
    assert {name: data for name, data in content(artifacts.path("clean")).items() if name != "card.json"} == expected
    card = read_card(artifacts)
    assert [card["rules"][n] for n in (0, 2, 3)] == read_card(cleaned)["rules"]
    assert card["rules"][1]["seen"] == len(all_documents(artifacts.path("raw"), "raw"))
    assert artifacts.read_manifest("clean")["metrics"]["shards_taken_over"] >= 3
    assert not list(work.glob("clean-*/*"))


def facts_in(work):
    return {path.name: path.stat().st_mtime_ns for path in work.glob("clean-*/facts-*.json")}


def test_a_full_disk_is_told_and_finished_shards_are_kept(tmp_path, monkeypatch, cleaned):
    artifacts = artifacts_in(tmp_path, "curation.workers=1")
    build_raw(artifacts)
    real, opened = shards.atomic_write, []

    def full(path, mode="w"):
        opened.append(path)
        if len(opened) > 7:
            raise OSError(errno.ENOSPC, "No space left on device")  # as a write says it
        return real(path, mode)

    monkeypatch.setattr(shards, "atomic_write", full)
    with pytest.raises(OSError, match=r"No space left on device: .*smoke"):
        build_clean(artifacts, RECIPE)
    assert not artifacts.path("clean").exists() and len(facts_in(artifacts.root / ".work")) == 2
    monkeypatch.setattr(shards, "atomic_write", real)
    build_clean(artifacts, RECIPE)
    assert content(artifacts.path("clean")) == content(cleaned.path("clean"))
    assert artifacts.read_manifest("clean")["metrics"]["shards_taken_over"] == 2


def test_a_finished_shard_that_was_damaged_since_is_done_again(tmp_path, cleaned):
    artifacts = artifacts_in(tmp_path, "curation.workers=1")
    build_raw(artifacts)
    used = {"title": RECIPE.title, "steps": RECIPE.as_values()["steps"]}
    work = artifacts.work("clean", used, ("raw",))
    pipeline.clean_shards(RECIPE.steps, artifacts.path("raw"), work, 1)
    (work / "clean-00001.jsonl").write_bytes(b"short")
    (work / "facts-00002.json").write_text("{")
    build_clean(artifacts, RECIPE)
    assert content(artifacts.path("clean")) == content(cleaned.path("clean"))
    assert artifacts.read_manifest("clean")["metrics"]["shards_taken_over"] == artifacts.read_manifest("raw")["metrics"]["shards"] - 2


def test_two_at_the_same_work_are_kept_apart(tmp_path):
    with only_one_at(tmp_path / "work"), pytest.raises(ValueError, match="another process is at work"), only_one_at(tmp_path / "work"):
        pass
    with only_one_at(tmp_path / "work"):
        pass


@pytest.mark.parametrize("workers", [1, 2])
def test_a_rule_that_falls_over_is_named_with_its_document(tmp_path, workers):
    artifacts = run_over(tmp_path, ["하나", "둘 boom", "셋"] * 30, f"curation.workers={workers}", "curation.shard_megabytes=0.001")
    with pytest.raises(RuntimeError, match=r"rule 'falls_over' failed on document 'mine/d\d+': KeyError: 'oops'"):
        build_clean(artifacts, Recipe(title="x", steps=(FallsOver(on="boom"),)))
    with pytest.raises(TypeError, match="'returns_nothing' returned None"):
        build_clean(artifacts, Recipe(title="x", steps=(ReturnsNothing(),)))


def test_a_text_of_which_nothing_is_left_is_dropped(tmp_path):
    artifacts = run_over(tmp_path, ["글", "지울 글"])
    build_clean(artifacts, Recipe(title="x", steps=(Erase(on="지울"),)))
    assert read_card(artifacts)["rules"][0]["reasons"] == {"empty": 1}
    assert [document.text for document in all_documents(artifacts.path("clean"), "clean")] == ["글"]


def run_over(folder, texts, *overrides):
    path = folder / "mine.jsonl"
    write_documents(path, (Document(f"d{number}", "x", text) for number, text in enumerate(texts)))
    artifacts = artifacts_in(folder, *overrides, data=str(path))
    build_raw(artifacts)
    return artifacts


def test_a_few_broken_records_are_set_aside_and_many_stop_it(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"text": f"{n}번째 글"}) + "\n" for n in range(500)) + "{broken\n" * 4, encoding="utf-8")
    artifacts = artifacts_in(tmp_path, data=str(path))
    build_raw(artifacts)
    metrics = artifacts.read_manifest("raw")["metrics"]
    assert (metrics["documents"], metrics["broken"], metrics["broken_reasons"]) == (500, 4, {"not JSON": 4})
    set_aside = [json.loads(line) for line in open(artifacts.path("raw") / "quarantine.jsonl", encoding="utf-8")]
    assert [(item["file"], item["line"], item["start"]) for item in set_aside] == [(str(path), line, "{broken") for line in range(501, 505)]
    strict = artifacts_in(tmp_path / "strict", "curation.broken_share=0.005", data=str(path))
    with pytest.raises(ValueError, match=r"4 of 504 records are broken \(not JSON: 4\).*line 501: not JSON.*raw-quarantine.jsonl"):
        build_raw(strict)
    assert not strict.path("raw").exists() and len((strict.root / "raw-quarantine.jsonl").read_text().splitlines()) == 4


def test_files_that_changed_are_read_again_and_no_text_is_an_error(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("첫 글", encoding="utf-8")
    artifacts = artifacts_in(tmp_path, data=str(path))
    build_raw(artifacts)
    path.write_text("고친 글이다", encoding="utf-8")
    build_raw(artifacts)
    assert [document.text for document in all_documents(artifacts.path("raw"), "raw")] == ["고친 글이다"]
    path.write_text(" \n\n", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no text"):
        build_raw(artifacts)


def test_excerpts_show_where_texts_differ():
    before, after = excerpts("가" * 1000 + "나" + "다" * 1000, "가" * 1000 + "다" * 1000)
    assert before.startswith("…가") and "나" in before and "나" not in after and len(before) == 161
    assert excerpts("짧은 글", "짧은 글!") == ("짧은 글", "짧은 글!")


def test_slow_is_what_the_kill_test_says(tmp_path):
    log = tmp_path / "log"
    assert Slow(log=str(log))("글", {}) == "글" and log.read_text().startswith(str(os.getpid()))


def test_the_lock_goes_with_the_work(tmp_path):
    work = tmp_path / ".work" / "clean-0123456789ab"
    with pipeline.only_one_at(work), pytest.raises(ValueError, match="another process is at work"), pipeline.only_one_at(work):
        pass
    assert [path.name for path in work.parent.iterdir()] == [work.name]  # what is unfinished stays, the lock does not
    work.rmdir()
    with pipeline.only_one_at(work):
        work.rmdir()
    assert not work.parent.exists()
