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
# # 5주차. 스케일링 법칙과 하이퍼파라미터 탐색
#
# 큰 모델을 한 번 학습하는 데는 며칠과 많은 돈이 듭니다. 시작하기 전에 두 가지를 알고 싶습니다.
#
# 1. 학습률, 배치, 가중치 감쇠를 **무엇으로** 둘까?
# 2. 모델을 키우면 손실이 **얼마나** 줄까? 그만한 값을 할까?
#
# 답은 **작은 모델 여럿**에서 얻습니다. 작은 학습을 여러 번 돌려 규칙을 찾고, 더 큰 모델의 손실을 미리 말한 다음,
# 정말로 학습해서 맞았는지 확인합니다. 학습 하나가 끝날 때마다 표에 한 줄이 적히므로 도중에 꺼도 잃는 것이 없습니다.

# %%
import dataclasses

from llm_workshop.artifacts import Artifacts
from llm_workshop.pipeline import build_corpus, build_tokenizer, build_tokens
from llm_workshop.report import Report
from llm_workshop.report.columns import print_table
from llm_workshop.scaling.law import fit_valley, fit_with_band, power_of
from llm_workshop.scaling.plots import halving_plot, isoflop_plot, law_plot, rates_plot
from llm_workshop.scaling.search import draw, rung_sizes, successive_halving
from llm_workshop.scaling.sweep import at_width, base_trial, isoflop_trials, larger_trial, width_trials
from llm_workshop.scaling.trials import Trials, loss_of
from llm_workshop.settings import settings_from_command_line

settings = settings_from_command_line(uses=("corpus", "tokenizer", "scaling", "search", "pretrain.packing", "pretrain.eval_batches"))
artifacts = Artifacts(settings)
scaling, search = settings.scaling, settings.search
sweep = width_trials(settings)
sizes = rung_sizes(search.configurations, search.eta, search.rungs, search.tokens)
report = Report(artifacts, "week05-scaling", "5주차: 스케일링 법칙과 하이퍼파라미터 탐색")

# %% [markdown]
# ## 1. 재료와 계획
#
# 모든 학습이 같은 토큰 파일과 같은 검증 글을 씁니다. 배치나 시드가 달라도 **채점하는 글은 같아야** 견줄 수 있습니다.
# 탐색이 쓰는 토큰과 스윕이 쓰는 계산량을 먼저 적어 봅니다. 실험은 예산부터 세우고 시작합니다.

# %%
report.section("1. 재료와 계획")
build_corpus(artifacts, force=False)
build_tokenizer(artifacts, force=False)
build_tokens(artifacts, force=False)
searched = sum(n * tokens for n, tokens in sizes)
print(f"탐색: 너비 {search.width}, " + " → ".join(f"{n}개 × {tokens:,}토큰" for n, tokens in sizes) + f" = {searched:,}토큰")
print(f"스윕: 너비 {', '.join(str(trial.width) for trial in sweep)}에 {scaling.tokens:,}토큰씩, 그다음 너비 {scaling.larger_width}의 손실을 예측")

# %% [markdown]
# ## 2. 무작위 탐색과 연속 반감
#
# 다섯 가지를 함께 찾습니다: 학습률, 배치 크기, 가중치 감쇠, 워밍업 비율, AdamW의 β₂.
#
# **격자 탐색**은 값마다 서너 개씩만 정해도 조합이 수백 개입니다. **무작위 탐색**(Bergstra & Bengio, 2012)은 같은 횟수로 축마다 더 많은
# 값을 봅니다. 중요한 축이 한두 개뿐일 때 이 차이가 큽니다. 학습률처럼 크기의 자릿수가 문제인 값은 **로그 눈금에서** 고르게 뽑습니다.
#
# **연속 반감**(successive halving; Jamieson & Talwalkar, 2016)은 여러 설정을 조금씩만 학습해 보고, η개 가운데 하나만 남겨 토큰을 η배
# 줍니다. 이것을 되풀이합니다. 처음에 나빴던 것이 나중에 이기는 일은 드물다는 데 거는 방법입니다. 그 믿음이 깨지는 대표가 학습률입니다.
# 짧게 학습할 때는 큰 학습률이 유리해 보이기 쉽습니다.
#
# 토큰이 바뀔 때마다 **처음부터 다시** 학습합니다. 코사인 일정은 끝나는 스텝을 알고 내려오므로, 짧은 학습을 늘려 이어 가면 다른 일정이 됩니다.

