"""1주차 연습 문제: 크기를 손으로 셈하고, 글을 한 토큰씩 써 보기.

함수마다 `raise NotImplementedError`를 지우고 채우세요. 위에서 아래로 갈수록 어렵고, 뒤의 문제가 앞의 답을 쓰기도 합니다.

    make week1-check                          # 모두 채점
    make week1-check EX=parameter_count       # 하나만 채점
    make week1-solution EX=parameter_count    # 한 번이라도 채점받은 문제의 풀이

표준 라이브러리(`math`)만 있으면 됩니다. 모두 종이와 연필로도 답을 맞추어 볼 수 있습니다.
"""

from __future__ import annotations

from collections.abc import Callable


def weight_bytes(n_parameters: int, dtype: str) -> int:
    """가중치를 담는 데 드는 바이트 수.

    매개변수:
        n_parameters: 파라미터의 개수.
        dtype: "float32", "bfloat16", "float16", "int8", "int4" 가운데 하나.

    반환:
        바이트 수. int4는 두 개를 한 바이트에 담습니다. 개수가 홀수면 마지막 하나도 한 바이트를 차지합니다.

    오류:
        다른 이름이면 ValueError.

    예:
        weight_bytes(10, "bfloat16") == 20
    """
    raise NotImplementedError


def next_token(logits: list[float], temperature: float, u: float) -> int:
    """로짓에서 다음 토큰 하나를 고릅니다.

    온도가 0이면 로짓이 가장 큰 번호를 고릅니다(같으면 앞의 것). 0보다 크면 로짓을 온도로 나누고 소프트맥스를 해서 확률을 얻은 뒤,
    앞에서부터 더해 가다가 합이 **처음으로 u보다 커지는** 번호를 고릅니다. u를 0과 1 사이에서 고르게 뽑으면 확률대로 뽑는 셈입니다.

    매개변수:
        logits: 어휘의 점수. 길이 V, 1000을 넘는 값도 있을 수 있습니다.
        temperature: 0 이상.
        u: 0 이상 1 미만.

    오류:
        온도가 음수면 ValueError.

    예:
        next_token([0.0, math.log(3)], 1.0, 0.2) == 0   # 확률은 0.25와 0.75
    """
    raise NotImplementedError


def bits_per_byte(loss: float, n_tokens: int, n_bytes: int) -> float:
    """토큰당 손실을 원문 한 바이트당 비트로 바꿉니다.

    토크나이저가 다르면 토큰의 길이가 달라 손실을 그대로 견줄 수 없습니다. 바이트는 누구에게나 같습니다.

    매개변수:
        loss: 토큰 하나의 평균 손실. 자연로그로 잰 값(nat)입니다.
        n_tokens: 글의 토큰 수.
        n_bytes: 같은 글의 UTF-8 바이트 수.

    예:
        bits_per_byte(math.log(2), 100, 100) == 1.0
    """
    raise NotImplementedError


def parameter_count(
    vocab_size: int, n_layers: int, d_model: int, n_heads: int, n_kv_heads: int, head_dim: int, d_ff: int, tied: bool
) -> int:
    """Llama 모양 모델의 파라미터를 셉니다. 편향은 없습니다.

    - 임베딩: 어휘마다 너비 d_model의 벡터 하나
    - 층마다 어텐션: 쿼리(머리 n_heads개), 키와 밸류(머리 n_kv_heads개씩), 출력. 머리 하나의 너비는 head_dim
    - 층마다 SwiGLU: 너비 d_model과 d_ff를 잇는 행렬 셋(게이트, 업, 다운)
    - 층마다 RMSNorm 둘, 모든 층이 끝난 뒤 하나. 저마다 d_model개
    - 출력층: 임베딩과 같은 크기. `tied`이면 임베딩을 같이 쓰므로 더하지 않습니다.

    예:
        Llama 3.2 1B(어휘 128256, 16층, 너비 2048, 머리 32와 8, 머리 너비 64, d_ff 8192, tied)는 1,235,814,400개입니다.
    """
    raise NotImplementedError


def kv_cache_bytes(n_layers: int, n_kv_heads: int, head_dim: int, n_tokens: int, n_rows: int = 1, bytes_per_number: int = 2) -> int:
    """KV 캐시의 바이트 수.

    층마다, 키·밸류 머리마다, 토큰마다 너비 head_dim의 키 하나와 밸류 하나를 간직합니다.

    매개변수:
        n_tokens: 한 줄의 토큰 수.
        n_rows: 동시에 쓰는 줄(사용자)의 수.
        bytes_per_number: 수 하나의 바이트. bfloat16이면 2.

    예:
        kv_cache_bytes(1, 1, 4, 10) == 160
    """
    raise NotImplementedError


def training_days(n_parameters: float, n_tokens: float, peak_flops: float, mfu: float, n_devices: int = 1) -> float:
    """학습에 걸리는 날의 수를 6ND로 어림합니다.

    매개변수:
        n_parameters, n_tokens: 파라미터 수 N과 읽힐 토큰 수 D.
        peak_flops: 장치 하나의 최고 속도 (FLOP/s).
        mfu: 최고 속도 가운데 실제로 쓰는 비율. 0보다 크고 1 이하.
        n_devices: 장치의 수. 고르게 나누어 쉬지 않고 돈다고 봅니다.

    반환:
        날의 수. 여러 장치가 함께 일하면 그만큼 줄어든 **실제로 기다리는** 날입니다.

    오류:
        mfu가 범위 밖이면 ValueError.

    예:
        training_days(1e9, 2e10, 1e15, 0.4)는 30만 초, 곧 약 3.47일입니다.
    """
    raise NotImplementedError


def concurrent_users(
    memory_bytes: float, n_parameters: int, dtype: str, n_layers: int, n_kv_heads: int, head_dim: int, n_tokens: int, reserve: float = 0.1
) -> int:
    """GPU 한 장이 동시에 몇 사람에게 답할 수 있는지, 메모리로 따집니다.

    메모리의 `reserve`만큼(비율)은 작업 공간으로 비워 둡니다. 남은 곳에 가중치를 올리고, 그 나머지를 사람마다의 KV 캐시(bfloat16)가
    나누어 씁니다. 사람마다 토큰 n_tokens개를 씁니다. 캐시 일부만 들어가는 사람은 세지 않습니다.

    반환:
        사람의 수. 가중치부터 들어가지 않으면 0입니다.

    실마리: `weight_bytes`와 `kv_cache_bytes`를 쓰세요.
    """
    raise NotImplementedError


def generate_greedy(
    next_logits: Callable[[list[int]], list[float]], prompt: list[int], max_new_tokens: int, eos_id: int, context_length: int
) -> list[int]:
    """늘 가장 그럴듯한 토큰을 골라 이어 씁니다.

    매개변수:
        next_logits: 토큰 번호의 줄을 받아 **다음 토큰**의 로짓(길이 V)을 주는 모델. context_length개까지만 받을 수 있습니다.
        prompt: 시작하는 토큰 번호들. 이 목록은 고치지 않습니다.
        max_new_tokens: 많아야 이만큼 새로 씁니다.
        eos_id: 글의 끝을 뜻하는 토큰. 나오면 그것까지 넣고 멈춥니다.
        context_length: 모델이 한 번에 볼 수 있는 토큰 수. 글이 더 길어지면 **마지막** context_length개만 보여 줍니다.

    반환:
        새로 쓴 토큰만. 프롬프트는 넣지 않습니다.
    """
    raise NotImplementedError
