"""Documents that do not belong into a Korean corpus, and the lines that surround pages on the web.

Everything is written for this course: advertisements of shops that do not exist, short texts in English, Japanese
and Chinese, keyboard noise.
"""

from __future__ import annotations

import random
from collections.abc import Callable

# Boilerplate ------------------------------------------------------------------------------------------------------

_MENUS = (
    "홈 > 커뮤니티 > {board}",
    "로그인 | 회원가입 | 사이트맵 | 고객센터",
    "메뉴 바로가기 본문 바로가기 하단 바로가기",
    "전체메뉴 열기 공지사항 {board} 자료실 오시는 길",
    "뉴스홈 | 정치 | 경제 | 사회 | 문화 | 스포츠 | 날씨",
    "[{board}] 조회 {n} | 추천 {m} | 댓글 {k}",
    "글자 크기 가 가 가 | 인쇄 | 스크랩",
    "입력 2026.{month:02d}.{day:02d} {hour:02d}:{minute:02d} 수정 2026.{month:02d}.{day:02d} {hour:02d}:{minute:02d}",
)
_SHARES = (
    "카카오톡 공유 페이스북 트위터 URL 복사",
    "이 글이 마음에 드셨다면 좋아요와 구독을 눌러 주세요!",
    "공유하기 | 신고하기 | 목록 | 이전글 | 다음글",
    "좋아요 {n} 공유 {k} 댓글 {m}",
    "♡ 공감 {n} · 댓글 {k} · 스크랩 {m}",
)
_NOTICES = (
    "이 사이트는 더 나은 서비스를 위해 쿠키를 사용합니다. 계속 이용하시면 쿠키 사용에 동의하시는 것으로 간주합니다. [동의] [거부] [자세히]",
    "댓글을 작성하려면 로그인해 주세요.",
    "건전한 댓글 문화를 위해 욕설, 비방, 광고성 댓글은 예고 없이 삭제될 수 있습니다.",
    "본 게시물의 내용은 운영자의 의견과 다를 수 있습니다.",
    "자바스크립트가 꺼져 있으면 일부 기능을 이용하실 수 없습니다.",
    "앱에서 더 편하게 보세요! 지금 설치하기 >",
)
_COPYRIGHTS = (
    "Copyright ⓒ {year} {site}. All rights reserved.",
    "ⓒ {site}, 무단 전재 및 재배포 금지",
    "저작권자 ⓒ {site} 무단 복제 및 전재를 금합니다.",
    "{site} | 개인정보처리방침 | 이용약관 | 청소년보호책임자",
    "상호: {site} | 통신판매업신고 제{year}-{site}-{n}호",
)
_RELATED = (
    "▶ 관련 글 더 보기",
    "많이 본 글 1 2 3 4 5 6 7 8 9 10",
    "1 2 3 4 5 6 7 8 9 10 다음 끝",
    "맨 위로 ▲",
    "태그: #일상 #소통 #맞팔 #정보 #{board}",
)
_BOARDS = ("자유게시판", "우리 동네 소식", "생활정보", "이용후기", "문화생활", "질문과 답변", "나눔터")
_SITES = ("달빛신문", "가람포털", "우리동네닷컴", "한들문화원", "솔내커뮤니티", "푸른소식")


def boilerplate_lines(rng: random.Random) -> tuple[list[str], list[str]]:
    """Lines before and lines after a page; at least one of them."""

    def fill(line: str) -> str:
        return line.format(
            board=rng.choice(_BOARDS), site=rng.choice(_SITES), n=rng.randint(10, 9999), m=rng.randint(0, 99),
            k=rng.randint(0, 99), year=rng.randint(2015, 2026), month=rng.randint(1, 12), day=rng.randint(1, 28),
            hour=rng.randrange(24), minute=rng.randrange(60),
        )  # fmt: skip

    head = [fill(line) for line in rng.sample(_MENUS, rng.choice((0, 1, 1, 2, 3)))]
    tail = [fill(rng.choice(_SHARES))] if rng.random() < 0.6 else []
    tail += [fill(rng.choice(_NOTICES))] if rng.random() < 0.5 else []
    tail += [fill(rng.choice(_RELATED))] if rng.random() < 0.5 else []
    if rng.random() < 0.7 or not head + tail:
        tail.append(fill(rng.choice(_COPYRIGHTS)))
    return head, tail


