# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 8주차. 부하 시험: 몇 사람까지 버티나
#
# 혼자 쓸 때 빠른 서버는 여덟 명이 몰려도 빠를까요? 느려진다면 **누가, 얼마나** 기다리게 될까요? 짐작하지 말고 잽니다.
# 진짜 Triton 서버를 띄우고, 클라이언트를 하나에서 여럿으로 늘려 가며 요청마다 토큰이 도착한 시각을 모두 적습니다.
#
# 같은 자리에 엔진을 바꿔 끼워 견줍니다. 연속 배칭을 하는 우리 엔진, 한 번에 한 사람씩 답하는 `transformers`, 그리고 가중치를 int8로 줄인 우리 엔진입니다.
# 마지막에는 대기열을 일부러 넘치게 해 보고, 온갖 요청을 섞어 보내도 오래 버티는지 봅니다.

# %%
import contextlib
import sys
import time

import torch

from llm_workshop.artifacts import Artifacts, device_name
from llm_workshop.report import Report
from llm_workshop.report.plots import new_figure
from llm_workshop.serving.loadtest import closed_loop, open_loop, soak, summarise, uniform_jobs
from llm_workshop.serving.loadtest.drive import Shared
from llm_workshop.serving.loadtest.openai_load import openai_closed_loop
from llm_workshop.serving.loadtest.plots import first_token_cdf, latency_plot, throughput_plot, timeline
from llm_workshop.serving.loadtest.served import free_ports, served_model
from llm_workshop.serving.loadtest.sweep import sweep, table_row
from llm_workshop.serving.loadtest.workload import characters_per_token
from llm_workshop.serving.stack.child import WebPart
from llm_workshop.serving.triton.engine_settings import EngineSettings
from llm_workshop.serving.triton.installation import find_installation
from llm_workshop.serving.triton.model_folder import resolved
from llm_workshop.settings import settings_from_command_line
from scratch_llm.analysis import decode_bytes
from scratch_llm.models import load_model

settings = settings_from_command_line(uses=("loadtest", "serving.precision", "serving.device", "serving.max_rows", "serving.max_waiting", "serving.threads"))
artifacts, loadtest, serving = Artifacts(settings), settings.loadtest, settings.serving
model_folder = artifacts.require("base-model")
try:
    find_installation()
except ValueError as problem:
    print(f"\n*** 부하 시험을 건너뜁니다: 이 컴퓨터에 Triton 서버가 없습니다. ***\n    {problem}\n")
    raise SystemExit(0) from None
report = Report(artifacts, "week08-loadtest", "8주차: 부하 시험")
rows_folder = artifacts.root / "serving" / "loadtest"


def engine(**changes) -> EngineSettings:
    """이 실행의 모델과 설정에서 몇 가지만 바꾼 엔진."""
    common = {"precision": serving.precision, "device": serving.device, "threads": serving.threads}
    return resolved(EngineSettings(model=model_folder.resolve(), name=settings.run_name, **common, **{"max_rows": serving.max_rows, "max_waiting": serving.max_waiting} | changes))


# %% [markdown]
# ## 1. 네 가지 숫자
#
# 셋은 답 하나에서 재고, 하나는 서버 전체에서 잽니다.
#
# | 이름 | 뜻 | 사람이 느끼는 것 |
# |---|---|---|
# | **TTFT** (time to first token) | 요청을 보내고 **첫 토큰**이 올 때까지. 대기열에서 기다리기 + 프롬프트 읽기(프리필) | "듣고는 있나?" |
# | **ITL** (inter-token latency) | 그다음부터 토큰과 토큰 **사이**. 디코딩 한 스텝의 시간 | 글이 나오는 속도 |
# | **전체 시간** | TTFT + (토큰 수 − 1) × 평균 ITL | 답을 다 받기까지 |
# | **처리량** (throughput) | 서버가 1초에 만든 토큰, **모두 합쳐서** | 운영하는 사람의 비용 |
#
# 앞의 셋(**지연**)은 손님의 숫자이고 마지막은 주인의 숫자입니다. 둘은 자주 다툽니다. 여기서 손님은 요청을 보내는 프로그램, 곧 클라이언트입니다.
#
# 그리고 평균만 보지 않습니다. **p95**는 95번째 백분위수, 곧 스무 번에 한 번은 이보다 오래 기다린다는 뜻입니다. **p50**은 중앙값입니다.
# 평균 100 ms인 서버도 스무 번에 한 번 3초가 걸리면 사람들은 "느린 서버"라고 기억합니다.
#
# 아래 그림에서 막대 하나가 요청 하나입니다. 회색은 첫 토큰을 기다린 시간이고, 색칠한 부분의 가는 선은 답의 조각이 도착한 시각입니다. 서버는 토큰 몇 개를 모아
# 한 조각으로 보내기도 하므로, ITL은 조각 사이의 시간을 그 조각의 토큰 수로 나눈 값입니다.

