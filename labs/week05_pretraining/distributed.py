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
# # 5주차. 여러 프로세스로 함께 학습하기: all-reduce, DDP, FSDP
#
# 큰 모델은 장치 하나로 학습하지 않습니다. 그런데 여럿이 나누어 계산해도 **결과는 하나가 한 것과 같아야** 합니다.
# 이 실습은 GPU가 없어도 됩니다. 이 컴퓨터 안에 프로세스를 둘 띄우고, 둘이 루프백(127.0.0.1)으로 기울기를 주고받으며 학습합니다.
# GPU 여덟 장으로 할 때와 코드가 같고, 통신하는 라이브러리만 gloo에서 NCCL로 바뀝니다.
#
# 1. 배치를 나누고 기울기를 합치면 왜 같은 결과가 나오는지 식으로 쓰고 숫자로 확인합니다.
# 2. 기울기를 합치는 **all-reduce**를 스무 줄로 직접 씁니다.
# 3. 한 프로세스, 손으로 쓴 all-reduce, DDP, FSDP2로 같은 모델을 학습해 손실이 같은지 봅니다.
# 4. 메모리와 통신량을 재고, ZeRO가 무엇을 나누는지 셈합니다.
# 5. 프로세스 하나를 죽여 봅니다.
#
# 터미널에서는 `make week5-distributed`입니다.

# %%
import inspect
import shutil

import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.distributed.costs import ZERO_STAGES, held_bytes, sent_bytes
from llm_workshop.distributed.plots import cost_plot, equality_plot, loss_differences, zero_plot
from llm_workshop.distributed.trial import (
    METHODS,
    check_settings,
    lab_config,
    lab_device,
    n_processes,
    run_trials,
    stage_of,
    start,
    used_settings,
)
from llm_workshop.pipeline import build_corpus, build_tokenizer, build_tokens
from llm_workshop.pipeline.pretrain import model_config, training_windows
from llm_workshop.progress import print_korean
from llm_workshop.report import Report
from llm_workshop.report.columns import print_table
from llm_workshop.report.plots import read_metrics, series
from llm_workshop.settings import settings_from_command_line
from scratch_llm.data import IGNORE
from scratch_llm.models import build_model
from scratch_llm.tokenizers import ByteLevelBPE
from scratch_llm.training import train
from scratch_llm.training.all_reduce import ring_all_reduce
from scratch_llm.training.launch import LaunchError

settings = settings_from_command_line(uses=("corpus", "tokenizer", "model", "pretrain.batch_size", "pretrain.learning_rate", "distributed"))
artifacts = Artifacts(settings)
report = Report(artifacts, "week05-distributed", "5주차: 여러 프로세스로 함께 학습하기")
check_settings(settings)
together = n_processes(settings)

# %% [markdown]
# ## 1. 배치를 나누면 무엇이 같아야 하나
#
# **데이터 병렬**(data parallelism)에서는 프로세스마다 모델을 온전히 갖고, 배치의 서로 다른 줄을 읽습니다.
# 프로세스 $r$이 자기 몫에서 구한 기울기를 $g_r$이라 하면 한 프로세스가 배치 전체로 구한 기울기는
#
# $$ g = \sum_r \frac{n_r}{n}\, g_r, \qquad n = \sum_r n_r $$
#
# 입니다. $n_r$은 줄의 수가 아니라 **정답이 있는 토큰의 수**입니다. 문서를 채우고 남은 자리는 정답에서 빠지므로 몫마다 다릅니다.
# 그냥 평균하면(1/2씩) 어떻게 되는지도 봅니다. 평균들의 평균은 평균이 아닙니다.

