"""4주차 연습 문제: 구조의 심장을 손으로.

함수마다 `raise NotImplementedError`를 지우고 채우세요. 위에서 아래로 갈수록 어렵고, 뒤의 문제가 앞의 답을 쓰기도 합니다.

    make week4-check                     # 모두 채점
    make week4-check EX=attention        # 하나만 채점
    make week4-solution EX=attention     # 한 번이라도 채점받은 문제의 풀이

`torch`의 기본 연산(행렬 곱, `softmax`, `topk` 따위)만 쓰면 됩니다. `scaled_dot_product_attention`이나 `nn.RMSNorm`처럼 답을 통째로
주는 함수와 `scratch_llm`은 부르지 마세요. 배우는 것은 여러분입니다.

모양을 적는 글자: T 토큰 수, S 키의 수, D 벡터의 너비, H 머리 수, d 머리 하나의 너비(D / H), N 상태의 크기, E 전문가 수.
"""

from __future__ import annotations

from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    """RMSNorm: `x / sqrt(mean(x²) + eps) * weight`. 마지막 축을 따라 셈합니다.

    LayerNorm과 달리 평균을 빼지 않습니다. bfloat16은 가수가 7비트뿐이라 제곱의 합에서 오차가 커지므로, 통계는 float32로 셈하고
    결과를 `x`의 형식으로 되돌립니다.

    매개변수:
        x: (..., D), float32나 bfloat16.
        weight: (D,).
        eps: 제곱근 **안**에 더하는 작은 수.

    반환:
        (..., D), `x`와 같은 형식.

    예:
        rms_norm(torch.tensor([1., 7.]), torch.ones(2), 0.0) == [0.2, 1.4]      # mean(x²) = 25
    """
    raise NotImplementedError


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = True) -> Tensor:
    """어텐션 하나: `softmax(q kᵀ / √d + 마스크) v`.

    `causal`이면 쿼리는 자기보다 뒤의 키를 보지 못합니다. 쿼리 T개는 키 S개의 **마지막** T자리에 해당합니다. 곧 i번째 쿼리(0부터)는
    0번부터 S - T + i번까지의 키를 봅니다. T = S이면 보통의 삼각형이고, T < S이면 앞의 키들은 캐시에서 온 것입니다.

    가려진 점수가 아무리 커도 결과에 `nan`이 나오면 안 됩니다.

    매개변수:
        q: (T, d).
        k: (S, d), S는 T 이상.
        v: (S, e).

    반환:
        (T, e).
    """
    raise NotImplementedError


def multi_head_attention(x: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, w_o: Tensor, n_heads: int) -> Tensor:
    """미래를 가린 멀티헤드 셀프 어텐션.

    쿼리, 키, 밸류를 만들고 너비를 머리 H개로 나눕니다. 머리 h는 h·d번부터 (h + 1)·d - 1번까지의 성분을 갖습니다. 머리마다 따로
    어텐션을 하고(√d의 d는 머리 하나의 너비입니다), 차례로 이어 붙인 다음 `w_o`를 곱합니다.

    매개변수:
        x: (T, D).
        w_q, w_k, w_v, w_o: (D, D). `nn.Linear`처럼 (나가는 너비, 들어오는 너비)이므로 `x @ w.T`로 곱합니다.
        n_heads: H.

    반환:
        (T, D).

    예외:
        ValueError: D가 H로 나누어떨어지지 않을 때.

    힌트: `attention`을 머리마다 부르면 됩니다.
    """
    raise NotImplementedError


def apply_rope(x: Tensor, positions: Tensor, theta: float = 10_000.0) -> Tensor:
    """RoPE: 성분을 둘씩 짝지어, 위치에 비례하는 각도로 돌립니다.

    짝은 절반끼리입니다: i번째 짝은 (x[i], x[i + d/2])이고 각도는 `위치 · theta^(-2i/d)` 라디안입니다. 짝 (a, b)는
    (a cos - b sin, b cos + a sin)이 됩니다.

    매개변수:
        x: (T, d), d는 짝수.
        positions: (T,), 토큰마다의 위치. 0부터 차례로라는 법은 없습니다(캐시를 쓰면 100부터일 수도 있습니다).
        theta: 도는 빠르기의 밑.

    반환:
        (T, d).

    예:
        apply_rope(torch.tensor([[1., 0.]]), torch.tensor([1])) == [[cos 1, sin 1]]
    """
    raise NotImplementedError