# %%
report.section("1. 네 가지 숫자")
running = contextlib.ExitStack()  # 이 서버는 4절 끝까지 켜 둡니다
served = running.enter_context(served_model(engine()))
print(f"{device_name()}, 서버가 준비되기까지 {served.seconds_to_ready:.1f}초")
client = served.connect()
ratio = characters_per_token(client)
client.close()
sizes = {"prompt_tokens": loadtest.prompt_tokens, "max_new_tokens": loadtest.max_new_tokens, "characters_per_token": ratio}
closed_loop(served.connect, uniform_jobs(8, **sizes, seed=900), 8)  # 몸풀기
one = closed_loop(served.connect, uniform_jobs(8, **sizes, seed=100), 1)
eight = closed_loop(served.connect, uniform_jobs(16, **sizes, seed=200), 8)
first = one.records[0]
print(f"요청 하나: 프롬프트 {first.n_prompt_tokens}토큰, 답 {first.n_tokens}토큰")
print(f"  TTFT {1000 * first.first_token:.1f} ms, ITL 평균 {1000 * summarise(one).inter_token.mean:.2f} ms, 전체 {1000 * first.seconds:.1f} ms")
figure, (left, right) = new_figure(1, 2, width=4.8, height=3.4)
timeline(left, one.records, "혼자: 여덟 번 차례로")
timeline(right, eight.records, "여덟이 함께: 두 번씩")
report.figure(figure, "timeline", "요청마다 걸린 시간. 함께 답하면 하나하나는 느려져도 같은 시간에 끝나는 요청이 많아집니다")

# %% [markdown]
# ## 2. 손님을 늘려 보기
#
# 클라이언트 $N$명이 저마다 답을 다 받으면 곧바로 다음 질문을 보내기를 되풀이합니다(**닫힌 고리**, closed loop). $N$을 늘리면 무슨 일이 벌어질까요?
# 엔진이 함께 답하는 요청의 수, 곧 **자리**(`serving.max_rows`)보다 손님이 많아지면 나머지는 **대기열**에서 기다립니다.
#
# 요청은 모두 같은 크기이고 프롬프트는 서로 다릅니다. 같은 글을 되풀이해 물으면 캐시의 덕을 보는 서버가 있어 불공평하기 때문입니다.
# **공평함**은 클라이언트마다 받은 속도가 얼마나 고른지를 나타냅니다(Jain 지수). 모두 같으면 1, 하나가 독차지하면 $1/N$입니다.
# 클라이언트가 받은 토큰의 합과 서버가 스스로 센 토큰 수가 **하나라도 다르면** 이 실습은 멈춥니다. 셈이 맞지 않는 시험은 믿을 수 없으니까요.

# %%
report.section("2. 손님을 늘려 보기")
scratch = sweep(served, loadtest, loadtest.clients, rows_folder / "scratch", settings.seed)
for m in scratch:
    s = m.summary
    print(f"  {s.n_clients:3}명: {s.tokens_per_second:7,.0f} 토큰/초, TTFT p50 {1000 * s.first_token.p50:6.1f} p95 {1000 * s.first_token.p95:6.1f} ms, "
          f"ITL p50 {1000 * s.inter_token.p50:5.2f} ms, 공평함 {s.fairness:.3f}, 부하를 건 쪽이 쓴 CPU {s.own_cores:.2f}코어")  # fmt: skip
