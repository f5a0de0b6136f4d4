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
# # 5주차. 처음부터 사전 학습하기
#
# 아무것도 모르는 모델, 곧 무작위 숫자로 채운 행렬 몇 개에서 출발해 한국어 문장을 쓰는 모델까지 가 봅니다.
# 사전 학습이 하는 일은 단 하나, **다음 토큰 맞히기**입니다. 이 단순한 문제를 수백만 번 풀다 보면
# 조사와 어미, 띄어쓰기, 말의 순서, 세상에 대한 약간의 지식까지 따라옵니다.
#
# 셀을 하나씩 실행하며 읽어도 되고, 터미널에서 `make week5-pretrain`으로 한 번에 돌려도 됩니다.

# %%
import math

import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.pipeline import build_base_model, build_corpus, build_tokenizer, build_tokens
from llm_workshop.pipeline.pretrain import model_config, training_windows
from llm_workshop.pipeline.samples import BEGINNINGS, QUESTIONS, generate_samples, is_chat_corpus, sample_line
from llm_workshop.progress import print_korean
from llm_workshop.report import Report
from llm_workshop.report.plots import loss_plot
from llm_workshop.settings import settings_from_command_line
from scratch_llm.models import build_model
from scratch_llm.tokenizers import ByteLevelBPE

settings = settings_from_command_line(uses=("corpus", "tokenizer", "model", "pretrain", "generate"))
artifacts = Artifacts(settings)
report = Report(artifacts, "week05-pretrain", "5주차: 처음부터 사전 학습하기")

# %% [markdown]
# ## 1. 재료: 토큰 파일
#
# 2주차의 말뭉치와 3주차의 토크나이저가 있으면 그대로 쓰고, 없으면 지금 만듭니다.
# 글 전체를 토큰 번호로 바꾸어 파일 하나에 이어 붙이고, 글과 글 사이에는 `<|endoftext|>`를 넣습니다.
# 이 파일은 메모리에 올리지 않고 **메모리 맵**으로 엽니다. 10 GB짜리 말뭉치도 여는 데 시간이 걸리지 않습니다.

# %%
report.section("1. 재료: 토큰 파일")
build_corpus(artifacts, force=False)  # FORCE=1은 이 실습의 산출물인 모델만 다시 만듭니다.
tokenizer = ByteLevelBPE.load(build_tokenizer(artifacts, force=False))
build_tokens(artifacts, force=False)
train_windows, valid_windows = training_windows(artifacts)
n_train, n_valid = len(train_windows.token_file), len(valid_windows.token_file)
print(f"학습 토큰 {n_train:,}개, 검증 토큰 {n_valid:,}개, 어휘 {tokenizer.vocab_size:,}개")

# %% [markdown]
# ## 2. 문제와 정답: 한 칸 밀기
#
# 정답표를 따로 만들 필요가 없습니다. 입력을 **한 칸 왼쪽으로 민 것**이 정답이니까요.
# 길이 T인 창 하나에는 "앞의 1개를 보고 다음 맞히기"부터 "앞의 T개를 보고 다음 맞히기"까지 문제가 T개 들어 있습니다.

# %%
report.section("2. 문제와 정답: 한 칸 밀기")
inputs, targets = train_windows.batch(0)
print("배치 모양 (문장 수, 길이):", tuple(inputs.shape))
for position in range(6):
    seen, answer = inputs[0, : position + 1].tolist(), int(targets[0, position])
    print(f"  {tokenizer.decode(seen)!r:40} → {tokenizer.decode([answer])!r}")

# %% [markdown]
# ## 3. 모델: 설정에서 무작위 가중치로
#
# 학습 전의 모델은 어느 토큰이나 비슷한 확률로 봅니다. 그러니 첫 손실은 어휘 크기 V의 **ln V** 근처여야 합니다.
# 이 값이 크게 다르면 초기화나 손실 계산에 잘못이 있다는 뜻입니다. 학습을 시작하기 전에 꼭 확인하는 습관을 들이세요.

# %%
report.section("3. 모델: 설정에서 무작위 가중치로")
torch.manual_seed(settings.seed)
untrained = build_model(model_config(settings, tokenizer))
with torch.no_grad():
    first_loss = untrained(inputs[:4], targets=targets[:4]).item()
flops = untrained.flops_per_token(settings.model.context_length, training=True)
seen_tokens = settings.pretrain.steps * settings.pretrain.batch_size * settings.model.context_length
print(f"파라미터 {untrained.n_parameters():,}개")
print(f"첫 손실 {first_loss:.3f}, ln({tokenizer.vocab_size}) = {math.log(tokenizer.vocab_size):.3f}")
print(f"토큰 하나를 배우는 데 {flops / 1e6:,.1f} MFLOP, 전체 {flops * seen_tokens / 1e12:,.0f} TFLOP")
print("학습 전의 글 (아무 토큰이나 나오므로 깨지거나 비어 있기 쉽습니다):")
print(" ", sample_line(untrained, tokenizer, is_chat_corpus(artifacts)))

