"""The whole of deduplication over files: what goes, what is written, and what an interruption leaves."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llm_workshop.corpora.document import Document, write_documents
from llm_workshop.corpora.sample import generate
from llm_workshop.corpora.sample.noise import inject
from llm_workshop.curation.dedup.pipeline import OUTPUTS, deduplicate
from llm_workshop.curation.dedup.settings import dedup_settings

STORY = "옛날 어느 마을에 나무꾼이 살았습니다. 나무꾼은 날마다 산에 올라가 나무를 하고 장에 내다 팔았습니다. 어느 날 사슴이 나타났습니다."


def write_shards(folder: Path, documents: list[Document], count: int) -> list[Path]:
    size = -(-len(documents) // count)
    paths = [folder / f"clean-{k:05d}.jsonl" for k in range(count)]
    for k, path in enumerate(paths):
        write_documents(path, documents[k * size : (k + 1) * size])
    return paths


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def similarity_by_hand(first: str, second: str, unit: str, size: int) -> float:
    def parts(text: str) -> set:
        units = list(" ".join(text.lower().split())) if unit == "char" else text.lower().split()
        return {tuple(units[i : i + size]) for i in range(max(1, len(units) - size + 1))}

    a, b = parts(first), parts(second)
    return len(a & b) / len(a | b)


def test_copies_near_copies_and_empty_texts_go(tmp_path):
    documents = [
        Document("a", "story", STORY),
        Document("b", "story", STORY.replace(" ", "  ").upper()),  # the same but for white space
        Document("c", "story", STORY.replace("사슴", "노루")),
        Document("d", "story", "이 글은 앞의 글과 아무런 상관이 없습니다. 날씨와 밥 이야기뿐입니다."),
        Document("e", "story", " \n "),
        Document("f", "story", ""),
    ]
    facts = deduplicate(write_shards(tmp_path, documents, 3), tmp_path / "out")
    assert [row["id"] for row in read(tmp_path / "out" / "train.jsonl")] == ["a", "d"]
    similarity = similarity_by_hand(STORY, documents[2].text, "char", 5)
    assert 0.8 < similarity < 0.95
    assert read(tmp_path / "out" / "duplicates.jsonl") == [
        {"id": "b", "rule": "exact", "of": "a", "similarity": 1.0},
        {"id": "c", "rule": "near", "of": "a", "similarity": round(similarity, 4)},
        {"id": "e", "rule": "empty", "of": None, "similarity": 1.0},
        {"id": "f", "rule": "empty", "of": None, "similarity": 1.0},
    ]
    assert facts["dropped"] == {"empty": 2, "exact": 1, "near": 1, "contaminated": 0}
    assert facts["clusters"] == {"3": 1}
    assert facts["examples"][0]["of_text"] == STORY


def test_lines_stay_as_they_came_with_their_unknown_keys(tmp_path):
    shard = tmp_path / "clean-00000.jsonl"
    lines = ['{"id":"x", "kind":"web",  "text":"\\ud55c\\uae00 문서", "tags": {"language": "ko"}}', "", '{"text": "다른 것입니다", "id": "y", "split": "valid"}']
    shard.write_text("\n".join(lines), encoding="utf-8")
    deduplicate([shard], tmp_path / "out")
    assert (tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8") == lines[0] + "\n"
    assert (tmp_path / "out" / "valid.jsonl").read_text(encoding="utf-8") == lines[2] + "\n"


def test_a_held_out_document_stays_and_its_copy_in_training_goes(tmp_path):
    documents = [Document("t", "story", STORY), Document("u", "story", STORY.replace("사슴", "노루")), Document("v", "story", STORY, "valid")]
    deduplicate(write_shards(tmp_path, documents, 1), tmp_path / "out")
    assert read(tmp_path / "out" / "train.jsonl") == []
    assert {row["id"]: row["of"] for row in read(tmp_path / "out" / "duplicates.jsonl")} == {"t": "v", "u": "v"}


def test_the_longest_stays_if_so_set(tmp_path):
    documents = [Document("short", "story", STORY), Document("long", "story", STORY + " 끝.")]
    deduplicate(write_shards(tmp_path, documents, 1), tmp_path / "out", dedup_settings({"keep": "longest"}))
    assert [row["id"] for row in read(tmp_path / "out" / "train.jsonl")] == ["long"]


def chain_of_edits(steps: int = 6) -> list[Document]:
    """Each text is like the one before it (about 0.85), the last is not like the first."""
    words = [f"낱말{i:03d}" for i in range(60)]
    documents = []
    for step in range(steps):
        words[step * 4 : step * 4 + 4] = [f"바뀜{step}{i}" for i in range(4)]
        documents.append(Document(f"chain-{step}", "web", " ".join(words)))
    return documents


def test_a_chain_goes_as_a_whole_only_if_so_set(tmp_path):
    shards = write_shards(tmp_path, chain_of_edits(), 2)
    deduplicate(shards, tmp_path / "loose", dedup_settings({"near": {"threshold": 0.8, "recall": 0.999}}))
    deduplicate(shards, tmp_path / "chain", dedup_settings({"near": {"threshold": 0.8, "recall": 0.999, "chain": True}}))
    assert [row["id"] for row in read(tmp_path / "chain" / "train.jsonl")] == ["chain-0"]
    assert len(read(tmp_path / "loose" / "train.jsonl")) > 1
    assert all(row["similarity"] >= 0.8 for row in read(tmp_path / "loose" / "duplicates.jsonl"))
    texts = {document.id: document.text for document in chain_of_edits()}
    last = read(tmp_path / "chain" / "duplicates.jsonl")[-1]
    assert last["similarity"] == round(similarity_by_hand(texts["chain-5"], texts["chain-0"], "char", 5), 4) < 0.8


def test_frequent_lines_are_taken_out_and_counted(tmp_path):
    menu = "홈 | 뉴스 | 로그인 | 고객센터"
    documents = [Document(f"w{i}", "web", f"{menu}\n이것은 {i}번째 글이고 {'가나다라마바사'[i]} 이야기입니다.") for i in range(5)]
    documents.append(Document("only-menu", "web", menu))
    facts = deduplicate(write_shards(tmp_path, documents, 2), tmp_path / "out", dedup_settings({"lines": {"min_documents": 5}, "near": False}))
    rows = read(tmp_path / "out" / "train.jsonl")
    assert [row["id"] for row in rows] == [f"w{i}" for i in range(5)]
    assert rows[2]["text"] == "이것은 2번째 글이고 다 이야기입니다."
    assert read(tmp_path / "out" / "duplicates.jsonl") == [{"id": "only-menu", "rule": "empty", "of": None, "similarity": 1.0}]
    assert facts["lines"] == [{"documents": 5, "line": menu}]


def sample_with_duplicates(megabytes: float, seed: int) -> list[Document]:
    return list(inject(generate(megabytes, seed=seed), 0.3, seed=seed, types=("exact_duplicate", "near_duplicate")))


@pytest.fixture(scope="module")
def noisy() -> list[Document]:
    return sample_with_duplicates(1.5, seed=11)


def test_workers_and_shards_change_nothing(tmp_path, noisy):
    shards = write_shards(tmp_path, noisy, 5)
    deduplicate(shards, tmp_path / "one", workers=1)
    deduplicate(shards, tmp_path / "two", workers=2)
    whole = write_shards(tmp_path / "whole", noisy, 1)
    deduplicate(whole, tmp_path / "three")
    for name in OUTPUTS:
        first = (tmp_path / "one" / name).read_bytes()
        assert (tmp_path / "two" / name).read_bytes() == first
        assert (tmp_path / "three" / name).read_bytes() == first


def test_duplicates_of_the_sample_are_found_and_none_is_dropped_by_chance(tmp_path, noisy):
    deduplicate(write_shards(tmp_path, noisy, 3), tmp_path / "out")
    dropped = {row["id"]: row for row in read(tmp_path / "out" / "duplicates.jsonl")}
    texts = {document.id: document.text for document in noisy}
    labels = {document.id: document.noise[0] for document in noisy if document.noise}
    exact = [name for name, label in labels.items() if label["type"] == "exact_duplicate"]
    near = [name for name, label in labels.items() if label["type"] == "near_duplicate" and label["similarity"] >= 0.8]
    assert len(exact) > 500 and len(near) > 500
    assert all(name in dropped for name in exact)
    # The copy itself, or its original, as like a document that stays as the original is.
    assert sum(name in dropped for name in near) / len(near) >= 0.97
    for row in dropped.values():
        if row["rule"] == "near":
            assert similarity_by_hand(texts[row["id"]], texts[row["of"]], "char", 5) >= 0.8


@pytest.mark.parametrize(("unit", "size"), [("char", 5), ("word", 3)])
@pytest.mark.parametrize("corpus", ["nsmc", "petitions"])
def test_edited_real_texts_are_found(tmp_path, shared_data, monkeypatch, corpus, unit, size):
    from llm_workshop.corpora.loaders import load_documents

    monkeypatch.setenv("DATA_DIR", str(shared_data))
    random_, originals = random.Random(3), []
    for document in load_documents(corpus):
        if len(document.text.split()) >= 12:
            originals.append(Document(f"original-{len(originals)}", "text", document.text))
        if len(originals) == 600:
            break
    copies = []
    for i, original in enumerate(originals):
        words = original.text.split(" ")
        for _ in range(max(1, len(words) * random_.choice((1, 2, 4)) // 100)):
            place = random_.randrange(len(words))
            words[place : place + 1] = random_.choice(([], [words[place]] * 2, [words[place][::-1]]))
        copies.append(Document(f"copy-{i}", "text", " ".join(words)))
    alike = [i for i in range(600) if similarity_by_hand(originals[i].text, copies[i].text, unit, size) >= 0.8]
    assert len(alike) > 100
    deduplicate(write_shards(tmp_path, originals + copies, 2), tmp_path / "out", dedup_settings({"near": {"unit": unit, "size": size}}))
    rows = read(tmp_path / "out" / "duplicates.jsonl")
    dropped = {row["id"] for row in rows}
    assert sum(f"copy-{i}" in dropped for i in alike) / len(alike) >= 0.97
    texts = {document.id: document.text for document in originals + copies}
    assert all(similarity_by_hand(texts[row["id"]], texts[row["of"]], unit, size) >= 0.8 for row in rows if row["rule"] == "near")


RUN = """
import sys
from llm_workshop.curation.dedup import stages
from llm_workshop.curation.dedup.pipeline import deduplicate
save = stages.Store.save
def slow(self, name, number, values):
    save(self, name, number, values)
    if name == "table":
        print("done", number, flush=True)
        import time; time.sleep(0.3)