counted = sum(m.account.server_tokens for m in scratch)
print(f"토큰 {counted:,}개: 클라이언트가 받은 수와 서버가 센 수가 모두 같습니다.")
report.table([table_row("우리 엔진", m) for m in scratch], caption=f"우리 엔진(연속 배칭, 자리 {serving.max_rows}개), {device_name()}")
busiest = max(m.summary.own_cores for m in scratch)
report.text(f"토큰 {counted:,}개를 주고받는 동안 클라이언트와 서버의 셈이 모두 맞았습니다. 부하를 거는 프로그램 자신은 많아야 CPU {busiest:.2f}코어를 썼습니다.")
capacity = max(m.summary.requests_per_second for m in scratch)

# %% [markdown]
# **같은 부하를 OpenAI 호환 주소로.** 지금까지는 Triton에 gRPC로 바로 물었습니다. 실제 손님은 대개 앞단(게이트웨이)의 OpenAI 호환 주소로 들어옵니다.
# 요청을 검사하고 JSON으로 바꾸는 앞단은 얼마나 더 들까요?
#
# 이번에는 클라이언트가 스레드가 아니라 **코루틴**(asyncio)입니다. 기다리기만 하는 손님 수백 명을 스레드 하나가 맡습니다. OpenAI의 스트림은 조각마다 토큰이
# 몇 개인지 알려 주지 않아서, 끝에 오는 합계(`usage`)를 글자 수에 비례해 조각들에 나누어 셉니다. ITL은 그만큼 어림값입니다.

# %%
port = free_ports().http
command = [sys.executable, "-m", "llm_workshop.serving.gateway", "--triton", f"{settings.run_name}={served.grpc_address}", "--tokenizer", str(model_folder),
           "--port", str(port), "--requests-per-minute", "1000000", "--max-concurrent", str(max(64, *loadtest.clients))]  # fmt: skip
gateway = WebPart("gateway", command, "127.0.0.1", port, "/health", artifacts.root / "serving" / "logs" / "loadtest-gateway.log")
n_clients = scratch[-1].summary.n_clients
more = uniform_jobs(max(loadtest.requests, 4 * n_clients), **sizes, seed=300)
try:
    gateway.start()
    openai_closed_loop(f"{gateway.address}/v1", settings.run_name, uniform_jobs(4, **sizes, seed=901), 4)  # 몸풀기
    through = openai_closed_loop(f"{gateway.address}/v1", settings.run_name, more, n_clients)
finally:
    gateway.stop()
if broken := sorted({record.error for record in through.records if record.error}):
    raise SystemExit(f"OpenAI 호환 주소의 부하 시험이 실패했습니다: {'; '.join(broken)}")
rows = []
for name, s in (("gRPC로 바로", scratch[-1].summary), ("OpenAI 호환 주소로", summarise(through))):
    rows.append({"길": name, "클라이언트": s.n_clients, "토큰/초": round(s.tokens_per_second), "TTFT p50 (ms)": round(1000 * s.first_token.p50, 1),
                 "TTFT p95": round(1000 * s.first_token.p95, 1), "ITL p50 (ms)": round(1000 * s.inter_token.p50, 2), "거는 쪽의 CPU (코어)": round(s.own_cores, 2)})  # fmt: skip
    print(f"  {name}, {s.n_clients}명: {s.tokens_per_second:,.0f} 토큰/초, TTFT p50 {1000 * s.first_token.p50:.1f} ms, 거는 쪽의 CPU {s.own_cores:.2f}코어")
report.table(rows, caption="앞단의 값: 같은 수의 손님이 두 길로")

# %% [markdown]
# ## 3. 리틀의 법칙
#
# 어떤 가게든 오래 지켜보면 이렇습니다(Little, 1961). 안에 있는 손님 수의 평균은 1초에 드나드는 손님 수와 한 사람이 머무는 시간의 곱입니다.
#
# $$ L = X \times R $$
#
# $X$는 1초에 끝난 요청의 수, $R$은 요청 하나의 평균 시간입니다. 가정이 거의 없는 법칙이라, **재는 도구가 멀쩡한지** 확인하는 데 씁니다.
# $X$와 $R$은 클라이언트가 잰 것이고, $L$은 그와 따로 서버의 지표(실행 중 + 대기 중)를 0.1초마다 들여다보고 낸 평균입니다.
# 요청과 답이 오가는 동안은 엔진 안에 있는 것으로 세지 않으니 서버가 본 $L$이 조금 작게 나옵니다.
#
# 닫힌 고리에서는 $L = N$이므로 뒤집어 쓸 수도 있습니다. 처리량이 더는 늘지 않으면($X$ 고정) 손님이 두 배가 될 때 $R = N / X$도 두 배가 됩니다.

