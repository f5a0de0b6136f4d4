"""2주차 연습 문제: 한국어 글을 모으고 다듬는 데 쓰는 함수를 손으로 만듭니다.

`raise NotImplementedError(...)`를 지우고 채운 다음 `make week2-check`로 채점하세요.
한 문제만 채점하려면 `make week2-check EX=hangul_ratio`, 풀어 본 뒤 답을 보려면 `make week2-solution EX=hangul_ratio`입니다.
"""

from __future__ import annotations

import numpy as np


def normalize_text(text: str) -> str:
    """유니코드를 한 가지 모양으로 맞춥니다.

    macOS에서 온 글은 '한' 한 글자가 'ㅎ', 'ㅏ', 'ㄴ' 세 자모로 쪼개져(NFD) 있고, 웹에서 긁은 글에는 눈에 보이지 않는
    글자가 섞여 있습니다. 사람 눈에 같은 글은 컴퓨터에게도 같아야 합니다.

    1. 유니코드를 NFC로 정규화합니다.
    2. 폭이 없는 글자 U+200B, U+200C, U+200D, U+2060, U+FEFF와 보이지 않는 붙임표 U+00AD를 지웁니다.

    그 밖의 글자('ㅋㅋ' 같은 자모, 이모지, 줄바꿈)는 그대로 둡니다. 다만 U+200D로 여럿을 이은 이모지(가족 따위)는 낱개로
    나뉩니다. 여기서는 그 손해를 받아들입니다.

    힌트: `unicodedata.normalize`, `str.translate`. 지우기와 정규화 가운데 무엇을 먼저 해야 할까요?
    'ㅎ'과 'ㅏ' 사이에 U+200B가 끼어 있는 글을 떠올려 보세요.
    """
    raise NotImplementedError("normalize_text를 채워 주세요")


def hangul_ratio(text: str) -> float:
    """공백을 뺀 글자 가운데 한글 음절('가'부터 '힣'까지)의 비율을 셉니다. 0.0 이상 1.0 이하입니다.

    공백은 `str.isspace()`가 참인 글자입니다. 셀 글자가 하나도 없으면 0.0을 돌려줍니다.
    자모('ㅋ', 'ㅏ')는 음절이 아니므로 분모에만 들어갑니다.

    예: "GPU 학습!" -> 글자 여섯 개 가운데 한글이 둘이므로 2/6
    """
    raise NotImplementedError("hangul_ratio를 채워 주세요")


def squeeze_repeats(text: str, keep: int = 3) -> str:
    """같은 글자가 `keep`번보다 많이 이어지면 `keep`번까지만 남깁니다. 한글 자모, '!', '?', '~', '.'만 줄입니다.

    'ㅋㅋㅋㅋㅋㅋㅋ'와 'ㅋㅋㅋㅋ'는 뜻이 같습니다. 길이만 다른 것을 다른 낱말로 배울 까닭이 없습니다. 그렇다고 아주 지우면
    웃음이라는 뜻까지 사라집니다. 그래서 짧게 **남깁니다**.

    자모는 호환 자모(U+3131 'ㄱ'부터 U+3163 'ㅣ'까지)를 말합니다. 음절('하하하하'), 숫자('10000'), 로마자('www')는 줄이지 않습니다.

    예: squeeze_repeats("재밌다ㅋㅋㅋㅋㅋ!!!!") -> "재밌다ㅋㅋㅋ!!!"

    Raises:
        ValueError: keep이 1보다 작을 때.
    """
    raise NotImplementedError("squeeze_repeats를 채워 주세요")


def is_resident_number(number: str) -> bool:
    """주민등록번호 열세 자리가 검사 숫자까지 맞는지 봅니다. '900101-1234567'과 '9001011234567' 두 모양을 받습니다.

    앞의 열두 자리에 2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5를 차례로 곱해 더한 값을 S라 하면 마지막 자리는
    (11 - S mod 11) mod 10 입니다. 셋째부터 여섯째 자리(월, 일)가 01~12월, 01~31일이 아니어도 False입니다.

    정규식만으로 열세 자리 수를 찾으면 주문 번호까지 가려 버립니다. 검사 숫자를 보면 잘못 가리는 수가 열에 하나로 줍니다.
    (2020년 10월부터 받은 번호는 뒷자리가 무작위라 이 검사가 맞지 않습니다. 여기서는 그 전의 규칙만 봅니다.)
    """
    raise NotImplementedError("is_resident_number를 채워 주세요")


