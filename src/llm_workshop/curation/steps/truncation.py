"""Texts that stop in the middle of a word or a sentence, as list pages, search results and broken downloads leave them.

What is missing cannot be had again, and a model that learns from such texts stops in the middle too. Full stops alone
are no measure: titles, signatures, answers and most comments end without. So the evidence is collected: a sign of a
list page (더보기), an ending that no word has (었, 습), and whether everything else in the text is punctuated.
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Any, ClassVar

from pydantic import Field

from llm_workshop.curation.spacing import end_score
from llm_workshop.curation.step import Drop, Step

_MORE = re.compile(
    r"(?:(?:\.{2,}|…)\s*[\[(<〔]?|[\[(<〔]|^)\s*(?:(?:전문|본문|기사|계속|더|자세히)\s?(?:더\s?)?(?:보기|읽기)|계속|이하\s?생략|후략|중략|read more|more)\s*[\])>〕»>]*\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_DOTS = re.compile(r"(?:\.{2,}|…+)$")
_OTHER_DOTS = re.compile(r"\.\.")
_SENTENCE_END = re.compile(r"[.!?。…][\"'”’)\]」』]*(?=\s|$)")
_LABEL = re.compile(r"^\s*(?!https?:)([^\s:：()]{1,12}(?: [^\s:：()]{1,8})?)\s?[:：)]\s*")
#: what stands after these labels is a value and no sentence
_VALUES = frozenset(
    "답 대답 정답 답변 관계 평점 점수 별점 날짜 날씨 이름 성명 작성자 출처 제목 주제 장소 일시 시간 재료 분류 종류 가격 전화 주소 저자 옮긴이 글 사진 "
    "a A 결과 품목 단위 소속 직업 나이 분량 준비물 참고 비고 담당 문의 링크 내용 계좌 계좌번호 예금주 연락처 전화번호 배송지".split()
)
_CLOSED = re.compile(r"(?:[다요죠까네음함임됨끝]|세[여용]|[시하]오)$")
_POLITE = re.compile(r"(?:니다|[어아해세까네지]요|십시오)$")
#: names and dates under a letter, a petition, an article
_SIGNED = re.compile(
    r"(?:올림|드림|배상|씀|보냄|기자|특파원|일동|대표|회장|의원|위원장|시민|주민|국민|블로그|에게|께)$|\d+\s*[월일년시분점명원]$|(?:19|20)\d\d\s?[년.]|\d월 ?\d+일"
)
_ADDRESSED = re.compile(r"(?:에게|께|아|야|님|여러분)[,!]?$|^\S{1,6}[아야][,!]|안녕")
#: what a writer trails off after: 하지 말라..., 왕창 내게 하면서..., 제발...
_TRAILING = re.compile(r"(?:[말달]라|[면으]서|는데|지만|니까|제발|하길|기를|텐데)$")
_ITEM_NUMBER = re.compile(r"(?:^|\s)\d{1,2}\.$")
_COMMENT = 200  # characters: a remark, which people write as they speak
_BULLET = re.compile(r"^\s*(?:[-*→▶■●○◆·※#>|]|\d+(?=[.)])|[①-⑳])")
_FINAL = re.compile(r"(?:[다요죠까네음임함됨봄짐줌움듬슴옴킴듯군걸게자라지니야래여용당염삼끝굳길것추]|영화|작품|드라마|최고|느낌|맛|휴|습니|세|예|네|쇼)$")


class Truncated(Step):
    """Drops a text that was cut: by a sign of a list page, an impossible end, or a last sentence unlike the others."""

    name: ClassVar[str] = "truncated"
    title: ClassVar[str] = "잘린 글"

    minimum: int = Field(3, ge=1, description="ends of sentences that a text has before a missing one counts")
    longest: int = Field(600, ge=1, description="characters; a longer text loses little by a missing end, and keeps its place")
    #: 었 -5, 습 -5, 다 +2
    impossible: float = Field(-2.5, le=0, description="log-odds below which no word ends")

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        last = text[-1:]
        if last in ".!?" and not text.endswith(".."):
            return text
        if _MORE.search(text[-40:]):
            return Drop("more_elsewhere", text[-20:])
        if len(text) > self.longest:
            return text
        body = _DOTS.sub("", text)
        dots = len(body) < len(text)
        if not body or not "가" <= body[-1] <= "힣" or body.split()[-1][0] == "#":
            return text
        # manuals in Markdown end with links (파일 작업), readings with answers (답: 붓, 벼루, 먹): nouns of any shape
        line = body[body.rfind("\n") + 1 :]
        label = _LABEL.match(line)
        nouns = "\n#" in body or (label is not None and label.group(1) in _VALUES) or _BULLET.match(line)
        floor = -4.5 if nouns else self.impossible
        if end_score(body[-1]) < floor and not _FINAL.search(body):
            return Drop("inside_word", text[-12:])
        return Drop("open_sentence", text[-20:]) if self._open(body, dots) else text

    def _open(self, body: str, dots: bool) -> bool:
        """Whether the last words begin a sentence that does not end, in a text whose other sentences do."""
        *earlier, line = body.split("\n")
        before = [entry for entry in earlier if entry.strip()]
        closed = [bool(_SENTENCE_END.search(entry[-4:])) for entry in before]
        ends = list(_SENTENCE_END.finditer(line))
        sentences = len(ends) + sum(len(_SENTENCE_END.findall(entry)) for entry in before)
        rest = line[ends[-1].end() :].strip() if ends else line.strip()
        value = _LABEL.match(rest)
        if value is not None and value.group(1).split()[-1] in _VALUES:
            return False  # 환불받을 계좌: 가온은행 ... 김가람
        label = _LABEL.match(line)
        if _OTHER_DOTS.search(line if label else body) and (dots or len(body) < _COMMENT):
            return False  # a writer who ends everything with dots
        final = (_FINAL if len(body) < _COMMENT // 4 else _CLOSED).search(rest) is not None
        if _BULLET.match(line):
            # an item without a full stop among items with one; a heading, a table and a quotation say nothing
            items = list(takewhile(lambda item: _BULLET.match(item[0]), zip(reversed(before), reversed(closed))))
            plain = line[0] not in "#|>" and len(items) + dots > 1 and all(end for _, end in items)
            return plain and not _CLOSED.search(rest)
        if label is not None and label.group(1) not in _VALUES:
            spoken = [end for entry, end in zip(before, closed) if _LABEL.match(entry)]
            return not spoken or spoken[-1] or len(ends) > 0 or not final
        if _SIGNED.search(rest) or (dots and _TRAILING.search(rest)):
            return False
        if ends and _ITEM_NUMBER.search(line[: ends[-1].end()]):
            return False  # 1. 물청소 2. 시설 점검: items of a list within a line
        if ends:
            if sentences < self.minimum:
                # one or two sentences prove little: comments end as they like
                inside = end_score(body[-1]) < 0
                return not final and len(body) >= 30 and (inside if dots and sentences < 2 else dots or " " in rest or inside)
            return not (_POLITE if dots else _CLOSED).search(rest)
        if label is not None:
            return False
        labels = [match.group(1) for match in map(_LABEL.match, before) if match]
        if labels and len(labels) >= len(before) - 1 and len(rest) <= 4:
            # the name of a speaker, cut: "도" of "도우미"
            return " " not in rest and labels[-1] not in _VALUES
        if not before or "\n#" in body or (len(rest) <= 20 and not dots and _ADDRESSED.search(before[0])):
            return False  # one line without a full stop; or the name under a letter
        return not _CLOSED.search(rest) and closed[-1] and sentences >= 2 and (
            " " in rest or dots or len(rest) == 1 or end_score(body[-1]) < 0
        )


STEPS = (Truncated,)