# %%
report.section("3. 리틀의 법칙")
rows = []
for m in scratch:
    s = m.summary
    predicted = s.requests_per_second * s.total.mean
    rows.append({"클라이언트": s.n_clients, "X (요청/초)": round(s.requests_per_second, 2), "R (초)": round(s.total.mean, 4),
                 "X·R": round(predicted, 2), "서버가 본 L": None if m.in_system is None else round(m.in_system, 2)})  # fmt: skip
    print(f"  {s.n_clients:3}명: X·R = {s.requests_per_second:.2f} × {s.total.mean:.3f} = {predicted:.2f}, 서버가 본 L = {m.in_system or 0:.2f}")
report.table(rows, caption="클라이언트가 잰 X·R과 서버가 센 L")

# %% [markdown]
# ## 4. 배치는 왜 도움이 되나
#
# 토큰 하나를 만들려면 가중치를 **모두** 한 번 읽어야 합니다. 그런데 한 번 읽어 온 가중치로 여덟 사람의 토큰을 함께 계산하면 읽기는 한 번뿐입니다.
#
# $$ \text{스텝 시간} \;\ge\; \frac{M_{\text{가중치}} + B \cdot M_{\text{KV}}}{\text{대역폭}}, \qquad
#    \text{처리량} = \frac{B}{\text{스텝 시간}} $$
#
# 배치 $B$가 늘어도 분자의 큰 쪽(가중치)은 그대로이니 처리량이 거의 $B$배가 됩니다. 연산 장치가 바빠지거나 KV 캐시 $B \cdot M_{\text{KV}}$가 커지면
# 그 이득도 끝납니다.
# 작은 모델에서는 벽이 하나 더 있습니다. 스텝마다 드는 고정 비용(파이썬, 커널 시작, 샘플링)이 읽는 시간보다 훨씬 클 수 있는데,
# 배치는 이 비용도 나누어 냅니다. 표의 '한계'는 바이트만 센 것이고, '잰 것'과의 차이가 나머지 비용입니다. '스텝 시간'은 잰 시간 전체를 스텝 수로
# 나눈 것이라 프리필에 든 시간도 들어 있습니다.

# %%
report.section("4. 배치는 왜 도움이 되나")
array = torch.ones(32 << 20)
array.sum()
started = time.perf_counter()
for _ in range(4):
    array.sum()
bandwidth = 4 * array.numel() * array.element_size() / (time.perf_counter() - started)
del array
dtype = getattr(torch, engine().precision)
model = load_model(model_folder, dtype=dtype)
length = loadtest.prompt_tokens + loadtest.max_new_tokens // 2
print(f"CPU 메모리를 읽는 속도 {bandwidth / 1e9:.1f} GB/s, 가중치 {decode_bytes(model, 1, 1, dtype) / 1e6:.1f} MB")
rows = []
for m in (m for m in scratch if m.batch_size):
    size = max(1, round(m.batch_size))
    floor = decode_bytes(model, length, size, dtype) / bandwidth
    rows.append({"클라이언트": m.summary.n_clients, "토큰/스텝": round(m.batch_size, 2), "스텝 시간, 잰 것 (ms)": round(1000 * m.step_seconds, 2),
                 "바이트로 본 한계 (ms)": round(1000 * floor, 3), "토큰 하나의 몫 (ms)": round(1000 * m.step_seconds / m.batch_size, 3)})  # fmt: skip
    print(f"  {m.summary.n_clients:3}명: 스텝 하나에 토큰 {m.batch_size:.1f}개, {1000 * m.step_seconds:.2f} ms (한계 {1000 * floor:.3f}), 토큰 하나의 몫 {1000 * m.step_seconds / m.batch_size:.3f} ms")
