"""3주차 연습 문제: 토크나이저를 손으로.

함수마다 `raise NotImplementedError`를 지우고 채우세요. 위에서 아래로 갈수록 어렵고, 뒤의 문제가 앞의 답을 쓰기도 합니다.

    make week3-check                     # 모두 채점
    make week3-check EX=merge            # 하나만 채점
    make week3-solution EX=merge         # 한 번이라도 채점받은 문제의 풀이

표준 라이브러리만 있으면 됩니다. `scratch_llm`을 불러와 답을 대신하지 마세요. 배우는 것은 여러분입니다.
"""

from __future__ import annotations


def count_pairs(ids: list[int]) -> dict[tuple[int, int], int]:
    """이웃한 두 토큰의 쌍이 몇 번씩 나오는지 셉니다.

    매개변수:
        ids: 토큰 번호의 줄. 길이 n.

    반환:
        (왼쪽 번호, 오른쪽 번호) → 횟수. 나오지 않은 쌍은 넣지 않습니다. 횟수를 모두 더하면 n - 1입니다(n이 1 이상일 때).

    예:
        count_pairs([5, 7, 5, 7]) == {(5, 7): 2, (7, 5): 1}
    """
    raise NotImplementedError


def merge(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """`pair`가 나오는 자리를 모두 `new_id` 하나로 바꾼 새 목록을 만듭니다.

    왼쪽에서 오른쪽으로 한 번 훑습니다. 한번 합친 토큰은 다음 쌍에 다시 쓰지 않습니다. 받은 목록은 고치지 않습니다.

    매개변수:
        ids: 토큰 번호의 줄.
        pair: 합칠 쌍.
        new_id: 새 토큰의 번호.

    예:
        merge([5, 7, 9, 5, 7], (5, 7), 256) == [256, 9, 256]
    """
    raise NotImplementedError


def train_bpe(words: dict[str, int], n_merges: int) -> list[tuple[int, int]]:
    """바이트 BPE의 병합을 배웁니다.

    낱말마다 UTF-8 바이트(번호 0–255)로 시작합니다. 가장 많이 나오는 쌍을 합쳐 새 번호를 주는 일을 되풀이하고,
    k번째(0부터) 병합의 새 번호는 256 + k입니다.

    - 횟수는 낱말의 횟수를 곱해 셉니다. 낱말의 경계를 넘는 쌍은 없습니다.
    - 횟수가 같으면 번호의 쌍이 작은 것을 고릅니다(왼쪽 번호를 먼저, 같으면 오른쪽 번호를 견줍니다).
    - 두 번 이상 나오는 쌍이 없으면 `n_merges`를 채우지 못해도 멈춥니다.

    매개변수:
        words: 낱말 → 말뭉치에 나온 횟수.
        n_merges: 많아야 이만큼 합칩니다.

    반환:
        배운 차례로 (왼쪽 번호, 오른쪽 번호).

    예:
        train_bpe({"abab": 3, "ab": 2}, 2) == [(97, 98), (256, 256)]
    """
    raise NotImplementedError


def encode(text: str, merges: list[tuple[int, int]]) -> list[int]:
    """배운 병합으로 글을 부호화합니다.

    UTF-8 바이트에서 시작해, 지금 있는 쌍 가운데 **가장 먼저 배운** 쌍을 합치는 일을 더 합칠 것이 없을 때까지 되풀이합니다.

    매개변수:
        text: 부호화할 글(미리 자르기는 끝났다고 봅니다).
        merges: `train_bpe`가 준 것. k번째 병합의 번호는 256 + k입니다.

    예:
        encode("abc", [(98, 99), (97, 98)]) == [97, 256]
    """
    raise NotImplementedError


def decode_with_fallback(tokens: list[str]) -> str:
    """SentencePiece 꼴의 조각을 글로 되돌립니다.

    - `"▁"`(U+2581)는 공백입니다. 조각 어디에 있든 공백으로 바꿉니다.
    - `"<0xEB>"` 꼴(16진수 두 자리)은 바이트 하나입니다. 어휘에 없는 글자는 이렇게 바이트로 쪼개져 있습니다(byte fallback).
    - 글자가 되지 못하는 바이트는 `"\\ufffd"`(�)로 보입니다. `bytes.decode("utf-8", errors="replace")`가 하는 대로입니다.

    매개변수:
        tokens: 조각들. 문장 첫머리의 공백도 있는 그대로 둡니다.

    예:
        decode_with_fallback(["▁안", "녕", "<0xEB>", "<0xB7>", "<0x81>"]) == " 안녕뷁"
    """
    raise NotImplementedError


class Utf8Stream:
    """토큰의 바이트를 하나씩 받아, 다 모인 글자만 내보냅니다.

    모델은 토큰을 하나씩 만들고, 한글 한 글자(3바이트)는 토큰 둘이나 셋에 걸칠 수 있습니다. 아직 덜 온 글자를 �로 보여 주면 안 됩니다.
    """

    def __init__(self) -> None:
        raise NotImplementedError

    def push(self, data: bytes) -> str:
        """바이트를 더 받고, 이제 보여 줄 수 있는 글자들을 돌려줍니다(없으면 빈 문자열).

        덜 온 글자의 바이트는 다음을 위해 남겨 둡니다. 무엇이 더 와도 글자가 될 수 없는 바이트(0xFF 따위)는 기다리지 않고
        곧바로 `"\\ufffd"`로 내보냅니다.

        힌트: 덜 온 글자는 맨 끝에만 있을 수 있고 많아야 3바이트입니다. 첫 바이트가 110…이면 2바이트, 1110…이면 3바이트,
        11110…이면 4바이트 글자입니다. 둘째 바이트는 80–BF이지만 첫 바이트가 E0이면 A0–BF, ED이면 80–9F, F0이면 90–BF,
        F4이면 80–8F라야 합니다. F5부터 FF까지와 C0, C1로 시작하는 글자는 없습니다.
        """
        raise NotImplementedError

    def finish(self) -> str:
        """남은 바이트를 내보냅니다: 남은 것이 있으면 `"\\ufffd"` 하나, 없으면 빈 문자열. 그 뒤에는 처음처럼 비어 있습니다."""
        raise NotImplementedError


def wordpiece(word: str, vocabulary: set[str]) -> list[str]:
    """WordPiece로 낱말 하나를 나눕니다: 왼쪽부터, 어휘에 있는 가장 긴 조각을 고릅니다.

    - 낱말의 첫 조각이 아닌 것은 어휘에 `"##"`을 앞에 붙여 적혀 있습니다.
    - 어느 자리에서든 맞는 조각이 없으면 낱말 전체가 `["[UNK]"]`입니다. 앞의 선택을 물리지 않습니다.

    매개변수:
        word: 공백이 없는 낱말. 한 글자 이상.
        vocabulary: 조각들.

    예:
        wordpiece("먹었다", {"먹", "먹었", "##었다", "##다"}) == ["먹었", "##다"]
    """
    raise NotImplementedError


def viterbi(text: str, scores: dict[str, float]) -> list[str]:
    """Unigram으로 글을 나눕니다: 조각 점수의 합이 가장 큰 나누기를 찾습니다.

    점수는 조각의 로그 확률입니다. 조각들이 서로 독립이라고 보므로, 더한 것이 그 나누기의 로그 확률입니다.

    나누는 방법은 글자 수에 따라 지수로 늘어나므로 다 해 볼 수는 없습니다. `best[i]`를 "앞 i글자를 나누는 가장 좋은 점수"라고 하면
    `best[i] = max(best[j] + scores[text[j:i]])`(j < i)입니다.

    매개변수:
        text: 나눌 글. n글자.
        scores: 조각 → 로그 확률(0 이하).

    반환:
        이어 붙이면 `text`가 되는 조각들. 시험에는 답이 하나뿐인 것만 나옵니다.

    예외:
        ValueError: 이 조각들로는 나눌 수 없을 때.

    예:
        viterbi("한국어", {"한": -4.0, "국어": -3.5, "한국": -5.0, "어": -3.0}) == ["한", "국어"]
    """
    raise NotImplementedError
