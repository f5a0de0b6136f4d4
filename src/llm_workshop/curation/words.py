"""Korean words for what rules, deduplication and readers say in one English word: labs, reports and data cards show these."""

from __future__ import annotations

import re

from llm_workshop.curation.steps import steps_by_name

#: Titles of the faults in the tables of a report.
TITLES = {
    "html": "HTML 찌꺼기", "boilerplate": "메뉴·저작권 문구", "mojibake": "깨진 글자", "personal_data": "개인정보", "jamo_repetition": "자모 반복",
    "broken_spacing": "무너진 띄어쓰기", "truncated": "잘린 글", "nfd": "풀어쓴 한글(NFD)", "zero_width": "보이지 않는 글자",
    "exact_duplicate": "똑같은 글", "near_duplicate": "비슷한 글", "spam": "스팸", "other_language": "다른 언어", "gibberish": "의미 없는 글",
}  # fmt: skip

_REASONS = {
    # reading
    "not JSON": "JSON이 아님", "no text field": "본문 칸이 없음", "damaged": "압축이 깨짐", "undecodable": "인코딩을 모름",
    "no JSON object": "JSON 객체가 아님", "text is no string": "본문이 글이 아님", "too long": "너무 긺", "unreadable": "열 수 없음",
    "binary": "글 파일이 아님", "binary file": "글 파일이 아님", "columns": "칸의 수가 다름",
    "quotation mark not closed": "따옴표가 닫히지 않음", "no CSV": "CSV가 아님",
    # rules
    "lost_characters": "되살릴 수 없는 글자", "wrong_encoding": "잘못 읽은 인코딩", "no_text": "태그를 걷으니 남는 글이 없음",
    "only_boilerplate": "메뉴 줄뿐임", "empty": "빈 글", "too_short": "너무 짧음", "too_long": "너무 긺",
    "en": "영어", "ja": "일본어", "zh": "중국어", "ko": "한국어", "other": "그 밖의 언어", "little_hangul": "한글이 적음",
    "jamo": "낱자모가 많음", "syllables": "드문 음절이 많음", "symbols": "기호가 많음", "digits": "숫자가 많음",
    "lines": "같은 줄이 되풀이됨", "one_phrase": "한마디만 되풀이됨", "repeated_5_grams": "다섯 어절이 되풀이됨",
    "every_syllable": "음절마다 띄움", "none": "띄어쓰기가 거의 없음", "scattered": "띄어쓰기가 뒤섞임", "run_together": "여러 낱말을 붙여 씀", "no_particles": "조사·어미가 드묾",
    "inside_word": "낱말 가운데서 잘림", "open_sentence": "문장이 끝나지 않음", "more_elsewhere": "뒷부분이 다른 곳에 있음",
    "spam": "스팸", "gibberish": "의미 없는 글", "perplexity": "언어 모델에게 낯섦", "personal_data": "개인정보가 많음",
    "profanity": "욕설", "group": "집단 비하", "offensive": "불쾌한 말", "hate": "혐오",
    # deduplication
    "exact": "똑같은 글", "near": "비슷한 글", "contaminated": "평가 글과 겹침",
}  # fmt: skip

_TAGS = {
    "language": "언어", "mojibake": "깨진 글자", "repaired": "되살림", "personal_data": "개인정보", "quality": "품질 점수", "hate": "욕설·혐오",
    "bits_per_character": "글자당 비트", "email": "이메일", "resident_number": "주민등록번호", "card": "카드번호", "phone": "휴대전화",
    "landline": "일반전화", "account": "계좌번호", "address": "주소",
}  # fmt: skip

_DETAILS = tuple((re.compile(pattern), korean) for pattern, korean in (
    (r"^(\d+) of (\d+) words$", r"어절 \2개 가운데 서로 다른 것 \1개"),
    (r"^(\d+) words$", r"낱말 \1개"),
    (r"^p = (\S+)", r"확률 \1"),
    (r" bits$", "비트"),
    (r"^(\d+), expected (\d+)$", r"띄운 곳 \1, 보통은 \2"),
    (r"^nothing was left of it$", "남은 글이 없음"),
))


def title_of(rule: str) -> str:
    """The Korean title of a rule; its name where it is no rule of ours."""
    step = steps_by_name().get(rule)
    return step.title if step else _REASONS.get(rule, "중복 지우기" if rule == "dedup" else rule)


def reason_in_korean(reason: str) -> str:
    """Why a text was dropped or a record not read; a reason that we do not know is shown as it is."""
    size = re.fullmatch(r"top_(\d+)_gram", reason)
    return f"같은 {size[1]}어절이 되풀이됨" if size else _REASONS.get(reason, reason)


def detail_in_korean(detail: str) -> str:
    """The figure behind a reason: words become Korean, numbers and pieces of text stay."""
    for pattern, korean in _DETAILS:
        detail = pattern.sub(korean, detail)
    return detail


def why(reason: str, detail: str = "") -> str:
    """Reason and figure in one phrase: ``너무 짧음 (12 < 20)``."""
    return f"{reason_in_korean(reason)} ({detail_in_korean(detail)})" if detail else reason_in_korean(reason)


def tag_in_korean(word: str) -> str:
    """The name or value of a tag."""
    return _TAGS.get(word) or _REASONS.get(word, word)