# Spam -------------------------------------------------------------------------------------------------------------

_SPAM = {
    "loan": (
        "(광고) 무직자도 OK! 당일 {m}00만원 대출 가능", "신용등급 상관없이 3분 만에 승인", "이자 첫 달 무료 이벤트 진행중",
        "지금 바로 상담 받으세요 ☎ 1500-0{n:03d}", "서류 없이 전화 한 통으로 끝", "연체자, 주부, 대학생 모두 가능합니다",
        "한도 조회해도 기록이 남지 않습니다",
    ),
    "shopping": (
        "★★오늘만 {k}% 파격세일★★", "정품 아니면 100% 환불", "선착순 {n}명 사은품 증정!!", "무료배송 무료반품",
        "클릭 → http://sale{n}.example.com", "재고 {k}개 남았습니다 서두르세요", "인플루언서가 극찬한 바로 그 제품",
        "1+1 행사 놓치면 후회합니다",
    ),
    "health": (
        "먹기만 해도 {m}kg 감량!", "의사도 놀란 기적의 성분", "한 달만 드셔 보세요 몸이 달라집니다", "부작용 0% 천연 성분",
        "체험 후기 {n}건 돌파", "평생 요요 없는 비법 공개", "지금 주문하면 {k}% 할인",
    ),
    "job": (
        "하루 2시간 재택부업 월 {n}만원 보장", "초보 가능 경력 무관", "핸드폰만 있으면 누구나", "가입비 없음 선착순 {k}명",
        "문의 톡 아이디 job{n}", "육아맘 대환영♥", "당일 지급 약속드립니다",
    ),
    "gamble": (
        "첫충 {k}% 지급!!", "가입 즉시 {n}포인트", "먹튀 없는 안전한 곳", "추천인 코드 VIP{n}", "매일매일 이벤트 진행",
        "주소 → http://vip{n}.example.net", "24시간 친절 상담",
    ),
    "invest": (
        "수익률 {n}% 실화?", "무료 종목 추천방 입장하기", "어제도 상한가 적중!", "리딩비 없습니다 부담없이 들어오세요",
        "선착순 {k}명만 비밀 정보 공개", "원금 보장 월 {m}% 확정", "http://money{n}.example.org 지금 클릭",
    ),
}  # fmt: skip
_DECORATIONS = ("♥", "★", "▶", "◆", "※", "!!", "~~", "☎", "■", "")


def spam(rng: random.Random) -> tuple[str, dict]:
    """An advertisement of a topic, in capitals and stars."""
    topic = rng.choice(tuple(_SPAM))
    lines = rng.sample(_SPAM[topic], rng.randint(3, 6))
    mark, joint = rng.choice(_DECORATIONS), rng.choice(("\n", "\n", " ", " / "))
    filled = [line.format(n=rng.randint(10, 999), k=rng.randint(10, 90), m=rng.randint(3, 9)) for line in lines]
    text = joint.join(f"{mark}{line}{mark if rng.random() < 0.4 else ''}" for line in filled)
    return text, {"topic": topic}


# Other languages --------------------------------------------------------------------------------------------------

