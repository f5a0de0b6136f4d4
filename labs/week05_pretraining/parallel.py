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
# # 5주차. 행렬을 잘라 나눠 갖기: 텐서 병렬
#
# 데이터 병렬은 모델을 통째로 복제하고 문장을 나눠 갖습니다. 그런데 **모델 하나가 GPU 한 장에 들어가지 않으면** 어떻게 할까요? 모델을 잘라야
# 합니다. 층 사이를 자르면 파이프라인 병렬, 층 안의 행렬을 자르면 **텐서 병렬**입니다. Megatron-LM(Shoeybi 외, 2019)이 쓴 방법이 이것이고,
# 놀랍게도 자르는 법은 두 가지면 됩니다. 코드는 `src/scratch_llm/parallel/tensor_parallel.py`에 있습니다.

# %%
import math

import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.automodel.launch import random_checkpoint, tensor_parallel
from llm_workshop.automodel.plots import cuts_plot, traffic_plot
from llm_workshop.automodel.runner import find_automodel, how_to_install
from llm_workshop.report import Report
from llm_workshop.settings import settings_from_command_line

settings = settings_from_command_line(uses=("model", "tokenizer.vocab_size", "automodel.processes"))
artifacts = Artifacts(settings)
report = Report(artifacts, "week05-parallel", "5주차: 행렬을 잘라 나눠 갖기")
PROCESSES = settings.automodel.processes

# %% [markdown]
# ## 1. 자르는 두 가지 방법
#
# 선형 층은 y = W x입니다(PyTorch의 `nn.Linear`는 W를 (출력, 입력) 모양으로 둡니다).
#
# - **출력을 나눈다.** W의 행을 나눠 가지면 저마다 y의 한 토막을 **온전하게** 얻습니다. 주고받을 것이 없습니다. 논문은 x W로 적으므로 이것을
#   column parallel이라고 부릅니다.
# - **입력을 나눈다.** W의 열을 나눠 가지면 저마다 y 전체의 **일부 값**을 얻습니다. 모두 더해야 온전한 y가 됩니다. row parallel입니다.
#
# 숫자 몇 개로 보겠습니다.

# %%
report.section("1. 자르는 두 가지 방법")
W = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
x = torch.tensor([10.0, 1.0])
print(f"  통째로: W x = {(W @ x).tolist()}")
print(f"  출력을 나누면: 첫째가 {(W[:1] @ x).tolist()}, 둘째가 {(W[1:] @ x).tolist()}. 이어 붙이면 됩니다")
print(f"  입력을 나누면: 첫째가 {(W[:, :1] @ x[:1]).tolist()}, 둘째가 {(W[:, 1:] @ x[1:]).tolist()}. 더해야 됩니다")
report.text("출력을 나누면 저마다 결과의 한 토막을, 입력을 나누면 저마다 결과 전체의 일부 값을 얻습니다.")
report.figure(cuts_plot(max(2, PROCESSES)), "cuts", "피드포워드의 두 행렬을 자르는 법")

# %% [markdown]
# ## 2. 둘을 이으면 가운데서 만나지 않아도 된다
#
# 피드포워드는 W₂ f(W₁ x)입니다. W₁은 **출력을 나누고** W₂는 **입력을 나눕니다**. 그러면 가운데의 토막 h가 그대로 다음 행렬의 입력 토막이 됩니다.
# 활성화 함수 f는 값 하나하나에 걸리므로 토막끼리 만날 까닭이 없습니다. 더하기는 끝에 **한 번**입니다.
#
# 어텐션도 같습니다. 머리는 서로 섞이지 않으니 q, k, v를 **머리째로** 나누고 출력 행렬은 입력을 나눕니다.
#
# 역전파에서는 거꾸로입니다. 입력 x는 모두가 함께 썼으므로 x의 기울기는 모두의 몫을 더해야 하고, 끝의 더하기는 기울기를 모두에게 그대로
# 돌려줍니다. 그래서 블록마다 앞으로 두 번, 뒤로 두 번 더합니다. 코드로는 `_SumForward`와 `_SumBackward` 두 함수가 전부입니다.

# %%
report.section("2. 둘을 이으면 가운데서 만나지 않아도 된다")
model = settings.model
print(f"  쿼리 머리 {model.n_heads}개, 키/밸류 머리 {model.n_kv_heads}개, 안쪽 너비({model.d_ff})를 프로세스 {PROCESSES}개가 나눕니다")
print(f"  프로세스 하나: 쿼리 머리 {model.n_heads / PROCESSES:g}개, 키/밸류 머리 {model.n_kv_heads / PROCESSES:g}개, 안쪽 너비 {model.d_ff / PROCESSES:g}")
print(f"  블록 {model.n_layers}개이므로 앞으로 {2 * model.n_layers}번, 뒤로 {2 * model.n_layers}번 더해야 합니다. 3절에서 세어 봅니다")

# %% [markdown]
# ## 3. 진짜 프로세스로
#
# 프로세스를 여러 개 시작해 무작위 모델 하나를 **통째로** 계산하고, **잘라서** 또 계산합니다. 손실이 같고, 저마다 가진 조각의 기울기가 통째
# 기울기의 그 조각과 같아야 합니다. NeMo 환경이 있으면 **Megatron core의 층**에도 같은 가중치를 넣어 봅니다.