stages.Store.save = slow
deduplicate(sys.argv[2:], sys.argv[1], workers=1)
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path, noisy):
    shards = write_shards(tmp_path, noisy[:3000], 6)
    command = [sys.executable, "-c", RUN, str(tmp_path / "killed"), *map(str, shards)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.strip() == "done 2":
                os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    work = tmp_path / "killed" / ".work"
    finished = {path: path.stat().st_mtime_ns for path in work.glob("*-0000[0-2].npy")}
    assert len(finished) == 9 and not (tmp_path / "killed" / "train.jsonl").exists()
    deduplicate(shards, tmp_path / "killed", workers=2)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished  # nothing finished was done again
    deduplicate(shards, tmp_path / "whole")
    for name in OUTPUTS:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_other_settings_or_shards_begin_anew(tmp_path, noisy):
    shards = write_shards(tmp_path, noisy[:300], 2)
    deduplicate(shards, tmp_path / "out", dedup_settings({"near": False}))
    first = (tmp_path / "out" / "duplicates.jsonl").read_bytes()
    deduplicate(shards, tmp_path / "out")
    assert (tmp_path / "out" / "duplicates.jsonl").read_bytes() != first
    time.sleep(0.01)
    write_documents(shards[1], [Document("new", "web", STORY)])
    facts = deduplicate(shards, tmp_path / "out")
    assert facts["documents"] == 151 and read(tmp_path / "out" / "train.jsonl")[-1]["id"] == "new"


def test_a_lab_without_a_main_guard_may_use_workers(tmp_path, noisy):
    shards = write_shards(tmp_path, noisy[:400], 2)
    lab = tmp_path / "lab.py"
    lab.write_text(
        "import sys\nprint('once')\nfrom llm_workshop.curation.dedup.pipeline import deduplicate\n"
        "deduplicate(sys.argv[2:], sys.argv[1], workers=2)\n"
    )
    done = subprocess.run([sys.executable, lab, tmp_path / "out", *shards], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once") == 1 and (tmp_path / "out" / "card.json").is_file()


def test_a_line_that_is_no_document_is_named(tmp_path):
    shard = tmp_path / "clean-00000.jsonl"
    shard.write_text('{"id": "a", "text": "가"}\n{"id": "b"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"clean-00000.jsonl, line 2 is not a document \(KeyError\('text'\)\); rebuild it"):
        deduplicate([shard], tmp_path / "out")
    with pytest.raises(ValueError, match="no shards; run 'make week2-clean'"):
        deduplicate([], tmp_path / "out")


def test_nothing_to_keep_is_no_error(tmp_path):
    shard = tmp_path / "clean-00000.jsonl"
    shard.write_text("", encoding="utf-8")
    facts = deduplicate([shard], tmp_path / "out", dedup_settings({"lines": True}))
    assert facts["documents"] == 0 and read(tmp_path / "out" / "train.jsonl") == []


def test_a_full_disk_is_told_and_the_rest_is_done_later(tmp_path, noisy, monkeypatch):
    from llm_workshop.curation.dedup.store import Store

    shards, save = write_shards(tmp_path, noisy[:900], 3), Store.save

    def full(self, name, number, values):
        if (name, number) == ("digests", 1):
            raise OSError(errno.ENOSPC, "No space left on device", str(self.path(name, number)))
        save(self, name, number, values)

    monkeypatch.setattr(Store, "save", full)
    with pytest.raises(OSError, match="No space left"):
        deduplicate(shards, tmp_path / "out")
    assert not (tmp_path / "out" / "train.jsonl").exists()
    monkeypatch.setattr(Store, "save", save)
    deduplicate(shards, tmp_path / "out")
    deduplicate(shards, tmp_path / "whole")
    assert all((tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in OUTPUTS)


PEAK = """
import sys
from llm_workshop.curation.dedup.pipeline import deduplicate
from scratch_llm.process_memory import peak_resident_bytes
facts = deduplicate(sys.argv[2:], sys.argv[1], workers=1)
print(peak_resident_bytes(), facts["documents"])
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path, noisy):
    """Ten times the shards (other texts: every character moved on by the number of the copy) in nearly the same memory."""
    moved = [
        Document(f"{copy}-{d.id}", d.kind, "".join(chr((ord(c) - 0xAC00 + 977 * copy) % 11172 + 0xAC00) if "가" <= c <= "힣" else c for c in d.text))
        for copy in range(10) for d in noisy[:3000]
    ]
    shards, peaks = write_shards(tmp_path, moved, 10), {}
    for count in (1, 10):
        command = [sys.executable, "-c", PEAK, tmp_path / str(count), *shards[:count]]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[count], documents = map(int, done.stdout.split()[-2:])
        assert documents == 3000 * count
    assert peaks[10] < peaks[1] + 30e6
