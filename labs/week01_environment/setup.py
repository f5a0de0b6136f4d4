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
# # 1주차. 환경 점검: 이 컴퓨터로 무엇을 할 수 있나
#
# LLM 작업의 첫 고비는 모델이 아니라 **환경**입니다. 드라이버, CUDA, torch, 그 위의 라이브러리가 서로 맞아야 하고, 하나만 어긋나도
# 알 수 없는 오류가 나거나, 더 나쁘게는 **조용히 느려집니다**. 이 실습은 아무것도 바꾸지 않고 살펴보기만 합니다.
#
# 같은 점검을 컨테이너 안에서도 해 보세요. `make week1-setup RUN=docker`와 `RUN=local`의 결과를 나란히 놓으면 무엇이 다른지 보입니다.

# %%
import time

import torch

from llm_workshop.artifacts import Artifacts, device_name
from llm_workshop.doctor import Status, examine
from llm_workshop.machine import Machine
from llm_workshop.orientation.environments import ENVIRONMENTS, environment_rows, version_rows
from llm_workshop.orientation.gpu import FORMATS, gpu_rows
from llm_workshop.orientation.hub import is_offline, look_for_hub_model
from llm_workshop.orientation.plots import speed_plot
from llm_workshop.orientation.speed import copy_bandwidth, fetch_tiktoken, import_seconds, product_speeds
from llm_workshop.report import Report
from llm_workshop.report.plots import hangul_font_files
from llm_workshop.settings import settings_from_command_line
from scratch_llm.analysis import find_device

settings = settings_from_command_line(uses=("hello",))
artifacts = Artifacts(settings)
report = Report(artifacts, "week01-setup", "1주차: 환경 점검")
smoke, machine = settings.scale == "smoke", Machine()

# %% [markdown]
# ## 1. 점검표
#
# `make doctor`가 하는 것과 같은 점검입니다. **warning**은 느려지거나 건너뛰게 되는 것, **problem**은 곧 실패할 것이고, 둘 다 처방이 붙습니다.
# 점검은 컴퓨터에게 묻는 짧은 함수들입니다(`src/llm_workshop/doctor.py`). 읽어 보면 무엇을 왜 확인하는지 알 수 있습니다.

# %%
report.section("1. 점검표")
WORDS = {Status.OK: "좋음", Status.WARNING: "주의", Status.PROBLEM: "문제"}
where = "컨테이너 안" if machine.environment.get("WORKSHOP_CONTAINER") else "이 컴퓨터에서 바로"
checks = examine(machine)
print(f"{where}, {device_name()}")
for check in checks:
    print(f"  {WORDS[check.status]}  {check.name:15} {check.finding}")
    if check.remedy:
        print(f"        처방: {check.remedy}")
report.text(f"{where} 점검했습니다. 장치는 {device_name()}입니다.")
report.table([{"항목": c.name, "상태": WORDS[c.status], "내용": c.finding, "처방": c.remedy or None} for c in checks])

# %% [markdown]
# ## 2. 환경과 버전
#
# 도구들이 요구하는 버전은 서로 어긋납니다. Triton의 파이썬 백엔드는 NumPy 1을, datasets의 pyarrow는 NumPy 2를 원하고,
# NeMo AutoModel은 transformers를 특정 버전에 묶어 둡니다. 그래서 **환경을 나눕니다**. 아래 표의 한 줄을 가로로 읽어 보세요.
# 같은 패키지가 환경마다 다른 버전인 곳이, 한 환경에 몰아넣으면 깨지는 곳입니다.
#
# 버전은 `environments/*.txt`에 못 박혀 있습니다. "핀"이 다르다고 나오면 누군가 손으로 설치한 것이 있다는 뜻입니다.

# %%
report.section("2. 환경과 버전")
environments, versions = environment_rows(), version_rows()
for row in environments:
    print(f"  {row['환경']:7} {row['상태']:10} {row['핀'] or '':14} {row['쓰임']} ({row['만드는 명령']})")
for row in versions:
    print(f"    {row['패키지']:16}" + "".join(f"{row[name] or '–':>14}" for name in ENVIRONMENTS))
split = [row["패키지"] for row in versions if len({row[name] for name in ENVIRONMENTS if row[name]}) > 1]
print("환경마다 버전이 다른 패키지: " + (", ".join(split) if split else "없음 (환경이 하나뿐이거나 모두 같습니다)"))
report.table(environments).table(versions, caption="환경마다의 버전. –는 없다는 뜻입니다")

# %% [markdown]
# ## 3. GPU와 torch가 맞물리는가
#
# 네 층이 맞아야 합니다. 1이 맨 아래층이고, 위층은 아래층이 받아 주는 것만 쓸 수 있습니다.
#
# 1. **GPU의 세대**(compute capability, 예: 8.0) – 어떤 형식을 빠르게 곱하는지 정해져 있다
# 2. **드라이버** – 쓸 수 있는 CUDA의 최고 버전을 정한다
# 3. **torch가 빌드된 CUDA** – 주 버전이 드라이버가 허락하는 것보다 새로우면 GPU를 보지 못한다
# 4. **torch에 든 코드의 세대**(`torch.cuda.get_arch_list()`) – 내 GPU의 것이 없으면 `no kernel image is available`
#
# 컨테이너에는 1과 2가 없습니다. 드라이버는 **호스트의 것**을 빌리고(`--gpus all`), 3과 4는 이미지에 들어 있습니다. 그래서 드라이버만
# 충분히 새로우면 호스트에 CUDA를 설치하지 않아도 됩니다.

