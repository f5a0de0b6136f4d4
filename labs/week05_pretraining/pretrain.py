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
from llm_workshop.corpora.sample.korean import josa
from llm_workshop.pipeline import build_base_model, build_corpus, build_tokenizer, build_tokens
from llm_workshop.pipeline.pretrain import model_config, training_config, training_windows
from llm_workshop.pipeline.samples import BEGINNINGS, QUESTIONS, generate_samples, is_chat_corpus, sample_line
from llm_workshop.pretraining.plots import (
    NAMES,
    megabytes_text,
    optimizer_plot,
    range_plot,
    schedule_plot,
    spoilt_plot,
)
from llm_workshop.pretraining.trials import OPTIMIZERS, SPOILT_BATCHES, Trials
from llm_workshop.progress import print_korean
from llm_workshop.report import Report
from llm_workshop.report.plots import loss_plot
from llm_workshop.settings import settings_from_command_line
from scratch_llm.models import build_model
from scratch_llm.tokenizers import ByteLevelBPE

settings = settings_from_command_line(uses=("corpus", "tokenizer", "model", "pretrain", "trials", "generate"))
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
# 길이 T인 창 하나에는 "앞의 토큰 1개를 보고 다음 맞히기"부터 "앞의 T개를 보고 다음 맞히기"까지 문제가 T개 들어 있습니다.

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
# ## 4. 학습률은 얼마나: 범위 시험
#
# 본 학습에 몇 시간을 쓰기 전에 몇십 스텝만 써서 알아볼 수 있는 것이 있습니다. **범위 시험**(LR range test; Smith, 2017)은
# 학습률을 스텝마다 같은 비율로 키우며 손실을 봅니다. 너무 작으면 손실이 꿈쩍하지 않고, 알맞으면 뚝뚝 떨어지고, 지나치면 튀어 오릅니다.
# 손실이 가장 낮은 곳은 이미 지나친 곳이므로, 그 **10분의 1**을 출발점으로 삼습니다. 시험이 끝나면 가중치는 제자리로 돌아갑니다.
#
# 옵티마이저마다 알맞은 값이 다릅니다. AdamW와 Muon은 가중치가 움직이는 거리를, Adafactor는 가중치 **자신의 크기에 대한 비율**을
# 학습률로 받기 때문입니다. Adafactor는 학습률이 1/√스텝을 넘지 못하게 스스로 묶으므로 거기까지만 시험합니다. 곡선이 다시 오르기 전에
# 끝나면 지나친 곳을 보지 못한 것이므로 10분의 1 대신 3분의 1을 제안합니다.

# %%
report.section("4. 학습률은 얼마나: 범위 시험")
trials = Trials(artifacts, tokenizer, log=print_korean)
tests = {name: trials.range_test(name) for name in OPTIMIZERS}
for name, test in tests.items():
    print(f"{NAMES[name]:10} 가장 낮은 곳 {test.lowest:.1e}, 제안 {test.suggestion:.1e}")
chosen, test = settings.pretrain.learning_rate, tests[settings.pretrain.optimizer]
print(f"본 학습이 쓰는 값: {NAMES[settings.pretrain.optimizer]} {chosen:.1e} (제안의 {chosen / test.suggestion:.1f}배)")
if chosen < test.lowest:
    print("시험은 자릿수를 찾는 데 씁니다. 설정값이 손실이 가장 낮았던 곳보다 작으므로 그대로 둡니다. 제안 가까이에서 어느 값이 가장 나은지는 몇 번 학습해 보아야 압니다.")
else:
    print("시험은 자릿수를 찾는 데 씁니다. 설정값은 손실이 다시 오르던 곳에 있어 지나칠 수 있습니다. 제안하는 값에서 시작해 보세요.")
report.text("학습률을 키워 가며 본 손실입니다. 범례의 수와 점은 출발점으로 삼을 값입니다(가장 낮은 곳의 10분의 1, 끝까지 내려가기만 했으면 3분의 1).")
report.figure(range_plot(tests), "range", "학습률 범위 시험")

