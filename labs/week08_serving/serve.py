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
# # 8주차. 서비스로 세우기: Triton, OpenAI 호환 주소, 대화 화면
#
# 학습이 끝난 모델을 여러 사람이 함께 쓰는 서비스로 세웁니다. 서비스는 세 부분으로 이루어집니다.
#
# 1. **Triton**: 요청을 받아 엔진에 넘기는 추론 서버. HTTP, gRPC, 지표의 세 포트를 엽니다. 모델을 돌리는 **엔진**은 Triton이 띄우는 별도의 프로세스입니다.
# 2. **게이트웨이**: OpenAI 호환 주소. OpenAI API에 맞춘 도구를 고치지 않고 쓸 수 있습니다.
# 3. **대화 화면**: 사람이 쓰는 웹 페이지.
#
# 그리고 셋을 지켜보다가 죽은 부분을 다시 띄우는 **감독**(supervisor)이 있습니다. 서비스는 띄우는 것보다 **계속 떠 있게 하는 것**이 어렵습니다.
#
# 터미널에서 `make week8-serve`를 하면 아래를 차례로 보여 준 뒤 Ctrl-C를 누를 때까지 서비스를 켜 둡니다. `SERVE=0`이면 끝에서 내립니다.

# %%
import json
import threading
import time
import urllib.request

from llm_workshop.artifacts import Artifacts
from llm_workshop.report import Report
from llm_workshop.report.plots import COLORS, new_figure
from llm_workshop.serving.client import TritonClient, TritonEngine
from llm_workshop.serving.engine import Sampling
from llm_workshop.serving.monitoring import read_metrics
from llm_workshop.serving.stack.command import examples
from llm_workshop.serving.stack.supervisor import Stack
from llm_workshop.serving.triton.interface import METRIC_STEPS, METRIC_TOKENS, MODEL_NAME
from llm_workshop.serving.triton.repository import write_repository
from llm_workshop.settings import settings_from_command_line

settings = settings_from_command_line(uses=("serving", "chat.port", "chat.serve"))
serving = settings.serving
artifacts = Artifacts(settings)
artifacts.require("base-model")
report = Report(artifacts, "week08-serve", "8주차: 서비스로 세우기")

# %% [markdown]
# ## 1. 모델 저장소
#
# Triton은 **모델 저장소**(model repository)라는 폴더를 읽습니다. 모델마다 폴더가 하나 있고, 그 안에 설정 `config.pbtxt`와 번호를 붙인 버전 폴더가
# 있습니다. 설정에는 입력과 출력의 이름, 자료형, 차원, 엔진 프로세스(인스턴스)의 수를 적습니다. 서버는 설정과 맞지 않는 요청을 엔진에 넘기지 않고 돌려보냅니다.
#
# 이름이 `tensorrt_llm`인 까닭은 TensorRT-LLM의 `llmapi` 모델과 이름, 입력, 출력을 맞추었기 때문입니다. GPU에서 엔진을 갈아 끼워도
# 클라이언트는 한 줄도 바꾸지 않습니다.

# %%
report.section("1. 모델 저장소")
repository = write_repository(artifacts)
files = sorted(path for path in repository.rglob("*") if path.is_file())
tree = "\n".join(f"{path.relative_to(repository.parent)}  ({path.stat().st_size:,} B)" for path in files)
configuration = (repository / MODEL_NAME / "config.pbtxt").read_text(encoding="utf-8")
lines = configuration.splitlines()
shown = "\n".join(line if len(line) <= 110 else f"{line[:107]}..." for line in [*lines[:6], "...", *lines[-4:]])
print(f"{tree}\n\n{MODEL_NAME}/config.pbtxt ({len(lines)}줄 가운데):\n{shown}")
report.output(tree).output(configuration, "protobuf")

# %% [markdown]
# ## 2. 띄우기
#
# 먼저 **모든 포트**를 시험합니다. 모델을 다 읽고 나서야 포트를 쓸 수 없다고 하면 기다린 시간이 아깝습니다. Triton이 준비된 다음에 나머지 둘을 띄우고,
# 준비되었는지는 프로세스가 살아 있는지가 아니라 **물어보면 답하는지**로 판단합니다. 로그는 `artifacts/<규모>/serving/logs`에, 주소와 프로세스 번호는
# `service.json`에 남습니다.