if rows:
    report.table(rows, caption="배치가 커져도 스텝 시간은 천천히 늘고, 토큰 하나의 몫은 줄어듭니다")
# 6절에서 견줄 것을 이 서버가 켜져 있는 동안 재어 둡니다
crowd = next((m for m in scratch if m.summary.n_clients >= serving.max_rows), scratch[-1])
overload = [*uniform_jobs(min(96, 6 * (serving.max_rows + 4)), **sizes, seed=3000)]
patient = open_loop(Shared(shared := served.connect()), overload, rate=1.5 * capacity, max_clients=64, seed=settings.seed)
shared.close()
running.close()

# %% [markdown]
# ## 5. 다듬기 전과 후
#
# 이제 같은 Triton, 같은 모델, 같은 클라이언트에 엔진만 바꿉니다.
#
# - **transformers**: 요청을 하나씩 차례로 `generate`로 답합니다. 다듬기 전의 모습입니다. 손님이 늘면 대기열만 길어집니다.
# - **우리 엔진 int8**: 가중치를 8비트로 줄여 읽을 바이트를 (bfloat16의) 절반으로 만든 것입니다.
#
# 손님이 여럿일 때 transformers와의 차이가 얼마나 더 벌어지는지, int8은 손님이 하나일 때와 여럿일 때 가운데 어느 쪽에서 도움이 되는지 보세요.
# 모델이 아주 작으면 읽는 시간이 애초에 짧아 int8이 오히려 손해일 수도 있습니다. 최적화는 **병목을 줄일 때만** 효과가 있습니다.

# %%
report.section("5. 다듬기 전과 후")
curves = {"우리 엔진": scratch}
for name, changes in {"transformers": {"engine": "transformers"}, "우리 엔진 int8": {"weights": "int8"}}.items():
    with served_model(engine(**changes)) as served:
        curves[name] = sweep(served, loadtest, loadtest.clients, rows_folder / name.replace("우리 엔진 ", ""), settings.seed)
    best, most = curves[name][-1].summary, scratch[-1].summary
    print(f"{name}: 클라이언트 {best.n_clients}명에서 {best.tokens_per_second:,.0f} 토큰/초 (우리 엔진의 {best.tokens_per_second / most.tokens_per_second:.2f}배), "
          f"TTFT p95 {1000 * best.first_token.p95:.0f} ms")  # fmt: skip
report.table([table_row(name, m) for name, measured in curves.items() for m in measured], caption="같은 모델, 같은 Triton, 엔진만 바꾸어")
figure, ((speed, first), (between, cdf)) = new_figure(2, 2)
throughput_plot(speed, curves)
latency_plot(first, curves, "first_token", "첫 토큰까지 (TTFT)")
latency_plot(between, curves, "inter_token", "토큰 사이 (ITL)")
first_token_cdf(cdf, {name: measured[-1].load.records for name, measured in curves.items()}, f"TTFT의 누적 분포, 클라이언트 {loadtest.clients[-1]}명")
report.figure(figure, "engines", "클라이언트가 늘 때의 처리량과 지연. 점선은 p95. 누적 분포가 95 % 선과 만나는 곳이 p95입니다")

# %% [markdown]
# ## 6. 대기열의 한계
#
# 실제 손님은 앞사람의 답이 끝나기를 기다렸다가 오지 않습니다. 제멋대로 옵니다(**열린 고리**, open loop, 푸아송 도착). 감당할 수 있는 속도의
# **1.5배**로 계속 오면 대기열은 끝없이 길어지고, 모두가 오래 기다립니다. 처리량 $X$는 그대로인데 $L$이 느니, 리틀의 법칙대로 $R$도 늡니다.
#
# 그래서 대기열에 **한계**를 둡니다. 꽉 차면 새 요청에는 곧바로 바쁘다고(busy) 답하고 돌려보냅니다. 거절당한 사람은 잠시 뒤에 다시 오면 되고,
# 받아들여진 사람은 금방 답을 듣습니다. 다 받아 놓고 모두를 기다리게 하는 것보다 낫습니다. 한계가 넉넉한 서버와 2인 서버를 같은 요청으로 견줍니다.
#
# 기다린 시간은 보낸 때가 아니라 **보내려던 때**부터 잽니다. 그러지 않으면 서버가 막혔을 때 덜 물어보게 되어 숫자가 좋아 보입니다.