_ENGLISH = (
    ("The {a} near the {b} opens at {n} in the morning", "We walked to the {b} because the bus was late",
     "My {c} asked whether the {a} was still open", "It rained all day, so nobody came to the {b}",
     "She bought {n} apples and a loaf of bread at the {a}", "Please close the window before you leave the {a}",
     "The old map of the {b} hangs on the wall of our {a}", "I forgot my umbrella at the {a} again",
     "There are {n} chairs in the room, but only two of them are safe to sit on",
     "His {c} repairs bicycles and sells used books", "The train to the {b} leaves every {n} minutes",
     "Nobody remembers who built the {a} on the hill"),
    {"a": ("library", "bakery", "school", "museum", "market", "office", "theatre"),
     "b": ("river", "station", "park", "harbour", "village", "bridge", "lake"),
     "c": ("sister", "neighbour", "uncle", "teacher", "friend", "grandmother")},
)  # fmt: skip
_JAPANESE = (
    ("{a}は朝{n}時に開きます", "昨日、{c}と一緒に{b}へ行きました", "雨が降っていたので、{b}には誰もいませんでした",
     "{c}は{a}で本を{n}冊借りました", "この{a}はとても静かで、好きな場所です", "{b}まで歩いて{n}分かかります",
     "電車が遅れて、{c}に電話をかけました", "窓を閉めてから{a}を出てください", "{c}の作ったケーキはとてもおいしかったです",
     "来週、{b}で小さな祭りがあります"),
    {"a": ("図書館", "パン屋", "学校", "美術館", "市場", "会社"), "b": ("公園", "駅", "港", "川", "海", "村"),
     "c": ("友だち", "先生", "母", "兄", "隣の人", "祖母")},
)  # fmt: skip
_CHINESE = (
    ("{a}早上{n}点开门", "昨天我和{c}一起去了{b}", "因为下雨，{b}一个人也没有", "{c}在{a}借了{n}本书",
     "这个{a}很安静，我很喜欢", "走到{b}大约要{n}分钟", "火车晚点了，所以我给{c}打了电话", "离开{a}之前请关上窗户",
     "{c}做的蛋糕非常好吃", "下个星期{b}有一个小节日"),
    {"a": ("图书馆", "面包店", "学校", "美术馆", "市场", "公司"), "b": ("公园", "车站", "港口", "河边", "海边", "村子"),
     "c": ("朋友", "老师", "妈妈", "哥哥", "邻居", "奶奶")},
)  # fmt: skip
_LANGUAGES = {"en": (_ENGLISH, ". ", "."), "ja": (_JAPANESE, "。", "。"), "zh": (_CHINESE, "。", "。")}


def other_language(rng: random.Random) -> tuple[str, dict]:
    """Three to eight sentences of English, Japanese or Chinese."""
    language = rng.choice(tuple(_LANGUAGES))
    (sentences, words), joint, end = _LANGUAGES[language]
    chosen = rng.sample(sentences, rng.randint(3, min(8, len(sentences))))
    filled = [s.format(n=rng.randint(6, 11), **{k: rng.choice(v) for k, v in words.items()}) for s in chosen]
    return joint.join(filled) + end, {"language": language}


# Gibberish --------------------------------------------------------------------------------------------------------

_INITIALS, _VOWELS, _FINALS = 19, 21, 28
_KEYS = "ㅁㄴㅇㄹㅎㅗㅓㅏㅣㅂㅈㄷㄱㅅㅋㅌㅊㅍ"


def gibberish(rng: random.Random) -> tuple[str, dict]:
    """Random syllables, keys hit at random, symbols, or one piece over and over."""
    style = rng.choice(("syllables", "keyboard", "symbols", "repeated", "latin"))
    words = []
    unit = "".join(chr(0xAC00 + rng.randrange(11172)) for _ in range(rng.randint(1, 3)))
    for _ in range(rng.randint(12, 60)):
        length = rng.randint(1, 7)
        if style == "syllables":
            words.append("".join(chr(0xAC00 + rng.randrange(_INITIALS * _VOWELS * _FINALS)) for _ in range(length)))
        elif style == "keyboard":
            words.append("".join(rng.choice(_KEYS) for _ in range(length)))
        elif style == "symbols":
            words.append("".join(rng.choice("!@#$%^&*()_+-=~|\\<>?/;:") for _ in range(length)))
        elif style == "latin":
            words.append("".join(rng.choice("asdfghjklqwertyuiopzxcvbnm") for _ in range(length)))
        else:
            words.append(unit)
    return " ".join(words), {"style": style}


ADDITIONS: dict[str, Callable[[random.Random], tuple[str, dict]]] = {
    "spam": spam,
    "other_language": other_language,
    "gibberish": gibberish,
}