# %% [markdown]
# ## 5. 학습률은 어떤 모양으로: 일정 세 가지
#
# - **코사인**: 서서히 올렸다가 반쪽 코사인을 따라 내립니다. 가장 널리 쓰이지만 **끝나는 때를 미리 정해야** 합니다.
# - **WSD**(warmup-stable-decay): 올린 뒤 한참 그대로 두다가 마지막에 빠르게 내립니다. 내리기 전까지는 총 스텝 수와 상관이 없으니,
#   학습을 더 할지 나중에 정해도 됩니다. 내리는 동안 손실이 한 번 더 뚝 떨어집니다.
# - **원 사이클**: 앞의 3할 동안 크게 올렸다가 내립니다. 짧은 학습에서 큰 학습률을 견디게 합니다.
#
# 셋 다 스텝 번호만의 함수로 짰습니다(`scratch_llm/training/schedule.py`). 그래서 끊긴 학습을 이을 때 따로 저장할 것이 없습니다.

# %%
report.section("5. 학습률은 어떤 모양으로: 일정 세 가지")
report.text(f"최댓값 {settings.pretrain.learning_rate:.1e}, {settings.pretrain.steps:,}스텝짜리 학습에 쓸 수 있는 세 일정입니다.")
report.figure(schedule_plot(training_config(settings)), "schedules", "학습률 일정")
print(f"이 실습은 {josa(NAMES[settings.pretrain.schedule], '을/를')} 씁니다. 바꾸려면 ARGS=\"pretrain.schedule=wsd\"")

# %% [markdown]
# ## 6. 옵티마이저 비교
#
# - **AdamW**: 가중치마다 기울기의 평균과 제곱 평균을 간직합니다. 모델의 두 배만큼 메모리가 더 듭니다.
# - **Muon**: 기울기의 이동 평균을 방향마다 길이가 같은 행렬로 바꾸어(직교화) 움직입니다. 행렬 곱 몇 번(뉴턴-슐츠)으로 특잇값을
#   모두 1 가까이로 모읍니다. 임베딩과 벡터는 AdamW가 맡습니다.
# - **Adafactor**: 제곱 평균을 행마다의 평균과 열마다의 평균으로만 간직합니다. $n \times m$ 행렬에 수 $n + m$개면 됩니다.
#
# 같은 가중치에서 출발해, 저마다 범위 시험이 제안한 학습률로 몇십 스텝만 돌립니다.

# %%
report.section("6. 옵티마이저 비교")
compared = trials.compare_optimizers({name: test.suggestion for name, test in tests.items()})
report.table([
    {"옵티마이저": NAMES[row["optimizer"]], "학습률": f"{row['learning_rate']:.1e}", "검증 손실": f"{row['valid_loss']:.3f}",
     "초당 토큰": f"{row['tokens_per_second']:,.0f}", "상태 (MB)": megabytes_text(row["state_bytes"])}
    for row in compared
])
report.text(f"{trials.steps}스텝만 돌린 결과입니다. 짧은 학습에서 앞선 것이 긴 학습에서도 앞선다는 보장은 없습니다.")
report.figure(optimizer_plot(compared), "optimizers", "옵티마이저 비교")

# %% [markdown]
# ## 7. 상한 글을 만났을 때: 튀는 손실
#
# 긴 학습에서는 손실이 갑자기 튀거나 `nan`이 되는 일이 꼭 생깁니다. 잘못 풀린 파일, 끝없이 반복되는 글, 지나친 학습률이 흔한 범인입니다.
# 일부러 배치 몇 개의 정답 번호를 뒤집어(흔한 토큰이 드문 토큰이 되도록) 놓고 세 가지 방법으로 지나가 봅니다.
#
# - **그대로 배움**: 상한 글도 배웁니다. 뒤의 멀쩡한 글에서도 한동안 손실이 높습니다.
# - **건너뜀**(`on_bad_step=skip`): 손실이 최근 값의 중앙값에서 너무 멀면 그 배치를 버립니다. 가중치에는 아무 일도 없습니다.
# - **되돌아감**(`on_bad_step=roll_back`): 마지막 체크포인트로 돌아가 그 뒤의 배치를 모두 버립니다(PaLM의 방법). 가중치가 이미
#   나빠진 뒤에 손실이 튀었을 때를 위한 것입니다.
#
# 튄 것인지는 평균과 표준편차가 아니라 **중앙값과 중앙값 절대 편차**로 판단합니다. 튄 값 하나가 평균과 표준편차를 함께 끌어올려 다음에 튀는 값을 가리기 때문입니다.

