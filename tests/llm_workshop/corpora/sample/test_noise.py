"""Labelled noise: rates, labels, spans, check digits, restoration, and that clean documents stay untouched."""

import json
import random
import re
import unicodedata
from collections import Counter

import pytest

from llm_workshop.corpora.document import Document
from llm_workshop.corpora.sample.noise import ADDED_TYPES, CHANGED_TYPES, NOISE_TYPES, inject, restore
from llm_workshop.corpora.sample.noise.duplicates import near_duplicate, shingle_similarity
from llm_workshop.corpora.sample.noise.personal import (
    VALUES,
    luhn_check_digit,
    personal_sentence,
    resident_check_digit,
)


def clean_documents(count=3000):
    rng = random.Random("documents")
    subjects = ("친구", "동생", "할머니", "선생님", "이웃", "삼촌")
    places = ("시장", "도서관", "바닷가", "공원", "기차역", "텃밭")
    documents = []
    for index in range(count):
        subject, place = rng.choice(subjects), rng.choice(places)
        text = (
            f"{index}번째 날에 {place}에서 {subject}를 만났다. 날씨가 정말 좋아서 우리는 {rng.randint(2, 90)}분 동안 함께 걸었다.\n"
            f'"다음에 또 만나자." {subject}가 웃으며 말했다. 그러나 약속은 {rng.randint(2, 9)}번이나 미뤄졌다. 집에 오니 매우 피곤했다.'
        )
        split = "valid" if index % 10 == 0 else "train"
        documents.append(Document(f"{split}-{index:05d}", "story", text, split, truth={"place": place}))
    return documents


@pytest.fixture(scope="module")
def clean():
    return clean_documents()


@pytest.fixture(scope="module")
def noisy(clean):
    return list(inject(clean, 0.3, seed=5))


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_rate_is_near_the_asked_one(clean, rate):
    output = list(inject(clean, rate, seed=1))
    assert abs(sum(bool(d.noise) for d in output) / len(output) - rate) < 0.03


def test_every_type_occurs_and_about_as_often(noisy):
    counts = Counter(d.noise[0]["type"] for d in noisy if d.noise)
    assert set(counts) == set(NOISE_TYPES)
    assert max(counts.values()) < 2.2 * min(counts.values())


def test_clean_documents_are_the_same_objects_in_the_same_order(clean, noisy):
    untouched = [d for d in noisy if not d.noise]
    originals = {d.id: d for d in clean}
    assert all(originals[d.id] is d for d in untouched)
    assert [d.id for d in untouched] == sorted((d.id for d in untouched), key=[d.id for d in clean].index)


def test_every_input_comes_out_once_and_ids_are_unique(clean, noisy):
    ids = Counter(d.id for d in noisy)
    assert max(ids.values()) == 1
    assert {d.id for d in clean} <= set(ids)


def test_rate_zero_changes_nothing(clean):
    assert list(inject(clean, 0.0)) == clean


def test_all_noise(clean):
    output = list(inject(clean[:200], 1.0, seed=2, types=CHANGED_TYPES))
    assert len(output) == 200 and all(d.noise for d in output)


def test_deterministic_and_dependent_on_the_seed(clean):
    assert list(inject(clean[:300], 0.4, 3)) == list(inject(clean[:300], 0.4, 3))
    assert list(inject(clean[:300], 0.4, 3)) != list(inject(clean[:300], 0.4, 4))


def test_lazy(clean):
    def endless():
        while True:
            yield from clean

    stream = inject(endless(), 0.3, 0)
    assert len([next(stream) for _ in range(50)]) == 50


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_bad_rate_is_refused_at_the_call(rate):
    with pytest.raises(ValueError, match="rate"):
        inject([], rate)


def test_unknown_type_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"'typo'.*html"):
        inject([], 0.1, types=["typo"])


def test_only_the_chosen_types(clean):
    output = list(inject(clean[:500], 0.3, 0, types=["mojibake", "spam"]))
    assert {d.noise[0]["type"] for d in output if d.noise} == {"mojibake", "spam"}


def test_changed_documents_can_be_restored(clean, noisy):
    originals = {d.id: d.text for d in clean}
    restored = Counter()
    for document in noisy:
        if not document.noise:
            assert restore(document) == document.text
            continue
        kind = document.noise[0]["type"]
        if kind in CHANGED_TYPES:
            assert document.text != originals[document.id]
            assert restore(document) == originals[document.id], kind
            restored[kind] += 1
        else:
            assert restore(document) is None
    assert set(restored) == set(CHANGED_TYPES)


def test_labels_survive_json(noisy):
    for document in noisy[:600]:
        if document.noise and "\ud800" not in document.text:
            again = Document.from_json(document.to_json())
            assert again.text == document.text and json.dumps(again.noise) == json.dumps(document.noise)


def of_type(noisy, kind):
    found = [d for d in noisy if d.noise and d.noise[0]["type"] == kind]
    assert found
    return found


def test_html_holds_tags_or_entities(noisy):
    for document in of_type(noisy, "html"):
        assert (re.search(r"</?\w+[^>]*>", document.text) and "&nbsp;" in document.text) or "<br" in document.text or "&#8203;" in document.text


def test_duplicates_name_an_original_of_the_same_split_that_came_before(clean, noisy):
    originals = {d.id: d for d in clean}
    for kind in ("exact_duplicate", "near_duplicate"):
        for document in of_type(noisy, kind):
            original = originals[document.noise[0]["of"]]
            assert original.split == document.split
            position = {d.id: i for i, d in enumerate(noisy)}
            assert position[original.id] < position[document.id]
            assert (original.text == document.text) == (kind == "exact_duplicate")