def jaccard(first: str, second: str, size: int = 3) -> float:
    """두 글이 얼마나 겹치는지를 글자 `size`개짜리 조각(shingle)의 자카드 유사도로 잽니다.

    글 t의 조각은 t[0:size], t[1:size+1], ... 의 **집합**입니다(같은 조각은 한 번만). 글이 `size`보다 짧으면 글 전체가 조각 하나입니다.
    유사도는 |교집합| / |합집합| 입니다.

    예: jaccard("abcd", "bcde", 3) -> {"abc", "bcd"}와 {"bcd", "cde"}이므로 1/3
    """
    raise NotImplementedError("jaccard를 채워 주세요")


def minhash(values: np.ndarray, a: np.ndarray, b: np.ndarray, prime: int) -> np.ndarray:
    """MinHash 서명을 만듭니다.

    조각의 해시값 x마다 h_i(x) = (a_i * x + b_i) mod prime 을 셈하고, i마다 가장 작은 값을 남깁니다.
    두 집합의 서명이 같은 자리에서 같을 확률이 두 집합의 자카드 유사도입니다(Broder 1997). 조각 수천 개가 숫자 몇십 개로 줍니다.

    Args:
        values: 조각의 해시값, 모양 [n], int64, 0 이상 2**31 미만, n은 1 이상.
        a: 곱하는 수, 모양 [k], int64, 1 이상 2**31 미만.
        b: 더하는 수, 모양 [k], int64, 0 이상 2**31 미만.
        prime: 2**31 - 1 같은 소수.

    Returns:
        모양 [k], int64.

    힌트: 반복문 없이 모양 [k, n]인 표를 한 번에 만들 수 있습니다. a[:, None]이 무슨 모양인지 보세요.
    """
    raise NotImplementedError("minhash를 채워 주세요")


def candidate_pairs(signatures: np.ndarray, bands: int) -> set[tuple[int, int]]:
    """LSH: 서명을 띠(band)로 잘라, 띠 하나라도 통째로 같은 두 글을 후보로 뽑습니다.

    모든 쌍을 견주면 글 백만 편에 쌍이 5천억 개입니다. 띠가 같은 글끼리만 견주면 비슷한 글만 골라서 볼 수 있습니다.

    Args:
        signatures: 글마다 서명 하나, 모양 [n, k].
        bands: 띠의 수. k를 나누어떨어지게 해야 합니다. 띠 하나에 든 값은 k / bands 개입니다.

    Returns:
        (i, j) 쌍의 집합, i < j. 같은 값이라도 **다른 자리의 띠**에 있으면 후보가 아닙니다.

    Raises:
        ValueError: bands가 k를 나누지 않을 때.

    힌트: 띠마다 사전을 새로 만들고, 띠의 값(tuple)을 열쇠로 글 번호를 모으세요.
    """
    raise NotImplementedError("candidate_pairs를 채워 주세요")


def clusters(n: int, pairs: list[tuple[int, int]]) -> list[list[int]]:
    """닮은 쌍을 이어 무리를 만듭니다(union-find).

    0과 1이 닮고 1과 2가 닮았으면, 0과 2를 견주어 보지 않았어도 셋은 한 무리입니다.
    무리마다 하나만 남기면 중복이 사라집니다.

    Args:
        n: 글의 수. 글은 0부터 n-1까지입니다.
        pairs: 닮은 두 글의 번호. 순서도, 겹침도 정해져 있지 않습니다.

    Returns:
        두 편 이상 든 무리만. 무리 안은 작은 번호부터, 무리끼리는 첫 번호가 작은 것부터.

    힌트: parent = list(range(n))으로 시작합니다. 쌍이 10만 개여도 재귀 깊이 오류가 나지 않게 반복문으로 뿌리를 찾으세요.
    """
    raise NotImplementedError("clusters를 채워 주세요")
