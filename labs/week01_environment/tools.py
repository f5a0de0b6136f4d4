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
# # 1주차. 도구 지도: 같은 체크포인트를 여러 도구로 열기
#
# Transformers, NeMo AutoModel, Megatron, TensorRT-LLM. 이름은 많지만 하는 일은 다릅니다. 설명을 읽는 대신 **같은 체크포인트 하나**를
# 설치된 도구마다 열고, 같은 토큰을 넣어, 나온 점수(로짓)가 같은지 봅니다. 같은 수가 나온다면 도구는 모델이 아니라
# **모델을 돌리는 방법**이 다른 것입니다.
#
# NVIDIA의 도구는 서로, 그리고 이 과정의 라이브러리와 버전이 어긋나므로 환경을 따로 둡니다. `make env-nemo`로 만듭니다(몇 분, 3 GB 남짓).
# 없으면 그 줄을 건너뛰고 나머지를 봅니다.

# %%
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.export.checkpoint import quiet
from llm_workshop.orientation.environments import ENVIRONMENTS, installed_version
from llm_workshop.orientation.first_model import find_first_model
from llm_workshop.orientation.peers import NemoPeer
from llm_workshop.orientation.plots import opening_plot
from llm_workshop.report import Report
from llm_workshop.settings import settings_from_command_line
from scratch_llm.models import load_model
from scratch_llm.tokenizers import ByteLevelBPE, load_tokenizer

settings = settings_from_command_line(uses=("hello",))
artifacts = Artifacts(settings)
report = Report(artifacts, "week01-tools", "1주차: 도구 지도")

# %% [markdown]
# ## 1. 누가 무엇을 하나
#
# | 도구 | 하는 일 | 체크포인트 | 알맞은 때 |
# |---|---|---|---|
# | **Transformers** | 모델 구조의 도서관. 읽고, 고치고, 학습하고, 생성한다 | Hugging Face 폴더 그대로 | 연구, 작은 학습, 무엇이든 처음 열어 볼 때 |
# | **NeMo AutoModel** | 같은 폴더를 열어 여러 GPU로 학습한다. 설정 파일(YAML)로 사전 학습, 미세 조정, LoRA | Hugging Face 폴더 그대로 | GPU 한 장에서 수백 장, 변환 없이 |
# | **Megatron core** | 층 하나를 여러 GPU에 쪼개는 부품들(텐서·파이프라인·전문가 병렬) | 자기 배치로 **변환**해야 한다 | 수백 장에서 수천 장, 마지막 한 방울의 속도 |
# | **TensorRT-LLM** | 학습은 하지 않는다. 추론만 빠르게: 커널 융합, 양자화, 묶음 처리, 페이지로 나눈 캐시 | Hugging Face 폴더를 그대로 (1.0부터는 PyTorch 백엔드가 기본) | NVIDIA GPU에서 서비스할 때 |
#
# **NeMo**는 이 가운데 여럿을 아우르는 NVIDIA의 틀입니다. 예전의 nemo-toolkit에는 LLM 학습이 들어 있었지만 지금은 음성과 토크나이저만
# 남았고, LLM은 AutoModel과 Megatron으로 나뉘었습니다. 오래된 글을 따라 하다 `nemo.collections.llm`이 없다는 오류를 만나는 까닭입니다.

# %%
report.section("1. 누가 무엇을 하나")
PACKAGES = {
    "Transformers": ("core", "transformers"), "NeMo AutoModel": ("nemo", "nemo-automodel"), "nemo-toolkit": ("nemo", "nemo-toolkit"),
    "Megatron core": ("nemo", "megatron-core"), "TensorRT-LLM": ("core", "tensorrt-llm"),
}  # fmt: skip
rows = []
for tool, (name, package) in PACKAGES.items():
    version = installed_version(ENVIRONMENTS[name], package)
    absent = f"없음 ({ENVIRONMENTS[name].command})" if name != "core" else "여기에는 없음 (NVIDIA GPU의 전용 이미지에 있습니다)"
    rows.append({"도구": tool, "환경": name, "버전": version or absent})
    print(f"  {tool:16} {name:6} {version or absent}")
report.table(rows)

# %% [markdown]
# ## 2. 같은 토큰, 같은 로짓?
#
# 폴더를 열어 토큰 16개를 넣고, 나온 로짓을 우리가 밑바닥부터 쓴 모델(`scratch_llm`)의 것과 견줍니다. 차이가 1e-4보다 작으면 같은 함수입니다.
# float32의 덧셈은 순서에 따라 끝자리가 달라서 0이 아닌 것이 보통입니다.
#
# Megatron만은 그대로 열지 못합니다. q, k, v 행렬을 **그룹별로 엇갈려** 하나로 묶고 게이트와 업 행렬도 붙여야 합니다. GPU 여러 장에 나눌 때
# 그룹을 통째로 잘라 주려는 배치입니다. 그 변환은 `src/llm_workshop/orientation/nemo_probe.py`의 `megatron_state`에 있습니다.