# %%
report.section("2. 무작위 탐색과 연속 반감")
narrow = at_width(dataclasses.replace(base_trial(settings), tokens=search.tokens), search.width)
candidates = draw(narrow, search.configurations, search.batch_sizes, settings.seed)
searched_lines = {}


def losses(trials_of_a_rung):
    lines = trials.run_all(trials_of_a_rung)
    searched_lines.update({line["key"]: line for line in lines})
    return [loss_of(line) for line in lines]


with Trials(artifacts) as trials:
    print("연속 반감")
    rungs = successive_halving(candidates, search.eta, search.rungs, search.tokens, losses)
    n_random = max(1, round(searched / search.tokens))
    print(f"\n무작위 탐색: 같은 토큰으로 끝까지 {n_random}개")
    at_random = candidates[:n_random]
    random_losses = losses(at_random)

winner, winner_loss = rungs[-1].ranked[0]
best_random = min(range(len(at_random)), key=lambda place: random_losses[place])
rows = [
    {"방법": name, "검증 손실": round(loss, 4), "학습률": trial.learning_rate, "배치": trial.batch_size,
     "가중치 감쇠": trial.weight_decay, "워밍업": trial.warmup, "β₂": trial.beta2}
    for name, trial, loss in (("연속 반감", winner, winner_loss), ("무작위 탐색", at_random[best_random], random_losses[best_random]))
]  # fmt: skip
print_table(rows)
report.text(
    f"너비 {search.width}의 모델에서 두 방법이 각각 약 {searched:,}토큰을 썼습니다. 연속 반감은 설정 {search.configurations}개를, "
    f"무작위 탐색은 {n_random}개를 보았습니다."
)
report.table(rows, caption="찾은 설정")
report.figure(halving_plot(rungs, [(trial.tokens, loss) for trial, loss in zip(at_random, random_losses)]), "search", "연속 반감과 무작위 탐색")
report.figure(rates_plot(list(searched_lines.values())), "rates", "학습률에 따른 손실")

# %% [markdown]
# 한 번의 탐색으로 "어느 방법이 낫다"고 말할 수는 없습니다. 뽑은 설정이 운 좋게 좋았을 수 있으니까요. `SEED`를 바꾸어 다시 해 보세요.
# 보고서의 "학습률에 따른 손실" 그림도 보세요. 다른 값은 흩어져 있어도 학습률만은 좋은 구간이 보일 때가 많습니다.
#
# ## 3. 너비를 바꾸어 학습하기
#
# 이제 너비만 바꿉니다. 토큰, 층수, 배치, 문맥은 그대로입니다. 단 하나, **학습률**은 같게 두면 안 됩니다. 너비가 커지면 출력 하나가 더 많은
# 항의 합이 되고, 한 걸음에 그 항들이 함께 움직입니다. 그래서 넓은 모델은 보폭이 작아야 합니다. 여기서는 너비에 반비례하게 줄입니다.
# μP(Yang 외, 2022)는 행렬마다 따로 규칙을 두어 좁은 모델에서 찾은 학습률을 넓은 모델에 그대로 옮깁니다. 안쪽 행렬의 규칙이 바로 이 반비례입니다.

# %%
report.section("3. 너비를 바꾸어 학습하기")
with Trials(artifacts) as trials:
    lines = trials.run_all(sweep)