# %% [markdown]
# ## 4. 학습
#
# 한 걸음(step)은 늘 같은 네 동작입니다.
#
# 1. 창 한 묶음을 읽어 손실을 구하고 (앞으로)
# 2. 손실을 가중치로 미분한 다음 (뒤로)
# 3. 기울기가 너무 크면 잘라 내고
# 4. AdamW로 가중치를 조금 옮깁니다. 보폭인 학습률은 처음에 서서히 올렸다가 코사인 곡선을 따라 내립니다.
#
# 출력 한 줄에는 손실, 학습률, 기울기 크기, 초당 토큰 수, MFU(이 기계가 낼 수 있는 계산 속도 가운데 실제로 쓴 비율),
# 남은 시간이 나옵니다. 도중에 `Ctrl-C`를 눌러도 됩니다. 같은 명령을 다시 치면 마지막 체크포인트부터 이어 가고,
# 이어 간 결과는 끊기지 않은 결과와 **비트까지 같습니다**.

# %%
report.section("4. 학습")
folder = build_base_model(artifacts, log=print_korean)
facts = artifacts.read_manifest("base-model")["metrics"]

# %% [markdown]
# ## 5. 학습 곡선 읽기
#
# - 학습 손실과 검증 손실이 함께 내려가면 일반화하는 중입니다.
# - 학습 손실만 내려가고 검증 손실이 다시 오르면 외우기 시작한 것입니다(과적합).
# - **비트/바이트**(bits per byte)는 손실을 "원문 1바이트를 적는 데 드는 비트 수"로 바꾼 값입니다.
#   토크나이저가 달라지면 토큰당 손실은 서로 비교할 수 없지만 비트/바이트는 비교할 수 있습니다.

# %%
report.section("5. 학습 곡선 읽기")
figure = loss_plot(folder / "metrics.jsonl", title=f"SCALE={settings.scale} DATA={','.join(settings.data)}")
report.text("무작위 가중치에서 출발해 다음 토큰 맞히기만으로 배운 과정입니다.")
report.table([
    {"항목": "구조", "값": facts["architecture"]},
    {"항목": "파라미터", "값": f"{facts['parameters']:,}"},
    {"항목": "학습한 토큰", "값": f"{seen_tokens:,}"},
    {"항목": "첫 손실 / ln V", "값": f"{first_loss:.3f} / {math.log(tokenizer.vocab_size):.3f}"},
    {"항목": "검증 손실", "값": f"{facts['valid_loss']:.4f}"},
    {"항목": "비트/바이트", "값": f"{facts['bits_per_byte']:.4f}"},
    {"항목": "초당 토큰", "값": f"{facts['tokens_per_second']:,.0f}"},
    {"항목": "MFU", "값": f"{facts['mfu']:.1%}"},
    {"항목": "학습 시간", "값": f"{facts['training_seconds']:.0f}초"},
])
report.figure(figure, "loss", "손실, 비트/바이트, 학습률, 초당 토큰")

# %% [markdown]
# ## 6. 무엇을 배웠나
#
# 모델이 내는 것은 글이 아니라 확률입니다. 거기서 토큰을 어떻게 뽑느냐에 따라 같은 모델도 다른 글을 씁니다.
# **온도**(temperature)가 0이면 늘 가장 그럴듯한 토큰을 고르고, 높을수록 덜 그럴듯한 토큰에도 기회를 줍니다.
# 문법은 맞는데 내용이 엉뚱한 문장이 보이나요? 작은 모델은 말의 꼴을 먼저 배우고 사실은 나중에, 조금만 배웁니다.

# %%
report.section("6. 무엇을 배웠나")
report.heading("같은 모델, 다른 온도")
prompt = QUESTIONS[1] if is_chat_corpus(artifacts) else BEGINNINGS[1]
print(f"\n> {prompt}")
for temperature in (0.0, 0.7, 1.2):
    [(_, text)] = generate_samples(artifacts, [prompt], temperature=temperature)
    print(f"  온도 {temperature}: {' '.join(text.split())}")
    report.text(f"온도 {temperature}").output(text)

report.heading("생성 예")
for prompt, text in generate_samples(artifacts):
    report.text(f"**{prompt}**").output(text)
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `make week5-pretrain ARGS="pretrain.learning_rate=1e-2"`: 학습률을 크게 하면 곡선이 어떻게 되나요?
# - `make week5-pretrain ARGS="model.d_model=128 model.n_layers=3"`: 절반 너비에서 비트/바이트는 얼마나 나빠지나요?
# - `make week5-pretrain DATA=nsmc`: 영화평만 읽은 모델은 어떤 말투를 쓰나요?