# %%
report.section("2. 같은 토큰, 같은 로짓?")
TEXTS = ["오늘 아침에 김치찌개를 끓였어요.", "Once upon a time", "값 3,500원 (부가세 포함)", "  두 칸 띄고\n줄을 바꿈", "웃음 😀 ㅋㅋㅋ", "뷁", unicodedata.normalize("NFD", "한글")]
first = find_first_model(artifacts)
print(f"체크포인트: {first.origin}")
reference = load_model(first.folder)
vocab_size = reference.config.vocab_size
ids = torch.randint(vocab_size, (16,), generator=torch.Generator().manual_seed(settings.seed)).tolist()
with torch.no_grad():
    expected = reference(torch.tensor([ids]))[0].float().numpy()

opened = []
started = time.perf_counter()
with quiet():
    from transformers import AutoModelForCausalLM

    importing, started = time.perf_counter() - started, time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(first.folder, dtype=torch.float32).eval()
with torch.no_grad():
    logits = model(torch.tensor([ids])).logits[0].numpy()
opened.append({"도구": "Transformers", "불러오기 (초)": importing, "열고 계산하기 (초)": time.perf_counter() - started,
               "클래스": type(model).__name__, "로짓의 최대 차이": float(np.abs(logits - expected).max())})  # fmt: skip

peer = NemoPeer.find()
if peer is None:
    print("NeMo 환경이 없어 AutoModel과 Megatron은 건너뜁니다. make env-nemo로 만들고 다시 실행하세요.")
    report.text("NeMo 환경이 없어 AutoModel과 Megatron은 열지 못했습니다(`make env-nemo`).")
else:
    print("  NVIDIA의 도구를 부르는 중입니다 (하나에 10초 남짓)", flush=True)
    calling = ThreadPoolExecutor(3 if settings.scale == "smoke" else 1)  # smoke에서는 셋을 한꺼번에 불러 시간을 아낍니다
    asked = {name: calling.submit(peer.logits, tool, first.folder, ids) for tool, name in (("automodel", "NeMo AutoModel"), ("megatron", "Megatron core"))}
    asked_ids = calling.submit(peer.encode, first.folder, TEXTS)
    for name, answer in ((name, waiting.result()) for name, waiting in asked.items()):
        if answer.problem:
            print(f"  {name}: 열지 못했습니다. {answer.problem}")
            report.text(f"{name}: 열지 못했습니다. {answer.problem}")
            continue
        opened.append({"도구": name, "불러오기 (초)": answer.import_seconds, "열고 계산하기 (초)": answer.work_seconds,
                       "클래스": answer.class_name, "로짓의 최대 차이": float(np.abs(answer.logits - expected).max())})  # fmt: skip
for row in opened:
    row["같은 함수인가"] = row["로짓의 최대 차이"] < 1e-4
    print(f"  {row['도구']:15} 불러오기 {row['불러오기 (초)']:5.1f}초, 열고 계산하기 {row['열고 계산하기 (초)']:5.2f}초, "
          f"차이 {row['로짓의 최대 차이']:.1e} {'같음' if row['같은 함수인가'] else '다름!'}  {row['클래스']}")  # fmt: skip
report.table(opened, caption="우리가 밑바닥부터 쓴 모델의 로짓과 견준 것. 시간은 컴퓨터의 형편에 따라 다릅니다")
figure = opening_plot([(row["도구"], row["불러오기 (초)"], row["열고 계산하기 (초)"]) for row in opened])
report.figure(figure, "opening", "도구를 불러오는 시간과 작은 모델 하나를 열고 계산하는 시간")

# %% [markdown]
# ## 3. 같은 글, 같은 번호?
#
# 모델이 같아도 토크나이저가 다르면 소용이 없습니다. `tokenizer.json` 하나를 우리 코드, Transformers, nemo-toolkit으로 열어 번호를 견줍니다.
# 한글, 영어, 이모지, 띄어쓰기, 풀어쓴 자모까지 넣은 문장들(2절 처음의 `TEXTS`)입니다.

# %%
report.section("3. 같은 글, 같은 번호?")
with quiet():
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(first.folder)
own = load_tokenizer(first.folder)
if isinstance(own, ByteLevelBPE):
    answers = {"scratch_llm": [own.encode(text, allow_special=False) for text in TEXTS]}
else:  # SentencePiece 방식의 토크나이저
    answers = {"scratch_llm": [own.encode(text) for text in TEXTS]}