# %%
report.section("1. 배치를 나누면 무엇이 같아야 하나")
build_corpus(artifacts, force=False)
tokenizer = ByteLevelBPE.load(build_tokenizer(artifacts, force=False))
build_tokens(artifacts, force=False)
windows, valid_windows = training_windows(artifacts)
model = build_model(model_config(settings, tokenizer), seed=settings.seed)
inputs, targets = windows.batch(0)
targets[-(len(targets) // 2) :, 5:] = IGNORE  # 차이가 잘 보이도록 뒤쪽 줄의 정답을 많이 지웁니다.


def gradient(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    model(inputs, targets=targets).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


whole = gradient(inputs, targets)
parts = [gradient(*part) for part in zip(inputs.chunk(together), targets.chunk(together))]
counts = [int((part != IGNORE).sum()) for part in targets.chunk(together)]
weighted = sum(count / sum(counts) * part for count, part in zip(counts, parts))
plain = sum(parts) / together
errors = {name: float((g - whole).norm() / whole.norm()) for name, g in (("정답 수로 가중", weighted), ("그냥 평균", plain))}
print(f"몫마다 정답이 있는 토큰: {counts}")
rows = [{"합치는 법": name, "배치 전체의 기울기와의 상대 차이": f"{error:.1e}"} for name, error in errors.items()]
print_table(rows)
report.text(f"배치를 {together}몫으로 나누었습니다. 몫마다 정답이 있는 토큰은 {', '.join(map(str, counts))}개입니다.")
report.table(rows)

# %% [markdown]
# ## 2. all-reduce 스무 줄
#
# 모두가 자기 기울기를 갖고 있을 때, **모두가 합을 갖게** 하는 통신이 all-reduce입니다.
# 한 프로세스로 모아 더한 뒤 돌려주면 간단하지만, 그 프로세스의 통신선으로 $n-1$배의 기울기가 몰립니다.
#
# **고리 all-reduce**는 텐서를 $n$조각으로 자르고 모두가 오른쪽으로 한 조각씩 넘깁니다. $n-1$번 넘기며 더하면 저마다 한 조각의 합을 갖고
# (reduce-scatter), 다시 $n-1$번 돌리면 모두가 모든 합을 갖습니다(all-gather). 프로세스 하나가 보내는 양은 $\frac{2(n-1)}{n}$배로,
# 천 대가 모여도 두 배가 안 됩니다.
#
# 아래가 실습에서 실제로 돌아가는 코드 전부입니다. `isend`로 보내기를 걸어 두고 받는 까닭은, 모두가 보내기부터 기다리면
# 아무도 받지 않아 영원히 멈추기 때문입니다(교착).

# %%
report.section("2. all-reduce 스무 줄")
source = inspect.getsource(ring_all_reduce)
print(source)
report.text("기울기를 합치는 코드입니다. 보낸 바이트를 돌려줍니다.").output(source, "python")

# %% [markdown]
# ## 3. 네 가지로 학습하기
#
# 같은 가중치에서 출발해 같은 배치를 같은 차례로 읽습니다. 다른 것은 나누는 방법뿐입니다.
#
# | 방법 | 모델 | 기울기를 합치는 때 |
# |---|---|---|
# | 한 프로세스 | 온전히 | 합칠 것이 없음 |
# | 손으로 쓴 all-reduce | 온전히 | 역전파가 끝난 뒤, 텐서마다 한 번씩 |
# | DDP | 온전히 | 역전파하는 **도중에**, 여럿을 한 덩어리(bucket)로 묶어 |
# | FSDP2 | 나누어 가짐 | 블록마다 가중치를 모아 쓰고 버리며, 기울기는 합친 뒤 제 몫만 남김 |
#
# DDP는 뒤쪽 층의 기울기가 나오자마자 보내기 시작하므로 통신이 앞쪽 층의 계산에 가려집니다. 미니배치를 더 잘게 나누어 쌓을 때는(기울기 누적)
# 마지막 조각에서만 합칩니다(`no_sync`). 드롭아웃의 시드는 프로세스마다 다르게 하되 배치의 차례는 같게 하는 것도 잊지 말아야 합니다.
#
# float32로 학습합니다. 더하는 차례가 달라 마지막 자리는 다를 수 있지만 상대 차이는 100만분의 1을 넘지 않아야 합니다.
# 학습률은 본 학습의 30분의 1입니다. 손실이 튀어 오를 만큼 큰 걸음을 걸으면 마지막 자리의 차이가 백 배로 불어나서, 더하는 법이 틀린 것인지
# 학습이 불안정한 것인지 알 수 없게 됩니다.

# %%
report.section("3. 네 가지로 학습하기")
results = run_trials(artifacts)
metrics = {method: artifacts.path(stage_of(method)) / "metrics.jsonl" for method in METHODS}
TOLERANCE = 1e-6
differences = loss_differences(metrics)
print("\n한 프로세스의 손실과 가장 크게 다른 스텝의 상대 차이")
print_table([{"방법": METHODS[method][0], "상대 차이": f"{max(values):.1e}"} for method, values in differences.items()])
report.text(
    f"파라미터 {results['alone']['parameters']:,}개인 모델({settings.model.architecture})을 {settings.distributed.steps}스텝, 배치 "
    f"{settings.pretrain.batch_size}로 학습했습니다. 둘 이상일 때는 {together}개 프로세스입니다."
)
report.table(
    [
        {"방법": METHODS[method][0], "검증 손실": f"{result['valid_loss']:.6f}",
         "손실의 가장 큰 상대 차이": "–" if method == "alone" else f"{max(differences[method]):.1e}",
         "프로세스": METHODS[method][1] or together, "프로세스마다 스레드": result["threads"]}
        for method, result in results.items()
    ]
)  # fmt: skip
report.figure(equality_plot(metrics, TOLERANCE), "equality", "왼쪽: 네 방법의 손실. 오른쪽: 한 프로세스와의 상대 차이 (로그 눈금)")

# %% [markdown]
# ## 4. 메모리, 통신, 속도
#
# 파라미터 하나에 float32 가중치 4바이트, 기울기 4바이트, Adam의 두 모멘트 8바이트, 모두 16바이트가 듭니다.
# DDP는 프로세스마다 16바이트를 다 갖습니다. 장치를 늘려도 더 큰 모델이 들어가지는 않습니다.
#
# **ZeRO**(Rajbhandari 외, 2020)의 생각은 간단합니다. 똑같은 것을 모두가 갖고 있을 필요가 없습니다.
#
# - **1단계**: 옵티마이저 상태를 나눕니다. 기울기를 reduce-scatter해서 제 몫의 합만 받고, 제 몫의 가중치만 고친 뒤, 고친 가중치를 all-gather합니다.
#   all-reduce = reduce-scatter + all-gather이므로 **통신량은 DDP와 같습니다**. 공짜로 8바이트가 $8/n$바이트가 됩니다.
# - **2단계**: 기울기도 제 몫만 남깁니다. 통신량은 그대로입니다.
# - **3단계**: 가중치도 나눕니다. 쓸 때 모으고 버려야 하니 순전파와 역전파에서 한 번씩 all-gather가 늘어 통신량이 1.5배가 됩니다. FSDP가 이것입니다.
#   (CPU의 gloo는 reduce-scatter를 따로 만들지 않고 all-reduce로 대신하므로 2배가 됩니다. 아래에서 재어 보면 그렇게 나옵니다. NCCL은 1.5배입니다.)
#
# 한 컴퓨터 안에서 프로세스를 늘려도 빨라지지는 않습니다. 코어를 나누어 쓸 뿐이니까요. 속도는 장치가 늘어날 때, 통신이 계산보다 짧을 때 오릅니다.

# %%
report.section("4. 메모리, 통신, 속도")
count = results["alone"]["parameters"]
rows = []
for method, result in results.items():
    n = METHODS[method][1] or together
    held = sum(result[part] for part in ("weights_bytes", "gradients_bytes", "optimizer_bytes"))
    rows.append({
        "방법": METHODS[method][0],
        "프로세스 하나의 메모리 (MiB)": round(held / 2**20, 2),
        "식으로 (MiB)": round(held_bytes(count, n, 3 if method == "fsdp" else 0) / 2**20, 2),
        "스텝마다 오간 양 (MiB)": round(result["loopback_bytes"] / 2**20, 2),
        "교과서대로라면 (MiB)": round(sent_bytes(count, n, method) / 2**20, 2),
        "gloo라면 (MiB)": round(sent_bytes(count, n, method, gloo=True) / 2**20, 2),
        "토큰/초": round(result["tokens_per_second"]),
    })  # fmt: skip
SHORT = {
    "방법": "방법", "프로세스 하나의 메모리 (MiB)": "메모리", "식으로 (MiB)": "식으로", "스텝마다 오간 양 (MiB)": "오간 양",
    "교과서대로라면 (MiB)": "교과서", "gloo라면 (MiB)": "gloo라면", "토큰/초": "토큰/초",
}  # fmt: skip
print("메모리는 프로세스 하나가 가진 것, 오간 양은 한 스텝에 모두가 보낸 것 (MiB)")
print_table([{SHORT[name]: value for name, value in row.items()} for row in rows])
report.text(
    "메모리는 가중치, 기울기, 옵티마이저 상태의 바이트를 센 것이고, 오간 양은 루프백 장치의 계수기로 쟀습니다(TCP 머리말과 다른 프로그램의 것도 들어갑니다). "
    "FSDP2가 교과서의 1.5배가 아니라 2배를 보내는 것은 CPU의 통신 라이브러리 gloo 탓입니다. gloo는 reduce-scatter를 all-reduce로 하고 제 몫만 남깁니다."
)
report.table(rows)
report.figure(cost_plot(results), "cost", "프로세스 하나의 메모리, 한 스텝의 통신량, 속도")
seven_billion = 7_000_000_000
print("\n파라미터 70억 개, 장치 8개에서 하나가 가진 것 (활성값 빼고)")
print_table([{"단계": title, "GiB": round(held_bytes(seven_billion, 8, stage) / 2**30, 1)} for stage, title in ZERO_STAGES.items()])
report.figure(zero_plot(seven_billion, (1, 2, 4, 8, 16, 32, 64), "파라미터 70억 개를 학습할 때"), "zero", "ZeRO의 단계마다 장치 하나가 갖는 메모리 (float32, 활성값 빼고)")

# %% [markdown]
# ## 5. 하나가 죽으면
#
# 장치 천 개가 한 달을 돌면 고장은 사건이 아니라 일상입니다. 나쁜 끝은 **아무 말 없이 멈춰 있는 것**입니다.
# 나머지가 오지 않을 기울기를 기다리니까요. 그래서 세 가지를 봅니다. 몇 초 안에 모두 멈추는가, 까닭을 한 줄로 말하는가, 마지막 체크포인트가 남았는가.
#
# 학습 한가운데서 마지막 프로세스에 `kill -9`를 보냅니다. 그리고 남은 체크포인트를 **한 프로세스로** 이어 갑니다.
# 체크포인트에는 프로세스 수가 들어 있지 않습니다. 나누어 가졌던 것도 모아서 저장하므로 몇 개로든 이어 갈 수 있습니다.

# %%
report.section("5. 하나가 죽으면")
config = lab_config(settings)
folder = artifacts.work("distributed-killed", used_settings(settings), ("tokenizer", "tokens"))
shutil.rmtree(folder, ignore_errors=True)
dies_at = config.steps // 2 + 1
try:
    start("fsdp", folder, settings, together, die_at=dies_at)
    raise RuntimeError("죽었어야 할 프로세스가 살아 있습니다")
except LaunchError as error:
    message = str(error)
print(f"  {message}")
left = sorted(path.name for path in (folder / "checkpoints").iterdir())
print(f"  남은 체크포인트: {', '.join(left)}")
survivor = build_model(model_config(settings, tokenizer), seed=settings.seed).to(lab_device(settings))
train(survivor, windows, valid_windows, config, folder, log=print_korean)
_, resumed = series(read_metrics(folder / "metrics.jsonl"), "loss")
_, unbroken = series(read_metrics(metrics["alone"]), "loss")
gap = max(abs(a - b) / b for a, b in zip(resumed, unbroken, strict=True))
print(f"\n끊기지 않은 한 프로세스와 손실의 가장 큰 상대 차이: {gap:.1e}")
report.text(f"FSDP2로 학습하다가 스텝 {dies_at + 1}에서 프로세스 하나를 죽였습니다. 띄운 쪽이 알려 준 말입니다.").output(message)
report.text(
    f"남은 체크포인트 {left[-1]}에서 한 프로세스로 이어 가니, 끊기지 않은 학습과 손실의 상대 차이가 가장 큰 스텝에서도 {gap:.1e}입니다."
)
shutil.rmtree(folder)
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `make week5-distributed ARGS="distributed.processes=4"`: 넷이면 메모리와 통신량이 식대로 변하나요?
# - 아래 두 명령은 `make shell`로 연 창에서 칩니다(컨테이너를 쓰지 않는다면 `.venv/bin/workshop`, `.venv/bin/torchrun`이라고 쳐도 됩니다).
# - `workshop pretrain --scale smoke distributed.processes=2 distributed.strategy=fsdp`: 본 학습을 둘이서 합니다. `Ctrl-C`로 멈추고 `distributed.processes=1`로 이어 보세요.
# - `torchrun --nproc-per-node 2 -m llm_workshop.cli pretrain --scale smoke`: 같은 일을 PyTorch의 torchrun으로 합니다. 여러 컴퓨터에 걸칠 때는 이쪽입니다.
# - `ring_all_reduce`에서 `isend`를 `send`로 바꾸면 어떻게 될까요? 시간 제한이 없다면 언제까지 기다릴까요?