# %%
report.section("2. 띄우기")
stack = Stack(settings, artifacts)
started = time.perf_counter()
stack.start()
seconds_to_start = time.perf_counter() - started
report.text(f"셋이 모두 답하기까지 {seconds_to_start:.1f}초 걸렸습니다.")
report.table([{"부분": name, "주소": address} for name, address in stack.addresses.items()])

# %% [markdown]
# ## 3. HTTP로 묻기: generate와 generate_stream
#
# 가장 단순한 길은 JSON 한 덩어리를 보내고 한 덩어리를 받는 것입니다(`/generate`). 답이 다 만들어질 때까지 아무것도 오지 않습니다.
#
# `/generate_stream`은 **서버가 보내는 이벤트**(SSE, server-sent events)입니다. 연결 하나로 `data: {...}` 줄이 만들어지는 대로 옵니다. TensorRT-LLM의 관례대로
# `text_output`에는 **그때까지의 답 전체**가 들어 있습니다. 조각을 하나 놓쳐도 다음 조각으로 복구됩니다.

# %%
report.section("3. HTTP로 묻기: generate와 generate_stream")
ask = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # 이 컴퓨터에 묻는데 프록시를 거칠 까닭이 없습니다.
triton = f"{stack.addresses['triton']}/v2/models/{MODEL_NAME}"
question = {"text_input": "산에 가면", "sampling_param_max_tokens": 24, "sampling_param_temperature": 0.0,
            "sampling_param_exclude_input_from_output": True}  # fmt: skip


def post(path: str, **more) -> urllib.request.Request:
    return urllib.request.Request(f"{triton}/{path}", json.dumps({**question, **more}).encode(), {"Content-Type": "application/json"})


with ask.open(post("generate"), timeout=60) as answer:
    whole = json.load(answer)["text_output"]
print(f"/generate        {whole!r}")
started, pieces = time.perf_counter(), []
with ask.open(post("generate_stream", streaming=True), timeout=60) as stream:
    for line in stream:
        if line.startswith(b"data:"):
            pieces.append((1000 * (time.perf_counter() - started), json.loads(line[5:])["text_output"]))
for milliseconds, text in pieces[:3]:
    print(f"/generate_stream {milliseconds:6.1f} ms {text!r}")
print(f"                 ... {len(pieces)}번에 나누어 옴. 마지막은 /generate의 답과 {'같음' if pieces[-1][1] == whole else '다름!'}")
report.text(f"같은 질문에 `/generate`는 한 번에, `/generate_stream`은 {len(pieces)}번에 나누어 답했습니다. 온도가 0이므로 두 답은 같아야 합니다.")
report.output(whole)

# %% [markdown]
# ## 4. gRPC 클라이언트
#
# gRPC는 HTTP/2 위에서 이진 메시지를 주고받습니다. 연결 하나에 여러 스트림이 섞여 다니고, **취소**가 규약에 들어 있습니다. 화면에서 '멈추기'를 누르면
# 엔진에서 그 요청의 자리도 곧바로 빕니다. 대화 화면과 게이트웨이는 이 길을 씁니다. `TritonEngine`은 대화에 학습 때와 똑같은 템플릿을 씌워 보냅니다.

# %%
report.section("4. gRPC 클라이언트")
client = TritonClient.from_url(f"127.0.0.1:{serving.grpc_port}")
engine = TritonEngine(client, artifacts.path("base-model"))
info = engine.info()
print(f"모델 {info.name}: {info.architecture}, 파라미터 {info.n_parameters:,}개, 문맥 {info.context_length}, {info.device} {info.precision}")
greedy = Sampling(max_new_tokens=24, temperature=0.0)
if info.supports_chat:
    deltas = list(engine.stream([{"role": "user", "content": "안녕하세요"}], greedy))
else:
    deltas = list(engine.complete("안녕하세요", greedy))
print(f"답: {''.join(d.text for d in deltas)!r}  (조각 {len(deltas)}개, 토큰 {sum(d.n_tokens for d in deltas)}개, 끝난 까닭 {deltas[-1].finish_reason})")
report.facts({"모델": info.name, "구조": info.architecture, "파라미터": f"{info.n_parameters:,}", "문맥": info.context_length,
              "장치": info.device, "정밀도": info.precision})  # fmt: skip

