"""Conjugation of Korean predicates: regular, all irregular classes, 하다, the copula 이다, honorifics.

``conjugate(predicate, ending)`` takes a dictionary form, alone or at the end of a phrase ("바다를 끼고 있다"),
and an ending written in its 아/으 form; the hyphen, "(으)" and the 어 variants may be given too:

=============  ==========================================================================================
family         endings
=============  ==========================================================================================
아 (어, 여)     아 아요 아서 아도 아야 아라 ..., 았다 았어요 았습니다 았는데 았지만 았을 았던 ... (anything after 았)
으             으면 으니 으니까 으며 으면서 으려고 으러 으므로 으나 으세요 으시다 으셨다; 은 은데 을 을까 을게요 을수록 음 읍시다
ㅂ니다          ㅂ니다 ㅂ니까 (습니다)
by the class   ㄴ다 ㄴ다고 ㄴ다는 ㄴ다면 (먹는다, 예쁘다, 책이라고); 는 는데 는지 는구나 는군요; 나요 (adjectives: ㄴ가요)
_ in front     keeps 주었다, 보았다, 되었다, 두었다 uncontracted, as written Korean likes it: "_았다"
any other      is put behind the stem as it is: 고 지만 지 지요 게 거나 도록 자 다가 기 네요 더니 던 거든요 ...
=============  ==========================================================================================

Which stems are irregular cannot be seen from their letters (걷다 - 걸어, 닫다 - 닫아), so it comes from the lists below.
A homonym is marked: "묻다/규칙" (bury; 묻다 alone is "ask"), "굽다/규칙" (bend), "이르다/러" (arrive; alone "early, tell"),
"세다/동" (count; alone "strong"), "쓰다/형" (bitter; alone "use").
The copula is always written with 이: "의사이다", "고양이이다".
"""

from __future__ import annotations

from functools import lru_cache

from .predicates import ADJECTIVES, I_VERBS, is_adjective_suffix

_VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
_FINALS = ["", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"]

_D_IRREGULAR = ("걷다", "듣다", "싣다", "깨닫다", "치닫다", "긷다", "일컫다", "붇다", "눋다")
_D_ASK = ("묻다", "되묻다", "캐묻다", "따져묻다")
_B_REGULAR = ("입다", "잡다", "뽑다", "씹다", "좁다", "접다", "집다", "업다", "꼽다", "뵙다", "헤집다", "수줍다")
_S_IRREGULAR = ("짓다", "낫다", "붓다", "잇다", "긋다", "젓다", "잣다")
_H_REGULAR = ("좋다", "놓다", "넣다", "쌓다", "낳다", "닿다", "땋다", "찧다", "빻다", "많다", "않다", "괜찮다", "싫다", "옳다",
              "잃다", "앓다", "끓다", "뚫다", "꿇다", "끊다", "점잖다", "귀찮다", "하찮다", "닳다", "곯다", "꿇다")  # fmt: skip
_REO_IRREGULAR = ("푸르다", "노르다")
_EU_REGULAR = ("따르다", "치르다", "들르다", "다다르다", "우러르다", "잇따르다", "뒤따르다")
_I_UNCONTRACTED = ("피", "삐", "기", "비", "띠")  # 피어, 기어: 펴 would be read as 펴다
# Adjectives that are also verbs: with an object they are the verb (물기를 짜다, 수를 세다, 일기를 적다).
_ALSO_VERBS = ("짜다", "세다", "차다", "적다", "크다", "달다", "쓰다", "시다", "늦다", "비다", "굳다", "이르다", "쏘다")
_NOT_HONORIFIC_SI = ("마시다", "모시다", "부시다", "적시다", "쑤시다", "다시다", "눈부시다")
_SUPPLETIVE = {"먹다": "드시다", "마시다": "드시다", "자다": "주무시다", "있다": "계시다", "말하다": "말씀하시다", "죽다": "돌아가시다"}  # fmt: skip


def _split(syllable: str) -> tuple[int, str, str]:
    code = ord(syllable) - 0xAC00
    return code // 588, _VOWELS[code % 588 // 28], _FINALS[code % 28]


def _join(lead: int, vowel: str, final: str) -> str:
    return chr(0xAC00 + lead * 588 + _VOWELS.index(vowel) * 28 + _FINALS.index(final))


def _with_final(text: str, final: str) -> str:
    lead, vowel, _ = _split(text[-1])
    return text[:-1] + _join(lead, vowel, final)


def _final(text: str) -> str:
    return _split(text[-1])[2]


def _irregular_class(word: str) -> str:
    """One of 하 이 아니 ㄷ ㅂ ㅅ ㅎ 르 러 우 ㄹ 규칙 for a dictionary form."""
    if word == "이다" or (word.endswith("이다") and word not in I_VERBS and not word.endswith(("거이다", "끼이다"))):
        return "이"
    if word.endswith("아니다"):
        return "아니"
    if word.endswith("하다"):
        return "하"
    final = _final(word[:-1])
    if final == "ㄷ":
        return "ㄷ" if word.endswith(_D_IRREGULAR) or word in _D_ASK else "규칙"
    if final == "ㅂ":
        return "규칙" if word.endswith(_B_REGULAR) else "ㅂ"
    if final == "ㅅ":
        return "ㅅ" if word.endswith(_S_IRREGULAR) and not word.endswith(("빼앗다", "솟다")) else "규칙"
    if final == "ㅎ":
        return "규칙" if word.endswith(_H_REGULAR) else "ㅎ"
    if final == "ㄹ":
        return "ㄹ"
    if word.endswith("르다"):
        if word.endswith(_REO_IRREGULAR):
            return "러"
        return "규칙" if word.endswith(_EU_REGULAR) else "르"
    return "우" if word == "푸다" else "규칙"


def adjective(predicate: str) -> bool:
    """Whether the last word of ``predicate`` is an adjective (형용사), so that it takes no -ㄴ다 and no -는."""
    head, _, word = predicate.rpartition(" ")
    word = word.partition("/")[0]
    if word in ("않다", "못하다") and head.endswith("지"):
        return adjective(head[:-1] + "다")  # -지 않다 follows the class of its main verb
    if word in _ALSO_VERBS and any(part.endswith(("을", "를")) for part in head.split()):
        return False
    return word in ADJECTIVES or is_adjective_suffix(word)


def honorific(predicate: str) -> str:
    """The dictionary form with -(으)시-: 읽다 -> 읽으시다, 먹다 -> 드시다, 의사이다 -> 의사시다."""
    head, space, word = predicate.rpartition(" ")
    if word in _SUPPLETIVE:
        return head + space + _SUPPLETIVE[word]
    if word.endswith("시다") and not word.endswith(_NOT_HONORIFIC_SI):
        return predicate
    return conjugate(predicate, "으시다")


def _normalise(ending: str) -> str:
    ending = ending.lstrip("-").replace("(으)", "으").replace("(이)", "").replace("으시었", "으셨")
    for given, used in (("어", "아"), ("었", "았"), ("습니", "ㅂ니"), ("는다", "ㄴ다"), ("ㅂ시다", "읍시다")):
        if ending.startswith(given):
            return used + ending[len(given) :]
    for given, used in (("ㄹ", "을"), ("ㅁ", "음")):
        if ending.startswith(given):
            return used + ending[1:]
    if ending.startswith("ㄴ") and not ending.startswith("ㄴ다"):
        return "은" + ending[1:]
    return ending


def _infinitive(stem: str, kind: str) -> str:
    """The stem with 아/어, contracted: 가 -> 가, 배우 -> 배워, 걷 -> 걸어, 돕 -> 도와."""
    lead, vowel, final = _split(stem[-1])
    bright = vowel in "ㅏㅗㅑ"
    if kind == "하":
        return stem[:-1] + "해"
    if kind == "ㄷ":
        return _with_final(stem, "ㄹ") + ("아" if bright else "어")
    if kind == "ㅂ":
        return _with_final(stem, "") + ("와" if stem[-1] in "돕곱" else "워")
    if kind == "ㅅ":
        return _with_final(stem, "") + ("아" if bright else "어")
    if kind == "ㅎ":
        turned = {"ㅏ": "ㅐ", "ㅑ": "ㅒ", "ㅕ": "ㅖ", "ㅓ": "ㅐ" if stem[-2:] in ("그렇", "이렇", "저렇", "어떻") else "ㅔ"}
        return stem[:-1] + _join(lead, turned[vowel], "")
    if kind == "르":
        before = _with_final(stem[:-1], "ㄹ")
        return before + ("라" if _split(stem[-2])[1] in "ㅏㅗ" else "러")
    if kind == "러":
        return stem + "러"
    if kind == "우":
        return "퍼"
    if final:
        return stem + ("아" if bright else "어")
    if vowel == "ㅡ":
        bright_before = len(stem) > 1 and _is_bright(stem[-2])
        return stem[:-1] + _join(lead, "ㅏ" if bright_before else "ㅓ", "")
    if stem in _I_UNCONTRACTED:
        return stem + "어"
    contracted = {"ㅗ": "ㅘ", "ㅜ": "ㅝ", "ㅣ": "ㅕ", "ㅚ": "ㅙ"}
    if vowel in contracted:
        return stem[:-1] + _join(lead, contracted[vowel], "")
    return stem if vowel in "ㅏㅓㅐㅔㅕㅖ" else stem + "어"


def _is_bright(syllable: str) -> bool:
    return "가" <= syllable <= "힣" and _split(syllable)[1] in "ㅏㅗ"


def _before_eu(stem: str, kind: str) -> tuple[str, bool]:
    """The stem as it stands before an 으-ending and whether 으 disappears."""
    if kind == "ㄷ":
        return _with_final(stem, "ㄹ"), False
    if kind == "ㅂ":
        return _with_final(stem, "") + "우", True
    if kind == "ㅅ":
        return _with_final(stem, ""), False
    if kind == "ㅎ":
        return _with_final(stem, ""), True
    return stem, _final(stem) in ("", "ㄹ")


def _attach_eu(stem: str, kind: str, ending: str) -> str:
    base, bare = _before_eu(stem, kind)
    first, rest = ending[0], ending[1:]
    if not bare:
        return base + ending
    if first == "으":
        if kind == "ㄹ" and rest[:1] and (rest[0] in "오" or _split(rest[0])[0] in (2, 9)):  # ㄹ falls before ㄴ, ㅅ, 오
            base = _with_final(base, "")
        return base + rest
    jamo = {"은": "ㄴ", "을": "ㄹ", "음": "ㅁ", "읍": "ㅂ"}[first]
    if kind == "ㄹ" and jamo == "ㅁ":
        jamo = "ㄻ"
    return _with_final(base, jamo) + rest


def _present_modifier(stem: str, kind: str, is_adjective: bool, rest: str) -> str:
    if is_adjective:
        return stem + rest if rest[:1] in ("구", "군") else _attach_eu(stem, kind, "은" + rest)
    return (_with_final(stem, "") if kind == "ㄹ" else stem) + "는" + rest


def _plain_present(stem: str, kind: str, is_adjective: bool, rest: str) -> str:
    if is_adjective:
        return stem + "다" + rest
    final = _final(stem)
    if final in ("", "ㄹ"):
        return _with_final(stem, "ㄴ") + "다" + rest
    return stem + "는다" + rest


def _copula(noun: str, ending: str) -> str:
    """Noun + 이다; 이 is dropped after a vowel where Koreans drop it (의사다, 의사예요) and kept in 이고, 이며."""
    vowel = not noun or not _ends_in_consonant(noun)
    i = "" if vowel else "이"
    fixed = {"아요": "예요" if vowel else "이에요", "아": "야" if vowel else "이야", "아야": "여야" if vowel else "이어야",
             "나요": "인가요"}  # fmt: skip
    if ending in fixed:
        return noun + fixed[ending]
    if ending.startswith("았"):
        return noun + ("였" if vowel else "이었") + ending[1:]
    if ending.startswith("아야"):
        return noun + ("여야" if vowel else "이어야") + ending[2:]
    if ending.startswith("아"):
        return noun + i + "라" + ending[1:]
    if ending.startswith("ㅂ니"):
        return noun + "입니" + ending[2:]
    if ending.startswith("ㄴ다"):
        return noun + i + ("라" if ending[2:3] in ("고", "는", "면") else "다") + ending[2:]
    if ending.startswith("는"):
        return noun + (i + ending[1:] if ending[1:2] in ("구", "군") else "인" + ending[1:])
    if ending[0] in "은을음읍":
        return noun + {"은": "인", "을": "일", "음": "임", "읍": "입"}[ending[0]] + ending[1:]
    if ending.startswith("으"):
        ending = ending[1:]
        return noun + ("이" if ending[0] == "며" else i) + ending
    return noun + ("이" if ending[0] in "고던자도기" else i) + ending


def _ends_in_consonant(noun: str) -> bool:
    last = noun[-1]
    if "가" <= last <= "힣":
        return _final(last) != ""
    return last in "013678LMNRlmnr"


def _conjugate_word(word: str, kind: str, ending: str, is_adjective: bool) -> str:
    stem = word[:-1]
    if _final(stem) == "ㅆ" and stem[-1] not in "있":
        return _past_form(stem, ending)
    if kind == "이":
        return _copula(word[:-2], ending)
    if kind == "아니":
        special = {"아요": "아니에요", "아": "아니야", "나요": "아닌가요"}
        if ending in special:
            return stem[:-2] + special[ending]
        if ending.startswith("아") and not ending.startswith("아야"):
            return stem + "라" + ending[1:]
        if ending.startswith("ㄴ다") and ending[2:3] in ("고", "는", "면"):
            return stem + "라" + ending[2:]
        if ending.startswith(("았", "아")):
            return stem + ("었" if ending[0] == "았" else "어") + ending[1:]
        kind, is_adjective = "규칙", True
    if ending.startswith("아"):
        if ending == "아요" and word.endswith("시다") and not word.endswith(_NOT_HONORIFIC_SI):
            return stem[:-1] + "세요"
        return _infinitive(stem, kind) + ending[1:]
    if ending.startswith("았"):
        return _with_final(_infinitive(stem, kind), "ㅆ") + ending[1:]
    if ending.startswith("ㅂ니"):
        if _final(stem) in ("", "ㄹ"):
            return _with_final(stem, "ㅂ") + ending[1:]
        return stem + "습" + ending[1:]
    if ending.startswith("ㄴ다"):
        return _plain_present(stem, kind, is_adjective or word.endswith(("있다", "없다")), ending[2:])
    if ending.startswith("는"):
        exists = word.endswith(("있다", "없다"))
        return _present_modifier(stem, kind, is_adjective and not exists, ending[1:])
    if ending.startswith("나요") and is_adjective and not word.endswith(("있다", "없다")):
        return _attach_eu(stem, kind, "은가요")
    if ending[0] in "으은을음읍":
        return _attach_eu(stem, kind, ending)
    if kind == "ㄹ" and "가" <= ending[0] <= "힣" and _split(ending[0])[0] == 2:
        return _with_final(stem, "") + ending  # 살다 + 네요 -> 사네요
    return stem + ending


def past(predicate: str) -> str:
    """The past as a form that takes further endings: past("가다") -> "갔다"; conjugate("갔다", "는데") -> "갔는데"."""
    return conjugate(predicate, "았다")


def _past_form(stem: str, ending: str) -> str:
    """Endings after 았/었/겠: 갔어요, 갔으면, 갔습니다, 갔다고, 갔는데, 갔군요."""
    if ending.startswith("아"):
        return stem + "어" + ending[1:]
    if ending.startswith("ㅂ니"):
        return stem + "습" + ending[1:]
    if ending.startswith("ㄴ다"):
        return stem + "다" + ending[2:]
    if ending.startswith("는") and ending[1:2] in ("구", "군"):
        return stem + ending[1:]
    if ending.startswith("은"):
        return stem + ("던" if ending in ("은",) else "는" + ending[1:])
    return stem + ending


@lru_cache(maxsize=1 << 16)
def conjugate(predicate: str, ending: str) -> str:
    """The predicate with the ending (see the module's table); ValueError unless it ends in 다."""
    head, space, word = predicate.rpartition(" ")
    word, _, hint = word.partition("/")
    if not word.endswith("다") or len(word) < 2 or not ending.strip("-"):
        raise ValueError(f"cannot conjugate {predicate!r} with {ending!r}: give a dictionary form in 다 and an ending")
    if ending.startswith("_"):  # written Korean: 주었다, 보았다, 되었다, 두었다 instead of 줬다, 봤다, 됐다, 뒀다
        ending = ending[1:]
        if word[:-1].endswith(("주", "보", "되", "두")) and _normalise(ending).startswith("았"):
            return head + space + word[:-1] + ("았" if word[-2] == "보" else "었") + _normalise(ending)[1:]
    is_adjective = hint == "형" if hint in ("동", "형") else adjective(predicate)
    kind = _irregular_class(word) if hint in ("", "동", "형") else hint
    return head + space + _conjugate_word(word, kind, _normalise(ending), is_adjective)