# %%
report.section("6. 대기열의 한계")
strict_waiting = 2
with served_model(engine(max_waiting=strict_waiting)) as served:
    strict = open_loop(Shared(shared := served.connect()), overload, rate=1.5 * capacity, max_clients=64, seed=settings.seed)
    shared.close()
queues = {f"대기열 {serving.max_waiting}개까지": patient, f"대기열 {strict_waiting}개까지": strict}
rows = []
for name, load in queues.items():
    s = summarise(load)
    refused, waited = s.outcomes.get("busy", 0), s.first_token.p95
    rows.append({"대기열": name, "보낸 요청": s.n_requests, "답한 요청": s.n_requests - refused, "거절": refused,
                 "TTFT p50 (ms)": round(1000 * s.first_token.p50, 1), "TTFT p95 (ms)": round(1000 * waited, 1)})  # fmt: skip
    print(f"  {name}: {s.n_requests}개 가운데 거절 {refused}개, 받아들인 요청의 TTFT p95 {1000 * waited:.0f} ms")
report.table(rows, caption=f"감당할 수 있는 속도의 1.5배({1.5 * capacity:.1f} 요청/초)로 올 때")
figure, axes = new_figure(width=6.0, height=3.2)
first_token_cdf(axes, {name: [r for r in load.records if r.answered] for name, load in queues.items()}, "받아들인 요청의 TTFT")
report.figure(figure, "queue", "대기열을 짧게 자르면 받아들인 요청은 빨리 시작합니다")

# %% [markdown]
# ## 7. 오래 버티기
#
# 잠깐 빠른 것과 오래 멀쩡한 것은 다릅니다. 짧은 질문과 긴 질문, 온갖 샘플링, 답을 받다가 창을 닫아 버리는 사람, 아주 느리게 읽는 사람,
# 너무 긴 글을 보내는 사람을 섞어 계속 보냅니다. 끝나고 네 가지를 확인합니다.
#
# 1. 우리 쪽 오류가 하나도 없는가
# 2. 요청과 토큰의 셈이 맞는가 (창을 닫은 사람이 못 받은 토큰까지)
# 3. 메모리가 평평한가: 몸풀기 뒤의 기울기와 최댓값 (60초보다 짧으면 판정하지 않습니다)
# 4. 끝난 뒤 서버가 비었고 다시 답하는가

# %%
report.section("7. 오래 버티기")
if loadtest.soak_seconds:
    rows_taken, line = 3, 2
    with served_model(engine(max_rows=rows_taken, max_waiting=line)) as served:
        result = soak(served.connect, served.metrics_address, seconds=loadtest.soak_seconds, n_clients=rows_taken + line + 3,
                      context_length=served.context_length, expect_busy=True, seed=settings.seed)  # fmt: skip
    print("\n".join(result.lines()))
    report.output("\n".join(result.lines()))
    report.text("통과했습니다." if result.passed else "**통과하지 못했습니다.** 위의 ‘잘못’ 줄을 보세요.")
else:
    print("건너뜁니다. 10분 동안 해 보려면: make week8-loadtest ARGS=\"loadtest.soak_seconds=600\"")
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `make week8-loadtest ARGS="serving.max_rows=2"`: 자리를 둘로 줄이면 처리량은 어디서 멈추나요? 리틀의 법칙으로 요청 하나의 평균 시간을 먼저 예상해 보세요.
# - `make week8-loadtest ARGS="loadtest.prompt_tokens=96 loadtest.max_new_tokens=8"`: 긴 글을 읽고 짧게 답하면 TTFT와 ITL 가운데 무엇이 중요해지나요?
# - `make week8-loadtest ARGS="loadtest.soak_seconds=600"`: 10분 동안 메모리의 기울기를 보세요.
# - `artifacts/<규모>/serving/loadtest/`에 요청마다 토큰이 도착한 시각이 모두 있습니다. ITL이 가장 길었던 순간에 무슨 일이 있었는지 찾아보세요.