# %% [markdown]
# ## 5. OpenAI 클라이언트
#
# 게이트웨이에는 OpenAI의 공식 클라이언트로 묻습니다. 바꾸는 것은 `base_url` 하나입니다. 주소를 다른 컴퓨터에도 열어야 한다면 `WORKSHOP_API_KEY`를
# 정해 두세요. API 키를 정하지 않으면 이 컴퓨터에서만 열립니다.

# %%
report.section("5. OpenAI 클라이언트")
endpoint = f"{stack.addresses['gateway']}/v1"
try:
    import openai
except ImportError:
    print("openai 패키지가 없어 건너뜁니다. 해 보려면 make shell 안에서: pip install openai")
else:
    import os

    import httpx

    key = os.environ.get("WORKSHOP_API_KEY", "none").split(",")[0]
    with openai.OpenAI(base_url=endpoint, api_key=key, http_client=httpx.Client(trust_env=False)) as remote:
        name = next(iter(remote.models.list())).id
        if info.supports_chat:
            reply = remote.chat.completions.create(model=name, messages=[{"role": "user", "content": "안녕하세요"}], temperature=0, max_tokens=24)
            text = reply.choices[0].message.content
        else:
            text = remote.completions.create(model=name, prompt="안녕하세요", temperature=0, max_tokens=24).choices[0].text
    print(f"{endpoint}, 모델 {name}: {text!r}")
    report.text(f"OpenAI 클라이언트가 `{name}`에게 들은 답:").output(text)

# %% [markdown]
# ## 6. 배칭: 한꺼번에 묻기
#
# 토큰 하나를 만들려면 모델의 가중치를 모두 한 번 읽어야 합니다. 읽은 김에 여러 요청의 토큰을 하나씩 함께 만들면 그만큼 이득입니다. 이렇게 함께
# 한 토큰씩 나아가는 것을 엔진의 **스텝**이라고 하겠습니다.
#
# - **동적 배칭**(dynamic batching)은 잠깐 기다렸다가 모인 요청을 한 묶음으로 엔진에 넘깁니다. 이미지 분류처럼 걸리는 시간이 일정한 모델에 알맞습니다.
#   글을 만드는 모델에서는 묶음의 짧은 답이 가장 긴 답을 기다리게 됩니다.
# - **연속 배칭**(continuous batching)은 묶음을 **스텝마다** 다시 짭니다. 끝난 요청은 바로 나가고 **대기열**에서 기다리던 요청이 그 자리에 들어옵니다.
#   함께 답할 수 있는 요청의 수, 곧 **자리**의 수는 `serving.max_rows`입니다.
#   우리 엔진이 이렇게 하고, TensorRT-LLM도 같은 일을 하며 in-flight batching이라고 부릅니다.
#
# 동시에 묻는 사람을 늘려 봅니다. 모두 받기까지 걸리는 시간은 사람 수보다 천천히 늘고, 그래서 모두가 1초에 받는 토큰의 합(**처리량**)은 늘어야 합니다.

# %%
report.section("6. 배칭: 한꺼번에 묻기")


def ask_at_once(n: int, tokens: int = 32) -> tuple[float, int, int]:
    """``n`` questions at the same time: seconds until the last answer, tokens of all, steps that the engine took."""
    counts = [0] * n

    def one(i: int) -> None:
        sampling = Sampling(max_new_tokens=tokens, temperature=1.0, seed=i)
        counts[i] = sum(delta.n_tokens for delta in engine.complete("바다에는", sampling))

    steps = read_metrics(metrics_address).total(METRIC_STEPS)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    time.sleep(0.5)  # 지표는 조금 늦게 따라옵니다
    return seconds, sum(counts), int(read_metrics(metrics_address).total(METRIC_STEPS) - steps)


metrics_address = f"127.0.0.1:{serving.metrics_port}"
ask_at_once(2)  # 몸풀기
rows = []
for n in (1, 2, 4, 8):
    seconds, tokens, steps = ask_at_once(n)
    rows.append({"동시에": n, "모두 받기까지 (초)": round(seconds, 3), "토큰": tokens, "토큰/초": round(tokens / seconds), "엔진의 스텝": steps})
    print(f"동시에 {n}명: {seconds:6.3f}초, 토큰 {tokens:4d}개, {tokens / seconds:7,.0f} 토큰/초, 엔진은 {steps}스텝")
