"""What surrounds a text on its page: menus, share buttons, notices, copyright, page numbers; line by line.

Such lines repeat on thousands of pages and teach a model to recite them. Each is known by what it is made of: words of
the interface (로그인, 목록, 공유), items between bars, a sign such as ⓒ. A line of prose that only mentions one of these
stays. Lines that many documents share are found by counting, in deduplication, and need no list.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from pydantic import Field

from llm_workshop.curation.step import Drop, Step

_WORDS = frozenset(
    "홈 home 메인 처음 처음으로 이전 다음 끝 마지막 이전글 다음글 목록 목록보기 목록으로 더보기 펼치기 접기 열기 닫기 검색 검색어 메뉴 전체메뉴 주메뉴 "
    "바로가기 본문 본문바로가기 하단 상단 로그인 로그아웃 회원가입 마이페이지 장바구니 주문조회 사이트맵 고객센터 고객지원 공지사항 자료실 "
    "게시판 자유게시판 커뮤니티 오시는 찾아오시는 길 전체 전체보기 공유 공유하기 카카오톡 카카오스토리 페이스북 트위터 라인 밴드 네이버 블로그 "
    "인스타그램 유튜브 x url 링크 복사 url복사 링크복사 주소복사 인쇄 인쇄하기 프린트 스크랩 스크랩하기 신고 신고하기 추천 추천하기 비추천 좋아요 싫어요 "
    "공감 댓글 댓글쓰기 답글 답변 조회 조회수 글쓰기 수정 삭제 등록 작성 북마크 구독 구독하기 팔로우 알림 글자 글자크기 크기 글씨 확대 축소 가 "
    "맨 위로 top 위로 앱 다운로드 설치 설치하기 뉴스 뉴스홈 정치 경제 사회 문화 스포츠 연예 국제 세계 it 과학 생활 오피니언 날씨 포토 영상 많이 본 "
    "관련 인기 최신 글 기사 게시물 보기 회사소개 제휴문의 광고문의 이용약관 개인정보처리방침 개인정보취급방침 청소년보호정책 청소년보호책임자 저작권정책 "
    "이메일무단수집거부 고객문의 faq rss 기사제보 구독신청 이용안내 동의 거부 자세히 자세히보기 확인 취소 이용후기 질문과".split()
)  # fmt: skip
#: words that stand in a menu but also in any sentence: they support others and prove nothing alone
_WEAK = frozenset("가 길 맨 본 글 앱 x it 전체 처음 끝 마지막 크기 글자 등록 작성 확인 취소 관련 인기 최신 사회 문화 정치 경제 과학 생활 날씨 기사 뉴스 영상 보기".split())
_ITEM = re.compile(r"[가-힣A-Za-z]+|\d[\d,.:]*")
_BARS = re.compile(r"\s*[|│ㅣ·›»>]\s*")
_SENTENCE_END = re.compile(r"(?:[다요죠까]|니다|세요|음|함)[.!?]|[다요죠까][\"”’)]*$")

_SIGNS = re.compile(
    r"""
    (?:copyright|저작권자?)\s*(?:ⓒ|©|\(c\)|\d{4}) | [ⓒ©]\s*\S.{0,60}(?:무단|금지|rights|reserved|corp|inc\b) | all\ rights\ reserved
  | ^[ⓒ©]\s*(?:\d{4}|[^\s,]+\s*$)
  | 무단\s*(?:전재|복제|배포|도용|사용)\S*(?:\s*(?:및|/|,|·|-)?\s*(?:전재|복제|재배포|배포|수집|AI\s*학습|이용)\S*){0,4}\s*(?:을|를)?\s*(?:금지|금합니다|금함|금하)
  | (?:통신판매업\s*신고|사업자\s*등록)\s*(?:번호)?\s*[:：]?\s*(?:제|\d) | 청소년\s*보호\s*책임자\s*[:：|]
  | ^(?:기사\s*)?(?:입력|등록|수정|작성|게시|최종\s*수정|발행|승인)(?:일시?|시간)?\s*[:：]?\s*(?:19|20)\d\d\s*[-./년]
  | ^\[[^\[\]]{1,20}\]\s*(?:조회|추천|댓글)\s*:?\s*\d | ^[♡♥❤]?\s*(?:조회수?|추천|공감|좋아요|댓글)\s*:?\s*\d[\d,]*\s*(?:[|·,/]|\s)\s*(?:조회수?|추천|공감|좋아요|댓글|공유|스크랩)
  | ^(?:태그|키워드|해시태그|tags?)\s*[:：]\s*\# | ^(?:\#[^\s\#,]+[\s,]*){3,}$
  | ^(?:홈|home|메인|처음|HOME|Home)\s*[>›»]
  | ^(?:[▲△↑]\s*)?(?:맨\s*위로|위로\s*가기|페이지\s*상단으?로?|top)\s*[▲△↑]?$
  | ^[▶▷►■◆☞※★+\-]*\s*(?:관련|추천|인기|많이\s*본|최신|다른|이\s*시각)\s*(?:글|기사|뉴스|게시물|포스트|영상|상품|주요뉴스)\s*(?:들)?\s*(?:더\s*보기|보기|목록|모음|[>▶»:]|$)
  | ^많이\s*본\s*(?:글|뉴스|기사)(?:\s+\d+)+
  | ^>?\s*\[!div\b[^\]]*\]$ | ^:{3,}\s*(?:[a-z][^가-힣]*)?$ | ^:(?:begin|end)_tab:(?:`[^`]*`)?$ | ^\[\[_?TOC_?\]\]$
  """,
    re.VERBOSE | re.IGNORECASE,
)
_NOTICES = re.compile(
    r"""
    쿠키를?\s*(?:사용|수집|이용).{0,60}(?:동의|간주|거부|설정)
  | (?:댓글|답글|글|게시물)을?\s*(?:작성|등록|입력|쓰|남기)\S*\s*(?:려면|위해서는|시려면)?.{0,10}로그인
  | 로그인\s*(?:후|하신\s*후|한\s*회원)\S*\s*(?:이용|작성|열람)\S*\s*(?:가능|하실\s*수|해\s*주)
  | (?:자바\s*스크립트|javascript)\S*.{0,20}(?:꺼져|꺼진|비활성|활성화|지원하지|허용).{0,40}(?:제한|수\s*(?:없|있)|주세요|바랍니다|필요)
  | (?:욕설|비방|광고|도배|명예훼손).{0,40}(?:댓글|게시물|글)?\S*.{0,20}(?:예고|통보|사전)\s*없이\s*삭제
  | (?:본|이)\s*(?:게시물|게시글|글|기사|콘텐츠|포스트)의?\s*(?:내용|저작권).{0,30}(?:의견과\s*(?:다를|무관)|공식\s*입장|에게\s*있습니다|책임(?:지지|을\s*지지))
  | (?:좋아요|구독|알림\s*설정|공감).{0,12}(?:좋아요|구독|알림\s*설정|공감|댓글)\S*.{0,12}(?:눌러|부탁|꾹)
  | (?:앱|어플|app)(?:에서|으로|을)?.{0,14}(?:편하게|빠르게|열기|보기|다운|설치).{0,16}(?:설치|다운로드|받기|열기)(?:하기|하세요)?\s*[>▶»]?\s*$
  """,
    re.VERBOSE | re.IGNORECASE,
)
# one of these stands in every line that the two patterns and the count of words can find
_TRIGGER = re.compile(
    r"[|│ㅣ›»>©ⓒ▲▶#]|:::|_tab:|\[\[_?TOC|로그인|바로가기|메뉴|공유|목록|댓글|조회|공감|추천|좋아요|스크랩|구독|인쇄|[Cc]opyright|COPYRIGHT|[Rr]ights|RIGHTS|"
    r"무단|저작권|통신판매|사업자|입력|등록|수정|작성|게시|발행|승인|태그|[Tt]ag|TAG|키워드|맨 ?위로|위로|더 ?보기|많이 본|관련|인기|다음|이전|쿠키|자바|"
    r"[Jj]ava|욕설|비방|앱|어플|검색|전체보기|이용약관|개인정보|고객센터|[Tt]op|TOP"
)


#: what an administrator added in brackets at the end of somebody's text
_ADDED = re.compile(
    r"\s*[\[(<](?=[^\[\]]{0,120}(?:관리자|운영자|운영진|운영 ?원칙|요건))[^\[\]]{0,120}(?:수정|숨김|삭제|비공개|블라인드)[^\[\]]{0,25}[\])>]\s*\Z"
)


def is_boilerplate(line: str, most: int = 160) -> bool:
    """Whether a line belongs to the page and not to the text; longer lines than ``most`` characters never do."""
    if len(line) > most or _TRIGGER.search(line) is None:
        return False
    line = line.strip()
    if _SIGNS.search(line) or _NOTICES.search(line):
        return True
    if line.startswith(("|", ">", "- ", "* ", "#")) or _SENTENCE_END.search(line):
        return False
    items = [item.lower() for item in _ITEM.findall(line)]
    words = [item for item in items if not item[0].isdigit()]
    if not words:
        return False
    numbers = len(items) - len(words)
    of_menu = [word for word in words if word in _WORDS]
    strong = len([word for word in of_menu if word not in _WEAK])
    bars = len(_BARS.findall(line)) if "|" in line or "│" in line or ">" in line or "·" in line or "ㅣ" in line else 0
    share = len(of_menu) / len(words)
    if numbers >= 5 and share == 1:
        return True  # 1 2 3 4 5 다음
    if bars >= 2 and share >= 0.5 and strong:
        return True  # 로그인 | 회원가입 | 사이트맵
    if bars == 1 and share >= 0.6 and strong >= 1 and len(words) <= 8:
        return True
    return strong >= 2 and share >= (0.6 if strong > 2 else 0.8)  # 카카오톡 공유 페이스북 트위터 URL 복사


class Boilerplate(Step):
    """Menus, share buttons, notices, copyright lines and page numbers are cut out; a text of nothing else is dropped."""

    name: ClassVar[str] = "boilerplate"
    title: ClassVar[str] = "메뉴·공유·저작권 줄"

    most: int = Field(160, ge=20, description="characters of the longest line that is looked at")

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        if text[-1:] in "])>" and (added := _ADDED.search(text, max(0, len(text) - 250))):
            tags["boilerplate_notice"] = True
            text = text[: added.start()]
        if ("\n" not in text and len(text) > self.most) or _TRIGGER.search(text) is None:
            return text
        lines = text.split("\n")
        kept, code = [], False
        for line in lines:
            code ^= line.lstrip().startswith("```")
            if code or not is_boilerplate(line, self.most):
                kept.append(line)
        if len(kept) == len(lines):
            return text
        tags["boilerplate_lines"] = len(lines) - len(kept)
        new = "\n".join(kept).strip()
        return new if new else Drop("only_boilerplate", text[:20])


STEPS = (Boilerplate,)