# %%
report.section("3. GPU와 torch가 맞물리는가")
facts = {
    "torch": torch.__version__, "빌드된 CUDA": torch.version.cuda or "없음 (CPU 빌드)", "GPU가 보이는가": torch.cuda.is_available(),
    "코드의 세대": ", ".join(torch.cuda.get_arch_list()) or "없음",
}  # fmt: skip
for name, value in facts.items():
    print(f"  {name}: {value}")
report.facts(facts)
gpus = gpu_rows()
for row in gpus:
    print("  " + ", ".join(f"{name} {value}" for name, value in row.items()))
if gpus:
    report.table(gpus)
else:
    print("  GPU가 없습니다. 모든 실습은 CPU에서 작은 규모로 돌아갑니다.")
    report.text("GPU가 없습니다. 모든 실습은 CPU에서 작은 규모로 돌아갑니다.")
generations = [{"형식": name, "필요한 세대": f"{major}.{minor} 이상"} for name, (major, minor) in FORMATS.items()]
report.table(generations, caption="텐서 코어가 형식을 빠르게 곱하기 시작한 세대. T4는 7.5라 bfloat16이 느립니다")

# %% [markdown]
# ## 4. 얼마나 빠른가
#
# 학습은 거의 모두 행렬 곱이고, 생성은 거의 모두 메모리 읽기입니다. 둘을 직접 잽니다. 이 두 수가 이 과정의 모든 "몇 분 걸린다"의 근거입니다.
# 같은 CPU라도 bfloat16 전용 장치(AMX, AVX512-BF16)가 있으면 몇 배 빠르고, 없으면 오히려 느립니다.
# 그래서 `pretrain.precision=auto`는 재 보고 고릅니다.

# %%
report.section("4. 얼마나 빠른가")
device = "cuda" if torch.cuda.is_available() else "cpu"
n = 8192 if device == "cuda" else 512 if smoke else 1536
speeds = product_speeds(device, n)
bandwidth = copy_bandwidth(device, 64 if smoke else 256)
fastest = max(speeds, key=speeds.get)
for name, speed in speeds.items():
    print(f"  {name:9} {speed / 1e9:10,.0f} GFLOP/s")
print(f"  메모리    {bandwidth / 1e9:10,.1f} GB/s (읽기와 쓰기를 더해)")
print(f"  가장 빠른 형식은 {fastest}입니다. 8B 모델의 토큰 하나(16 GFLOP, bfloat16 16 GB)를 내는 데 계산 {16e9 / speeds[fastest]:.3f}초, 읽기 {16e9 / bandwidth:.2f}초가 듭니다.")
known = find_device(torch.cuda.get_device_name()) if device == "cuda" else None
published = {name: known.peaks[name] for name in speeds if name in known.peaks} if known else {}
rows = [{"형식": name, "잰 속도 (GFLOP/s)": round(s / 1e9), "제조사의 값": round(published[name] / 1e9) if name in published else None} for name, s in speeds.items()]
report.table(rows, caption=f"{n}×{n} 행렬의 곱. 메모리는 초당 {bandwidth / 1e9:.1f} GB(읽기와 쓰기의 합)")
figure = speed_plot(speeds, published, f"{device_name()}")
report.figure(figure, "speed", "형식마다의 행렬 곱 속도")

# %% [markdown]
# ## 5. 미리 데우기
#
# 첫 실행이 유난히 느린 까닭은 대개 **캐시**입니다. 라이브러리의 바이트코드, 글꼴 목록, 허브에서 받은 파일, 컴파일된 커널이 처음 한 번
# 만들어지고 그 뒤로는 다시 쓰입니다. smoke가 아니면 3주차에 쓸 GPT-2의 어휘(1.5 MB)도 받아 둡니다. 수업 전에 한 번 데워 두면 다 같이 기다리지 않아도 됩니다.
# 컨테이너에서는 이 캐시를 볼륨에 두어 컨테이너를 지워도 남게 합니다.

# %%
report.section("5. 미리 데우기")
rows = []
for module, first, second in import_seconds(("torch",) if smoke else ("torch", "transformers", "datasets", "gradio")):
    rows.append({"무엇": f"import {module}", "처음 (초)": round(first, 2), "다시 (초)": round(second, 2)})
started = time.perf_counter()
fonts = hangul_font_files()
rows.append({"무엇": f"한글 글꼴 {len(fonts)}벌", "처음 (초)": round(time.perf_counter() - started, 2), "다시 (초)": 0.0})
for row in rows:
    print(f"  {row['무엇']:22} 처음 {row['처음 (초)']:6.2f}초, 다시 {row['다시 (초)']:6.2f}초")
report.table(rows)

if settings.hello.hub_model is None:
    words = "고르지 않음"
else:
    hub = look_for_hub_model(settings.hello.hub_model)
    words = f"{hub.name}: {hub.reason}"
offline = "켜짐 (허브에 묻지 않습니다)" if is_offline() else "꺼짐"
print(f"  HF_HUB_OFFLINE {offline}. hello.py가 쓸 허브 모델: {words}")
vocabulary = "묻지 않음" if smoke or is_offline() else fetch_tiktoken()
print(f"  GPT-2의 어휘(tiktoken, 3주차에서 견줍니다): {vocabulary}")
report.facts({"HF_HUB_OFFLINE": offline, "hello.py가 쓸 허브 모델": words, "GPT-2의 어휘 (tiktoken)": vocabulary})
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - 점검표에 "주의"가 있다면 처방대로 해 보고 다시 실행하세요. 무엇이 달라졌나요?
# - `environments/core.txt`에서 numpy의 핀을 1.26.4로 바꾸면 어떤 패키지가 싫어할까요? 2절의 표와 `environments/README.md`에서 근거를 찾아보세요.
# - 4절의 두 수로, 여러분의 컴퓨터에서 1B 모델(bfloat16 2 GB)이 초당 낼 수 있는 토큰의 한계를 셈해 보세요.