lines = [line for line in lines if line["valid_loss"] is not None]
sweep_rows = [
    {"너비": line["width"], "시드": line["seed"], "파라미터": line["parameters"], "학습률": line["learning_rate"],
     "TFLOP": round(line["flops_per_token"] * line["steps"] * line["batch_size"] * line["context_length"] / 1e12, 2),
     "검증 손실": round(line["valid_loss"], 4), "비트/바이트": round(line["bits_per_byte"], 4)}
    for line in lines
]  # fmt: skip
for row in sweep_rows:
    print(f"  너비 {row['너비']:4}  파라미터 {row['파라미터']:>10,}  {row['TFLOP']:6.2f} TFLOP  손실 {row['검증 손실']:.4f}")
report.table(sweep_rows, caption=f"토큰 {scaling.tokens:,}개씩")

# %% [markdown]
# ## 4. 법칙을 맞추고, 예측하고, 확인하기
#
# $$ L(N) = E + \frac{A}{N^{\alpha}} $$
#
# - $E$는 크기를 아무리 키워도 남는 손실입니다. 글 자체의 불확실함에, 토큰이 유한해서 못 배운 것까지 더한 값입니다.
# - $\alpha$는 얼마나 빨리 줄어드는지입니다. 0.3이면 파라미터를 10배로 키울 때 줄일 수 있는 손실이 절반이 됩니다.
#
# $\alpha$를 하나 정하면 남은 $E$와 $A$는 직선 맞추기와 같아 한 번에 구해집니다. 그래서 $\alpha$만 찾으면 됩니다.
# 점이 몇 개뿐이니 얼마나 믿을 수 있는지도 함께 말해야 합니다. 잔차를 다시 뽑아 수백 번 맞추어 보고(**부트스트랩**) 그 퍼짐을 띠로 그립니다.
#
# 예측을 **먼저** 적고 그다음에 학습합니다. 순서를 바꾸면 예측이 아닙니다.

# %%
report.section("4. 법칙을 맞추고, 예측하고, 확인하기")
fitted = fit_with_band([line["parameters"] for line in lines], [line["valid_loss"] for line in lines], scaling.bootstrap, settings.seed)
low_exponent, high_exponent = fitted.exponents
print(f"L(N) = {fitted.law.floor:.3f} + {fitted.law.scale:.3f} (N / {fitted.law.unit:,.0f})^-{fitted.law.exponent:.3f}")
print(f"지수의 90 % 구간 {low_exponent:.3f} – {high_exponent:.3f}")
if not fitted.is_determined:
    print("이 학습들로는 지수를 정할 수 없습니다. 너비 사이의 차이보다 흔들림이 큽니다. scaling.tokens나 scaling.seeds를 늘려 보세요.")
with Trials(artifacts) as trials:
    larger = trials.run(larger_trial(settings))
foretold = float(fitted.law.loss(larger["parameters"]))
low, high = fitted.prediction(larger["parameters"])
error = larger["valid_loss"] / foretold - 1
inside = low <= larger["valid_loss"] <= high
print(f"파라미터 {larger['parameters']:,}개: 예측 {foretold:.4f} ({low:.4f} – {high:.4f}), 실제 {larger['valid_loss']:.4f}, 차이 {error:+.2%}")
report.facts({
    "법칙": f"E = {fitted.law.floor:.3f}, α = {fitted.law.exponent:.3f} (90 %: {low_exponent:.3f} – {high_exponent:.3f})" + ("" if fitted.is_determined else ", 이 점들로는 지수를 정할 수 없음"),
    "예측할 모델": f"너비 {larger['width']}, 파라미터 {larger['parameters']:,}개",
    "예측": f"{foretold:.4f} (90 %: {low:.4f} – {high:.4f})",
    "실제": f"{larger['valid_loss']:.4f} ({error:+.2%}, 구간 {'안' if inside else '밖'})",
})
report.figure(law_plot(lines, fitted, larger), "law", "맞춘 법칙과 예측, 실제 손실")