# %%
report.section("3. 진짜 프로세스로")
megatron_python = find_automodel()
ids = torch.randint(settings.tokenizer.vocab_size, (2, 33), generator=torch.Generator().manual_seed(settings.seed)).tolist()
rows, found = [], {}
for architecture in ("llama", "gpt2"):
    folder = artifacts.root / ".work" / f"parallel-{architecture}"
    checkpoint = random_checkpoint(settings, architecture, folder / "checkpoint")
    with_megatron = megatron_python if architecture == "llama" else None
    print(f"  {architecture}: 프로세스 {PROCESSES}개를 시작합니다", flush=True)
    fact = found[architecture] = tensor_parallel(checkpoint, ids, folder, PROCESSES, with_megatron)
    fits = fact["loss_difference"] < 1e-5 and fact["gradient_difference"] < 1e-5 * max(1.0, fact["largest_gradient"])
    rows.append({"모델": architecture, "프로세스": fact["processes"], "파라미터": f"{fact['parameters']:,}", "하나가 가진 것": f"{fact['parameters_of_a_process']:,}",
                 "손실의 차이": f"{fact['loss_difference']:.1e}", "기울기의 차이": f"{fact['gradient_difference']:.1e}",
                 "더한 횟수 (앞/뒤)": f"{fact['sums_forward']}/{fact['sums_backward']}", "같은가": fits})  # fmt: skip
    print(f"    손실 {fact['loss']:.4f}, 차이 {fact['loss_difference']:.1e}, 기울기의 차이 {fact['gradient_difference']:.1e}, "
          f"더하기 앞으로 {fact['sums_forward']}번, 뒤로 {fact['sums_backward']}번 {'같음' if fits else '다름!'}")  # fmt: skip
report.table(rows, caption="통째로 계산한 것과 잘라서 계산한 것. 임베딩과 정규화는 자르지 않았으므로 가진 것이 정확히 나눠지지는 않습니다")

# %% [markdown]
# ## 4. Megatron core의 층과 같은가
#
# Megatron core의 `ColumnParallelLinear`와 `RowParallelLinear`는 우리가 60줄로 쓴 것과 같은 일을, GPU 수천 장에서 하도록 다듬은 것입니다. 통신을
# 계산과 겹치고, 기울기를 바로 누적하고, 시퀀스 병렬과 이어집니다. 수는 같아야 합니다.

# %%
report.section("4. Megatron core의 층과 같은가")
megatron = found["llama"].get("megatron")
if megatron is None:
    print("  " + how_to_install("nemo"))
    report.text(f"Megatron core와 견주지 못했습니다. {how_to_install('nemo')}")
else:
    WORDS = {"output_ours": "출력: 우리 조각과 통째", "output_megatron": "출력: Megatron과 통째", "input_gradient_ours": "입력의 기울기: 우리 조각과 통째",
             "input_gradient_megatron": "입력의 기울기: Megatron과 통째", "weight_gradient_ours_to_megatron": "W₂의 기울기: 우리와 Megatron",
             "gate_gradient_ours_to_megatron": "W₁의 기울기: 우리와 Megatron"}  # fmt: skip
    for key, words in WORDS.items():
        print(f"  {words} {megatron[key]:.1e} {'같음' if megatron[key] < 1e-4 else '다름!'}")
    report.table([{"견준 것": words, "가장 큰 차이": f"{megatron[key]:.1e}", "같은가": megatron[key] < 1e-4} for key, words in WORDS.items()])

# %% [markdown]
# ## 5. 무엇을 주고받나
#
# 텐서 병렬이 더하는 것은 **활성값**입니다. 토큰마다 너비 D짜리 벡터를 블록마다 네 번 더합니다. 데이터 병렬이 더하는 것은 **기울기**, 곧 파라미터
# 수만큼을 스텝에 한 번입니다. 앞의 것은 토큰 수에, 뒤의 것은 파라미터 수에 비례합니다. 게다가 텐서 병렬의 더하기는 계산 한가운데에 있어서
# 기다리는 동안 할 일이 없습니다. 그래서 텐서 병렬은 NVLink로 이어진 **한 대 안의 GPU 여덟 장**까지, 데이터 병렬은 그 바깥으로 쓰는 것이 보통입니다.

# %%
report.section("5. 무엇을 주고받나")
fact = found["llama"]
tokens = settings.pretrain.batch_size * model.context_length
measured = fact["bytes"]
counted = 4 * model.n_layers * fact["tokens"] * model.d_model * 4
print(f"  3절에서 잰 것 {measured:,}바이트, 식으로 센 것 4 x 블록 {model.n_layers} x 토큰 {fact['tokens']} x 너비 {model.d_model} x 4바이트 = {counted:,}바이트 {'같음' if measured == counted else '다름!'}")
traffic = {"텐서 병렬": 4 * model.n_layers * tokens * model.d_model * 4 / 1e6, "데이터 병렬": fact["parameters"] * 4 / 1e6}
print(f"  한 스텝(토큰 {tokens:,}개)에: 텐서 병렬 {traffic['텐서 병렬']:,.1f} MB, 데이터 병렬 {traffic['데이터 병렬']:,.1f} MB")
even = math.ceil(fact["parameters"] / (4 * model.n_layers * model.d_model))
print(f"  둘이 같아지는 것은 스텝에 토큰 {even:,}개일 때입니다")
report.text(f"한 스텝에 토큰 {tokens:,}개를 읽는 이 실습의 학습이라면. 스텝에 토큰이 {even:,}개보다 많으면 텐서 병렬이 더 많이 주고받습니다.")
report.figure(traffic_plot(traffic), "traffic", "한 스텝에 프로세스들이 더해야 하는 수")
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `_SumBackward`를 지우면 무엇이 틀어질까요? 손실인가요, 기울기인가요? 어느 파라미터의 기울기인가요?
# - `make week5-parallel ARGS="automodel.processes=3"`: 무엇이라고 하나요? 왜 안 되나요?
# - 임베딩과 출력 행렬은 어휘를 따라 자를 수 있습니다(vocab parallel). 그때 교차 엔트로피는 무엇을 주고받아야 할까요?
