"""HTML to text."""

from __future__ import annotations

import pytest

from llm_workshop.curation.step import Drop
from llm_workshop.curation.steps.markup import Html


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<p>첫 문단</p><p>둘째 문단</p>", "첫 문단\n둘째 문단"),
        ("<p>첫 문단</p>\n\n<p>둘째 문단</p>", "첫 문단\n둘째 문단"),
        ("첫 줄<br>둘째 줄<br/>\n셋째 줄", "첫 줄\n둘째 줄\n셋째 줄"),
        ("첫 문단<br><br>둘째 문단", "첫 문단\n\n둘째 문단"),
        ("줄 안에서<br> 이어진다", "줄 안에서 이어진다"),
        ("나는 <b>밥</b>을 <em>먹었다</em>.", "나는 밥을 먹었다."),
        ("<b>앞</b> <title> 요소와 <script> 요소 <i>뒤</i>", "앞 <title> 요소와 <script> 요소 뒤"),
        ("<!DOCTYPE html><p>글</p><!-- 여러 줄\n주석 -->", "글"),
        ("앞<script>var 몰래 = 1 < 2;</script><style>p{color:red}</style><!-- 주석 -->뒤", "앞뒤"),
        ("<ul><li>하나</li><li>둘</li></ul>", "하나\n둘"),
        ("<table><tr><th>이름</th><th>값</th></tr><tr><td>키</td><td>170</td></tr></table>", "이름 값\n키 170"),
        ("<nav>홈 소개</nav><div>본문</div><footer>회사 정보</footer>", "본문"),
        ('본문입니다.<a href="/list">목록 보기</a>', "본문입니다."),
        ('자세한 것은 <a href="/a">이 글</a>을 보세요.', "자세한 것은 이 글을 보세요."),
        ("<div class='a'>닫지 않은 <p>글", "닫지 않은\n글"),
        ("A &amp; B &lt; C &quot;인용&quot; &#44032;&#xAC01;&nbsp;끝", 'A & B < C "인용" 가각 끝'),
        ("두 번 감싼 &amp;amp;lt;p&amp;amp;gt;", "두 번 감싼 <p>"),
        ("<html><body><p>줄이\n바뀌어도 한 문단</p></body></html>", "줄이 바뀌어도 한 문단"),
    ],
)
def test_what_a_reader_saw(before, after):
    assert Html()(before, {}) == after


@pytest.mark.parametrize(
    "text",
    [
        "1 < 2 이고 3 > 2 이다",
        "vector<int> v; map<string, int>",
        "R&D 예산과 Q&A, AT&T",
        "&없는이름; &notanentity;",
        "이 글은 <title> 요소를 다룹니다",
        "<영화 제목>을 보았다 <3",
        "`<b>굵게</b>`라고 쓴다",
        "```html\n<p>예제</p>\n```",
        "\\<br\\> 라고 적는다",
        "**<!--** 를 적으면 주석이 시작됩니다. 그 뒤의 글",
        "문서는 <!DOCTYPE html> 로 시작한다",
    ],
)
def test_what_is_no_markup_stays(text):
    assert Html()(text, {}) is text or Html()(text, {}) == text


def test_code_can_be_converted_too():
    assert Html(keep_code=False)("`<b>굵게</b>`", {}) == "`굵게`"


def test_white_space_around_code_stays():
    assert Html()("<b>먼저</b>\n\n```\n  a < b\n```\n\n<i>다음</i>", {}) == "먼저\n\n```\n  a < b\n```\n\n다음"


def test_a_page_without_text_is_dropped():
    assert Html()("<script>load()</script><img src='a.png'/>", {}) == Drop("no_text")


def test_deep_nesting_and_cut_tags_do_no_harm():
    assert Html()("<div>" * 3000 + "글" + "</div>" * 3000, {}) == "글"
    assert Html()("글 <b>하나</b> <a href='http", {}) == "글 하나"