def test_near_duplicates_are_near(clean, noisy):
    originals = {d.id: d for d in clean}
    for document in of_type(noisy, "near_duplicate"):
        label = document.noise[0]
        measured = shingle_similarity(originals[label["of"]].text, document.text)
        assert abs(measured - label["similarity"]) < 1e-3 and measured > 0.3 and label["edits"]


def test_shingle_similarity():
    assert shingle_similarity("가나다라마바", "가나다라마바") == 1
    assert shingle_similarity("가나다라마바", "사아자차카타") == 0
    assert shingle_similarity("abcdef", "bcdefg") == pytest.approx(1 / 3)  # shingles abcde bcdef | bcdef cdefg


def test_near_duplicate_edits_a_synonym():
    text = "정말 좋은 날이다. 그러나 바람이 분다. 매우 춥다. 모두 집에 갔다."
    changed = {near_duplicate(text, random.Random(seed))[0] for seed in range(30)}
    assert text not in changed and any("참 좋은" in new or "하지만" in new for new in changed)


def test_mojibake_looks_broken_and_names_its_codecs(noisy):
    for document in of_type(noisy, "mojibake"):
        label = document.noise[0]
        assert label["written_as"] != label["read_as"]
        hangul = sum("가" <= c <= "힣" for c in document.text) / len(document.text)
        assert hangul < 0.45 or "�" in document.text


def test_nfd_is_decomposed(noisy):
    for document in of_type(noisy, "nfd"):
        assert unicodedata.normalize("NFC", document.text) != document.text
        assert not any("가" <= c <= "힣" for c in document.text)


def test_zero_width_counts(noisy):
    for document in of_type(noisy, "zero_width"):
        found = sum(c in "\u200b\u200c\u200d\ufeff\u00ad\u2060" for c in document.text)
        assert found == document.noise[0]["count"] > 0


def test_jamo_spans_hold_runs_of_one_jamo(noisy):
    for document in of_type(noisy, "jamo_repetition"):
        for start, end in document.noise[0]["spans"]:
            run = document.text[start:end]
            assert len(run) >= 4 and len(set(run)) == 1 and "ㄱ" <= run[0] <= "ㅣ"


def test_truncated_text_is_shorter_and_cut_inside_a_word(clean, noisy):
    originals = {d.id: d.text for d in clean}
    for document in of_type(noisy, "truncated"):
        kept, text = document.noise[0]["kept"], originals[document.id]
        assert document.text.startswith(text[:kept]) and text[kept] not in " \n."


def test_broken_spacing_keeps_the_letters(clean, noisy):
    originals = {d.id: d.text for d in clean}
    for document in of_type(noisy, "broken_spacing"):
        assert re.sub(r"\s", "", document.text) == re.sub(r"\s", "", originals[document.id])


def test_other_languages(noisy):
    for document in of_type(noisy, "other_language"):
        assert not re.search("[가-힣]", document.text)
        script = {"en": "[a-z]", "ja": "[ぁ-ん]", "zh": "[一-鿿]"}[document.noise[0]["language"]]
        assert re.search(script, document.text)


def test_added_documents_have_their_type_and_split(clean, noisy):
    for kind in ADDED_TYPES:
        assert {d.split for d in of_type(noisy, kind)} <= {"train", "valid"}


# personal data -----------------------------------------------------------------------------------------------------


def test_personal_spans_hold_their_values(noisy):
    for document in of_type(noisy, "personal_data"):
        items = document.noise[0]["items"]
        assert items
        for item in items:
            assert document.text[item["start"] : item["end"]] == item["value"]


def test_known_check_digits():
    # the worked example of the Luhn article of ISO/IEC 7812-1 (7992739871 -> 3) and the usual test card
    assert luhn_check_digit("7992739871") == 3 and luhn_check_digit("411111111111111") == 1
    # 900101-1234567 is no valid number: weights 2..9,2..5 give 0x mod 11 by hand
    digits = "900101123456"
    total = sum(w * int(d) for w, d in zip((2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), digits, strict=True))
    assert resident_check_digit(digits) == (11 - total % 11) % 10


def test_generated_numbers_are_well_formed_and_unassigned():
    rng = random.Random(0)
    for _ in range(300):
        resident = re.sub(r"\D", "", VALUES["resident_number"](rng))
        assert len(resident) == 13 and resident_check_digit(resident[:12]) == int(resident[12])
        assert resident[7:9] in ("98", "99"), "place codes that were never given out"
        card = re.sub(r"\D", "", VALUES["card"](rng))
        assert len(card) == 16 and luhn_check_digit(card[:15]) == int(card[15])
        assert card[:6] in ("400000", "411111", "555555", "520082")
        phone = re.sub(r"\D", "", VALUES["phone"](rng).replace("+82-10", "010"))
        assert re.fullmatch(r"0100\d{7}", phone)
        assert re.search(r"@([\w.]+\.)?example(\.\w+)?$|\.example$", VALUES["email"](rng))


def test_every_kind_of_personal_data_occurs():
    rng = random.Random(1)
    kinds = {kind for _ in range(600) for kind, _, _ in personal_sentence(rng)[1]}
    assert kinds == {*VALUES, "name"}


def test_particles_after_numbers_are_read_aloud():
    """일로, 영으로, 삼으로: the particle follows the last digit as it is spoken, and stands outside the span."""
    rng, seen = random.Random(2), set()
    for _ in range(800):
        text, values = personal_sentence(rng)
        if text.startswith("궁금한 점은"):
            (_, _start, end), = values
            expected = "으로" if text[end - 1] in "036" else "로"
            assert text[end:].startswith(f"{expected} 연락"), text
            seen.add(expected)
    assert seen == {"으로", "로"}