report.text("엔진의 스텝 수가 토큰 수보다 적은 만큼이 배칭이 아낀 일입니다. 혼자 물으면 토큰마다 거의 한 스텝이 듭니다.").table(rows)
figure, (speed, saved) = new_figure(1, 2, width=4.8, height=3.2)
speed.plot([row["동시에"] for row in rows], [row["토큰/초"] for row in rows], color=COLORS[0], marker="o")
speed.set(title="처리량", xlabel="동시에 묻는 사람", ylabel="토큰/초", xticks=[row["동시에"] for row in rows])
speed.set_ylim(bottom=0)
saved.plot([row["동시에"] for row in rows], [row["토큰"] for row in rows], color=COLORS[1], marker="o", label="만든 토큰")
saved.plot([row["동시에"] for row in rows], [row["엔진의 스텝"] for row in rows], color=COLORS[2], marker="o", label="엔진의 스텝")
saved.set(title="토큰과 스텝", xlabel="동시에 묻는 사람", xticks=[row["동시에"] for row in rows])
saved.set_ylim(bottom=0)
saved.legend()
report.figure(figure, "batching", "동시에 묻는 사람이 늘 때의 처리량과 엔진의 스텝 수")

# %% [markdown]
# ## 7. 지표
#
# Triton은 8002번 포트의 `/metrics`에서 Prometheus 형식의 숫자를 보여 줍니다. `nv_inference_...`는 Triton의 것, `workshop_...`은 우리 엔진이 더한 것입니다.
# 이름이 `_total`로 끝나는 것과 Triton의 횟수는 누적값(counter)이므로 **두 번 읽은 값의 차이**를 시간으로 나누어야 속도가 됩니다. 게이트웨이의 `/monitor`가
# 그 일을 합니다. 컨테이너에서는 `make up PROFILES="serving monitoring"`으로 띄운 Prometheus와 Grafana도 같은 일을 합니다.

# %%
report.section("7. 지표")
now = read_metrics(metrics_address)
mine = [(name, now.total(name)) for name in sorted(now.names()) if name.startswith("workshop_") and "bucket" not in name]
triton_own = [(name, now.total(name)) for name in ("nv_inference_request_success", "nv_inference_request_failure", "nv_inference_exec_count")]
for name, value in (*triton_own, *mine):
    print(f"{name:44} {value:12,.3f}".rstrip("0").rstrip("."))
print(f"\n지금까지 만든 토큰은 {now.total(METRIC_TOKENS):,.0f}개, 스텝은 {now.total(METRIC_STEPS):,.0f}번")
report.table([{"지표": name, "값": round(value, 3)} for name, value in (*triton_own, *mine)])
report.save()

# %% [markdown]
# ## 8. 켜 두거나, 내리거나
#
# 내릴 때는 위에서 아래로, 화면과 게이트웨이를 먼저 내리고 Triton에는 하던 일을 마칠 시간을 줍니다. 감독이 `kill -9`로 죽어도 남는 프로세스는 없습니다.
# 자식 프로세스마다 감독과 이어진 파이프가 하나씩 있어서, 파이프가 끊기면 스스로 끝납니다.
#
# 켜져 있는 동안 다른 터미널의 `make shell` 안에서 해 보세요. `SCALE=smoke`로 띄웠다면 명령에 `--scale smoke`를 붙입니다. 엔진의 프로세스 번호는
# `service.json`의 `engine_pids`에 있습니다.
#
# ```
# workshop serve --status                  # 부분마다 주소, 프로세스 번호, 준비되었는지
# kill -9 <엔진의 프로세스 번호>           # 몇 초 만에 돌아오는지, 화면에는 무엇이 보이는지
# workshop serve --stop                    # 내리기
# ```

# %%
report.section("8. 켜 두거나, 내리거나")
client.close()
try:
    if settings.chat.serve:
        with stack.woken_by_signals():
            print(examples(settings, stack.names), flush=True)
            stack.wait()
finally:
    began = time.perf_counter()
    stack.stop()
    print(f"\n내렸습니다 ({time.perf_counter() - began:.1f}초)", flush=True)