class CachedHead:
    """KV 캐시가 있는 어텐션 머리 하나. 토큰을 몇 개씩 받아, 지금까지 받은 모든 토큰에 대한 어텐션의 결과를 냅니다.

    한 번 계산한 키와 밸류는 적어 두고 다시 계산하지 않습니다. 글을 통째로 한 번에 넣으나 나누어 넣으나 결과가 같아야 합니다.
    """

    def __init__(self) -> None:
        raise NotImplementedError

    def step(self, x: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor) -> Tensor:
        """새 토큰들의 출력을 냅니다. 앞서 온 토큰은 다시 주지 않습니다.

        가중치는 부를 때마다 받지만, 그것은 **새 토큰에만** 씁니다.

        매개변수:
            x: (T, D), 새 토큰들. 생성할 때는 T = 1이고, 처음 프롬프트를 읽을 때는 여럿입니다.
            w_q, w_k, w_v: (d, D). `x @ w.T`로 곱합니다.

        반환:
            (T, d).

        힌트: `attention`의 마스크가 이 경우를 이미 압니다.
        """
        raise NotImplementedError


class Router:
    """전문가 혼합의 라우터. 토큰마다 전문가를 고르고, 몰리지 않게 편향을 고칩니다(DeepSeek-V3).

    Attributes:
        bias: (E,), 전문가마다의 편향. 처음에는 모두 0입니다.
    """

    def __init__(self, n_experts: int, top_k: int) -> None:
        raise NotImplementedError

    def route(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """토큰마다 `점수 + 편향`이 가장 큰 전문가 k명을 고릅니다.

        편향은 **고를 때만** 씁니다. 무게는 고른 전문가들의 원래 점수를 그 합으로 나눈 것이라, 한 토큰의 무게를 더하면 1입니다.

        매개변수:
            scores: (T, E), 0보다 크고 1보다 작은 점수.

        반환:
            고른 전문가의 번호 (T, k)(점수 + 편향이 큰 것부터)와 그 무게 (T, k).
        """
        raise NotImplementedError

    def rebalance(self, experts: Tensor, rate: float) -> None:
        """고른 횟수를 보고 편향을 고칩니다: 평균보다 많이 불린 전문가는 `rate`만큼 낮추고, 적게 불린 전문가는 `rate`만큼 높입니다.

        꼭 평균만큼 불린 전문가는 그대로 둡니다.

        매개변수:
            experts: (T, k), `route`가 준 번호. 한 번도 불리지 않은 전문가는 여기에 없습니다.
        """
        raise NotImplementedError


def selective_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mamba의 선택적 스캔. 채널마다 크기 N인 상태를 두고 앞에서부터 셈합니다.

        h_t = exp(Δ_t A) · h_(t-1) + Δ_t · x_t · B_t            (곱은 성분마다, h는 (D, N))
        y_t = h_t C_t + D · x_t

    매개변수:
        x: (T, D).
        delta: (T, D), 보폭 Δ. 채널마다 다릅니다. 0이면 상태가 그대로입니다.
        A: (D, N), 음수.
        B, C: (T, N), 모든 채널이 같이 씁니다.
        D: (D,), 지나쳐 가는 길의 무게.
        state: (D, N), 앞의 글이 남긴 상태. 없으면 0입니다. 받은 것을 고치지 않습니다.

    반환:
        y (T, D)와 마지막 상태 (D, N). 상태를 이어 주면 글을 나누어 셈해도 결과가 같습니다.
    """
    raise NotImplementedError


def wkv(k: Tensor, v: Tensor, decay: Tensor, bonus: Tensor) -> Tensor:
    """RWKV-4의 WKV: 멀어질수록 흐려지는 무게로 낸 밸류의 평균. 채널마다 따로 셈합니다.

        wkv_t = (a_(t-1) + e^(u + k_t) v_t) / (b_(t-1) + e^(u + k_t))
        a_t = e^(-w) a_(t-1) + e^(k_t) v_t        b_t = e^(-w) b_(t-1) + e^(k_t)        (a와 b는 0에서 시작)

    k가 1,000이어도 -1,000이어도 넘치거나 `nan`이 되면 안 됩니다. float32에서는 e^89가 벌써 무한대입니다. 분자와 분모를 같은 수로
    나누어도 몫은 같다는 것을 쓰세요: a와 b 대신, 지금까지 나온 가장 큰 지수 m에 대해 a·e^(-m)과 b·e^(-m)을 들고 다닙니다.
    m도 토큰이 하나 지날 때마다 w만큼 흐려진다는 것을 잊지 마세요.

    매개변수:
        k, v: (T, D).
        decay: (D,), w. 0 이상.
        bonus: (D,), u. 지금 토큰에 더 얹어 주는 지수.

    반환:
        (T, D).
    """
    raise NotImplementedError