# %%
report.section("7. 상한 글을 만났을 때: 튀는 손실")
passed = trials.spoilt_text()
report.table([
    {"방법": NAMES[row["way"]], "검증 손실": f"{row['valid_loss']:.3f}", "가장 높은 손실": f"{max(loss for _, loss in row['losses'][trials.steps // 2:]):.2f}",
     "버린 배치": sum(last - first + 1 for first, last in (entry["batches_left_out"] for entry in row["bad_steps"]))}
    for row in passed
])
skipped = next(row["bad_steps"] for row in passed if row["way"] == "skip")
print(f"{josa(NAMES['skip'], '이/가')} 버린 배치:" if skipped else f"{NAMES['skip']}: 튄 것으로 보인 배치가 없었습니다")
for entry in skipped:
    print(f"  스텝 {entry['step']}: 배치 {entry['batches_left_out'][0]}번")
report.text(f"배치 {SPOILT_BATCHES}개의 정답 번호를 뒤집었습니다. 어느 배치를 왜 버렸는지는 `metrics.jsonl`의 `bad_steps`에 남습니다.")
report.figure(spoilt_plot(passed, trials.spoilt), "spoilt", "상한 글을 지나는 세 가지 방법")

# %% [markdown]
# ## 8. 학습
#
# 한 걸음(step)은 늘 같은 네 동작입니다.
#
# 1. 창 한 묶음을 읽어 손실을 구하고 (순전파)
# 2. 손실을 가중치로 미분한 다음 (역전파)
# 3. 기울기가 너무 크면 잘라 내고
# 4. 옵티마이저로 가중치를 조금 옮깁니다. 보폭인 학습률은 5절에서 본 일정을 따릅니다.
#
# 출력 한 줄에는 손실, 학습률, 기울기 크기, 초당 토큰 수, MFU(이 기계가 낼 수 있는 계산 속도 가운데 실제로 쓴 비율),
# 남은 시간이 나옵니다. 도중에 `Ctrl-C`를 눌러도 됩니다. 같은 명령을 다시 치면 마지막 체크포인트부터 이어 가고,
# 이어 간 결과는 끊기지 않은 결과와 **비트까지 같습니다**.

# %%
report.section("8. 학습")
folder = build_base_model(artifacts, log=print_korean)
facts = artifacts.read_manifest("base-model")["metrics"]

# %% [markdown]
# ## 9. 학습 곡선 읽기
#
# - 학습 손실과 검증 손실이 함께 내려가면 일반화하는 중입니다.
# - 학습 손실만 내려가고 검증 손실이 다시 오르면 외우기 시작한 것입니다(과적합).
# - **비트/바이트**(bits per byte)는 손실을 "원문 1바이트를 적는 데 드는 비트 수"로 바꾼 값입니다.
#   토크나이저가 달라지면 토큰당 손실은 서로 비교할 수 없지만 비트/바이트는 비교할 수 있습니다.

# %%
report.section("9. 학습 곡선 읽기")
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
    {"항목": "나쁜 스텝", "값": f"{facts['bad_steps']}번"},
    *([{"항목": "평균 가중치의 검증 손실", "값": f"{facts['ema_valid_loss']:.4f}"}] if "ema_valid_loss" in facts else []),
])
report.figure(figure, "loss", "손실, 비트/바이트, 학습률, 초당 토큰")

# %% [markdown]
# ## 10. 무엇을 배웠나
#
# 모델이 내는 것은 글이 아니라 확률입니다. 거기서 토큰을 어떻게 뽑느냐에 따라 같은 모델도 다른 글을 씁니다.
# **온도**(temperature)가 0이면 늘 가장 그럴듯한 토큰을 고르고, 높을수록 덜 그럴듯한 토큰에도 기회를 줍니다.
# 문법은 맞는데 내용이 엉뚱한 문장이 보이나요? 작은 모델은 말의 꼴을 먼저 배우고 사실은 나중에, 조금만 배웁니다.

# %%
report.section("10. 무엇을 배웠나")
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
# - `make week5-pretrain ARGS="pretrain.schedule=wsd"`: 마지막 2할에서 손실이 어떻게 꺾이나요?
# - `make week5-pretrain ARGS="pretrain.optimizer=muon"`: 같은 토큰으로 어디까지 가나요? 한 스텝은 얼마나 더 걸리나요?
# - `make week5-pretrain ARGS="pretrain.ema_decay=0.99"`: 평균 가중치의 검증 손실이 언제 더 낮은가요? 학습률이 높을 때인가요, 낮을 때인가요?
# - `make week5-pretrain ARGS="model.d_model=128 model.n_layers=3"`: 절반 너비에서 비트/바이트는 얼마나 나빠지나요?
# - `make week5-pretrain DATA=nsmc`: 영화평만 읽은 모델은 어떤 말투를 쓰나요?