answers["Transformers"] = [theirs.encode(text, add_special_tokens=False) for text in TEXTS]
if peer is not None:
    answer = asked_ids.result()
    calling.shutdown()
    if answer.problem:
        print(f"  nemo-toolkit: 열지 못했습니다. {answer.problem}")
    else:
        answers["nemo-toolkit"] = answer.ids
rows = [{"글": text.replace("\n", "↵"), "토큰": len(answers["Transformers"][n])}
        | {tool: "같음" if found[n] == answers["Transformers"][n] else "다름!" for tool, found in answers.items()} for n, text in enumerate(TEXTS)]  # fmt: skip
for row in rows:
    print("  " + ", ".join(f"{key} {value}" for key, value in row.items()))
report.table(rows)

# %% [markdown]
# ## 4. TensorRT-LLM이라면
#
# TensorRT-LLM은 NVIDIA GPU와 전용 이미지가 있어야 합니다. 여기서는 무엇을 하는지만 적습니다. 8주차의 `export.py`가 이 폴더를 TensorRT-LLM이
# 읽는 모양으로 내보내고, GPU가 있는 컴퓨터에서는 아래의 명령으로 서비스합니다.
#
# 1. 폴더의 `config.json`에서 구조를 알아보고, 같은 구조의 **자기 구현**에 가중치를 싣는다.
# 2. 여러 연산을 한 커널로 합치고(정규화와 곱셈, 어텐션 전체), 필요하면 FP8이나 INT4로 줄인다.
# 3. 요청이 들어올 때마다 **도는 중인 묶음에 끼워 넣고**, KV 캐시를 쪽(page)으로 나누어 빈틈없이 쓴다.
#
# 학습은 하지 않습니다. "어느 도구가 가장 빠른가"가 아니라 "지금 무엇을 하려는가"를 먼저 물으세요.

# %%
report.section("4. TensorRT-LLM이라면")
version = installed_version(ENVIRONMENTS["core"], "tensorrt-llm")
serve = f"trtllm-serve {first.folder.name} --host 127.0.0.1 --port 8000"
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "NVIDIA GPU 없음"
print(f"  TensorRT-LLM: {version or '설치되어 있지 않습니다'} ({gpu})")
print(f"  GPU가 있는 전용 이미지에서라면: {serve}")
report.text(f"TensorRT-LLM: {version or '여기에는 없습니다'}({gpu}). GPU가 있는 전용 이미지에서라면 이렇게 부릅니다.").output(serve, "bash")

# %% [markdown]
# ## 5. NeMo인가 Transformers인가
#
# | 물음 | Transformers | NeMo (AutoModel, Megatron) |
# |---|---|---|
# | 시작하기까지 | 한 환경, 몇 초 | 환경이 무겁고 버전에 까다롭다. 보통 NGC 컨테이너로 |
# | 모델의 가짓수 | 거의 모두, 나온 날에 | 큰 것들. 없는 것은 AutoModel이 Transformers의 구현으로 연다 |
# | 속을 고치기 | 쉽다. 파일 하나가 모델 하나 | AutoModel은 보통, Megatron은 어렵다 |
# | GPU 한 장 | 넉넉하다 | 이득이 작다 |
# | GPU 여러 장 | FSDP, 텐서 병렬 일부 | 텐서·파이프라인·문맥·전문가 병렬을 모두 섞는다 |
# | 설정 | 파이썬 코드 | YAML과 레시피. 실험을 기록하고 되풀이하기 좋다 |
# | 체크포인트 | 공용어 | AutoModel은 같은 형식, Megatron은 변환 |
#
# 이 과정은 밑바닥부터 쓴 코드로 배우고, Transformers의 형식으로 저장하고, 5주차와 6주차에 AutoModel로 같은 일을 되풀이하고,
# 8주차에 TensorRT-LLM으로 내보냅니다. 형식이 같으니 언제든 갈아탈 수 있습니다.

# %%
report.section("5. NeMo인가 Transformers인가")
same = [row["도구"] for row in opened if row["같은 함수인가"]]
print(f"  로짓이 같았던 도구: {', '.join(same)}. 형식이 같으면 도구는 언제든 바꿀 수 있습니다.")
report.text(f"로짓이 같았던 도구는 {', '.join(same)}입니다.")
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `megatron_state`에서 q, k, v를 그룹별로 섞지 않고 그냥 이어 붙이면(`torch.cat([q, k, v])`) 오류가 날까요, 조용히 다른 로짓이 나올까요?
# - 5주차의 모델을 만든 뒤 다시 실행해 보세요. 우리 토크나이저도 세 도구에서 같은 번호를 내나요?
# - 여러분이 하려는 일(예: GPU 두 장으로 8B 모델을 LoRA로 조정해 서비스하기)에 어떤 도구를 어떤 차례로 쓸지 적어 보세요.