# %% [markdown]
# 구간 밖으로 나갔다고 해서 실패한 실험은 아닙니다. 왜 벗어났는지 따져 보세요. 토큰이 모자라 큰 모델이 덜 배웠을 수도, 학습률 규칙이 그 너비에서
# 어긋났을 수도, 시드 하나의 흔들림일 수도 있습니다. 앞의 것이라면 실제 손실이 예측보다 **위**에 있습니다.
# 맞춘 범위에서 멀어질수록 띠가 벌어지는 것도 보세요. 몇 배 밖까지 믿을지는 이 띠가 말해 줍니다.
#
# ## 5. 같은 계산량을 나누어 쓰기 (IsoFLOP)
#
# 계산량 예산 $C$가 정해져 있다면 모델을 크게 하고 조금 읽힐까요, 작게 하고 많이 읽힐까요? 예산마다 여러 크기를 학습해 보면 골짜기가 생깁니다.
# 그 바닥이 그 예산에서 가장 좋은 크기입니다(Hoffmann 외, 2022, 두 번째 방법). 예산 두 개 이상의 바닥을 이으면 $N^* \propto C^{a}$의 $a$가
# 나옵니다. 그 논문에서는 0.5쯤이었습니다. 예산이 4배면 크기도 토큰도 2배라는 뜻입니다.

# %%
report.section("5. 같은 계산량을 나누어 쓰기 (IsoFLOP)")
groups, valleys = {}, {}
with Trials(artifacts) as trials:
    for budget in sorted(scaling.isoflops):
        print(f"예산 {budget / 1e12:,.3g} TFLOP")
        done = trials.run_all(isoflop_trials(settings, budget, trials.tokenizer.vocab_size))
        groups[budget] = [line for line in done if line["valid_loss"] is not None]
        valleys[budget] = fit_valley([line["parameters"] for line in groups[budget]], [line["valid_loss"] for line in groups[budget]])
valley_rows = []
for budget, valley in valleys.items():
    best = min(groups[budget], key=loss_of)
    valley_rows.append({
        "예산 (TFLOP)": f"{budget / 1e12:,.3g}", "가장 나은 학습": f"너비 {best['width']}, 토큰 {best['tokens']:,}개", "그 손실": round(best["valid_loss"], 4),
        "골짜기의 바닥": f"파라미터 {valley.size:,.0f}개" if valley else "잰 범위 밖",
    })  # fmt: skip
    print(f"  {valley_rows[-1]['예산 (TFLOP)']} TFLOP: {valley_rows[-1]['가장 나은 학습']}, 바닥 {valley_rows[-1]['골짜기의 바닥']}")
if groups:
    known = {budget: valley for budget, valley in valleys.items() if valley}
    power = power_of(list(known), [valley.size for valley in known.values()])
    report.table(valley_rows)
    report.text(f"가장 좋은 크기는 계산량의 {power:.2f}제곱에 비례합니다." if power is not None else "바닥이 두 예산에서 나와야 지수를 말할 수 있습니다.")
    report.figure(isoflop_plot(groups, valleys), "isoflop", "같은 계산량에서 크기에 따른 손실")
else:
    print('예산이 없어 건너뜁니다. 예: ARGS="scaling.isoflops=3e12,1.2e13"')
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `make week5-scaling ARGS="scaling.seeds=3"`: 같은 너비를 세 번씩 학습하면 띠가 좁아지나요? 이미 한 학습은 다시 하지 않습니다.
# - `make week5-scaling ARGS="scaling.learning_rate=0.02"`: 학습률이 너무 크면 법칙의 모양이 어떻게 망가지나요?
# - `make week5-scaling DATA=nsmc`: 진짜 글에서는 E와 α가 어떻게 달라지나요?
# - 도중에 `Ctrl-C`로 끄고 다시 돌려 보세요. 어디서부터 이어 가나요?
