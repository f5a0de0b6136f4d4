"""Lines of the page, as sites write them and not as the sample does."""

from __future__ import annotations

import pytest

from llm_workshop.curation.step import Drop
from llm_workshop.curation.steps.boilerplate import Boilerplate, is_boilerplate

STORY = "어제는 비가 와서 집에 있었다.\n오늘은 맑아서 산책을 나갔다."


@pytest.mark.parametrize(
    "line",
    [
        "홈 > 뉴스 > 사회",
        "로그인 | 회원가입 | 마이페이지 | 장바구니",
        "메인메뉴 바로가기 본문 바로가기",
        "페이스북 공유 트위터 공유 카카오스토리 공유 URL 복사",
        "Copyright (c) 2021 누리신문. All Rights Reserved.",
        "ⓒ 누리신문 & nuri.example, 무단전재-재배포 금지",
        "<저작권자 ⓒ 누리뉴스, 무단 전재 및 재배포 금지, AI 학습 이용 금지>",
        "이전글 | 목록 | 다음글",
        "처음 이전 1 2 3 4 5 6 다음 끝",
        "기사입력 2020-03-04 오후 3:20",
        "등록일: 2019.05.02",
        "조회 1,204 · 추천 3",
        "좋아요 12 댓글 3 공유",
        "태그: #여행 #맛집 #주말",
        "#여행 #맛집 #주말 #일상",
        "▲ 맨 위로",
        "관련기사 더보기",
        "많이 본 뉴스",
        "이 사이트는 쿠키를 사용합니다. 계속 보시면 쿠키 사용에 동의하는 것으로 봅니다.",
        "댓글을 쓰려면 로그인이 필요합니다.",
        "자바스크립트를 지원하지 않는 브라우저에서는 일부 기능을 사용할 수 없습니다.",
        "사업자등록번호: 123-45-67890 | 통신판매업신고번호: 제2020-서울강남-0001호",
        "구독과 좋아요, 알림 설정까지 꼭 눌러 주세요~",
        "개인정보처리방침 | 이용약관 | 고객센터",
        '> [!div class="nextstepaction"]',
        ':::code language="csharp" source="snippets/Program.cs" id="read":::',
        ":::",
        ":begin_tab:`pytorch`",
        "[[TOC]]",
    ],
)
def test_lines_of_the_page(line):
    assert is_boilerplate(line)
    assert Boilerplate()(f"{line}\n{STORY}\n{line}", {}) == STORY


@pytest.mark.parametrize(
    "line",
    [
        "로그인 화면이 나오면 이름과 비밀번호를 넣으세요.",
        "그는 신문에 실린 글을 공유하며 댓글을 남겼다.",
        "저작권자의 허락 없이는 쓸 수 없습니다.",
        "이 노래가 정말 좋아요. 추천합니다!",
        "1. 메뉴에서 설정을 누르고 목록에서 언어를 고릅니다.",
        "재료: 밥 | 김 | 단무지",
        "| 이름 | 조회 | 추천 |",
        "■ 공감",
        "관련 법령에 따라 신고해야 한다.",
        "1 2 3",
        "3 > 2 > 1",
        "앱에서 본 글이 마음에 들어 저장했다.",
        "작성자: 김하늘",
        "조회 시간에 선생님이 오셨다.",
        "다음 이야기",
        "메뉴 열기 애니메이션",
        "인쇄 및 인쇄 미리 보기",
        '태그: "여행", "맛집"',
        "홈 경기에서 이겼다.",
    ],
)
def test_lines_of_a_text(line):
    assert not is_boilerplate(line)
    text = f"{line}\n{STORY}"
    assert Boilerplate()(text, {}) is text


def test_tags_say_how_many_and_nothing_left_is_a_drop():
    tags = {}
    Boilerplate()(f"로그인 | 회원가입 | 고객센터\n{STORY}\nⓒ 누리신문", tags)
    assert tags == {"boilerplate_lines": 2}
    assert isinstance(Boilerplate()("로그인 | 회원가입 | 고객센터\nⓒ 누리신문", {}), Drop)


def test_code_and_long_lines_stay():
    code = "```\n# Copyright (c) 2020 Example. All rights reserved.\n```\n설명이다."
    assert Boilerplate()(code, {}) == code
    long = "무단 전재 및 재배포 금지 " * 20
    assert Boilerplate()(f"{long}\n글", {}) == f"{long}\n글"
    assert Boilerplate(most=1000)(f"{long}\n글", {}) == "글"


def test_an_administrators_notice_at_the_end_goes():
    notice = "[본 게시글의 일부 내용이 운영 요건에 맞지 않아 관리자에 의해 수정되었습니다]"
    tags = {}
    assert Boilerplate()(f"{STORY} {notice}", tags) == STORY and tags == {"boilerplate_notice": True}
    for kept in (f"{notice} {STORY}", f"{STORY} [사진: 관리자]", f"{STORY} (관리자가 나중에 수정함) 그렇다."):
        assert Boilerplate()(kept, {}) == kept
