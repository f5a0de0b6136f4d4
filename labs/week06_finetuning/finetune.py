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
# # 6주차. 미세 조정: 글을 쓰던 모델을 분류기로
#
# 5주차의 모델은 글을 이어 쓸 줄만 압니다. 그런데 다음 말을 맞히려면 이 글이 칭찬인지 불평인지도 짐작해야 했을 것입니다.
# 그 짐작이 모델 안 어딘가에 들어 있다면, **작은 머리 하나**를 얹어 꺼내 쓸 수 있습니다.
#
# 이 실습에서는 리뷰의 감성을 가려냅니다. 그리고 "잘된다"는 말을 쉽게 믿지 않습니다. 언어 모델 없이도 되는 일인지,
# 라벨이 몇 개면 되는지, 모델의 확신을 믿어도 되는지까지 잽니다.
#
# 터미널에서는 `make week6-finetune` 한 번이면 됩니다. 다른 과제는 `ARGS="finetune.task=nsmc"`처럼 고르거나, `text`와 `label`
# 칸이 있는 여러분의 파일 경로를 적습니다.

# %%
import numpy as np
import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.finetuning.baseline import character_ngrams, majority
from llm_workshop.finetuning.classifier_plots import (
    confusion_plot,
    labels_plot,
    layers_plot,
    learning_plot,
    lengths_plot,
    reliability_plot,
)
from llm_workshop.finetuning.classifying import classify_texts, encode_texts, evaluate_logits, labelled_texts
from llm_workshop.finetuning.stage import (
    build_classifier,
    check_layers,
    class_probabilities,
    make_classifier,
    open_classifier,
    replaced_task,
    run_trial,
    task_of,
)
from llm_workshop.progress import print_korean
from llm_workshop.report import Report
from llm_workshop.report.plots import read_metrics
from llm_workshop.settings import settings_from_command_line
from scratch_llm.finetuning import PAD
from scratch_llm.tokenizers import ByteLevelBPE

settings = settings_from_command_line(uses=("finetune",))
artifacts = Artifacts(settings)
check_layers(artifacts)  # 설정이 틀렸으면 몇 분 뒤가 아니라 지금 알려 줍니다.
finetune = settings.finetune
report = Report(artifacts, "week06-finetune", "6주차: 글을 쓰던 모델을 분류기로")

# %% [markdown]
# ## 1. 과제: 무엇을 가려내나
#
# 글과 정답(라벨)의 쌍입니다. 세 몫으로 나눕니다. **학습**으로 배우고, **검증**으로 고르고, **테스트**는 마지막에 한 번만 봅니다.
# 같은 글이 두 몫에 있으면 외운 것을 아는 것으로 착각하므로, 겹치는 글과 빈 글은 빼고 몇 개를 뺐는지 밝힙니다.
#
# 표본 말뭉치의 리뷰에는 '평점 8점' 같은 줄이 있습니다. 정답이 글에 적혀 있으면 배울 것이 없으니 그런 줄도 지웁니다.
# 실제 자료에서도 이런 **정답 누출**을 찾는 것이 가장 먼저 할 일입니다.

# %%
report.section("1. 과제: 무엇을 가려내나")
task = task_of(settings)
names = task.class_names
print(f"{task.title}: {', '.join(names)}")
if earlier := replaced_task(artifacts, task):
    print(f"  주의: {artifacts.path('classifier')}에 있는 '{earlier}' 과제의 분류기와 보고서는 이번 것('{task.name}')으로 바뀝니다.")
rows = []
for split, korean in (("train", "학습"), ("valid", "검증"), ("test", "테스트")):
    examples = task.split(split)
    counts = np.bincount(examples.labels, minlength=task.n_classes)
    rows.append({"몫": korean, "글": len(examples), **{name: int(count) for name, count in zip(names, counts)}})
    print(f"  {korean:4} {len(examples):7,}개  " + "  ".join(f"{name} {count:,}" for name, count in zip(names, counts)))
reasons = {"empty": "빈 글", "repeated": "되풀이된 글", "contradictory": "정답이 엇갈린 글"}
if task.dropped:
    print("  뺀 것: " + ", ".join(f"{reasons[reason]} {count:,}개" for reason, count in task.dropped.items()))
report.text(f"**{task.title}**: {', '.join(names)}").table(rows)
for text, label in list(zip(task.train.texts, task.train.labels))[:3]:
    print(f"\n[{names[label]}] {text[:150]}")

# %% [markdown]
# ## 2. 견줄 기준: 언어 모델 없이
#
# 기준이 없으면 숫자는 아무 말도 하지 않습니다. 두 가지와 견줍니다.
#
# - **가장 흔한 답**: 글을 읽지 않고 늘 가장 흔한 부류라고 답합니다. 치우친 자료에서는 이것만으로도 정확도가 높습니다.
# - **문자 n-그램 + 로지스틱 회귀**: 글자 1~4개짜리 조각의 개수로 가립니다. 한국어에서 아주 강한 기준입니다. 몇 초면 배웁니다.
#
# **매크로 F1**은 부류마다 F1을 셈해 똑같은 무게로 평균합니다. 드문 부류를 통째로 놓치면 정확도는 높아도 매크로 F1이 떨어집니다.

# %%
report.section("2. 견줄 기준: 언어 모델 없이")
common, ngrams = majority(task), character_ngrams(task)
for title, figures in (("가장 흔한 답", common), ("문자 n-그램", ngrams)):
    print(f"  {title:8}  정확도 {figures['accuracy']:6.1%}   매크로 F1 {figures['macro_f1']:.3f}")
print(f"  문자 n-그램은 글 {len(task.train):,}개를 배우는 데 {ngrams['seconds']:.1f}초 걸렸습니다.")

# %% [markdown]
# ## 3. 머리 얹기
#
# 언어 모델은 마지막에 (너비 D) → (어휘 V)짜리 출력층을 둡니다. 그 자리에 (너비 D) → (부류 C)짜리 **머리**를 얹습니다.
# 왼쪽에서 오른쪽으로만 보는 모델에서 글 전체를 읽은 것은 **마지막 토큰**뿐이므로 그 토큰의 벡터를 씁니다.
#
# 길이가 다른 글을 한 배치에 담으려면 짧은 글 뒤를 **패딩**으로 채웁니다. 그러면 "마지막 자리"가 아니라 "마지막 **진짜** 토큰"을
# 꺼내야 합니다. 아래에서 같은 글에 패딩을 아무리 붙여도 답이 그대로인지 확인합니다. 마스크가 없어도 되는 까닭은, 오른쪽의
# 패딩을 보는 진짜 토큰이 없기 때문입니다.

# %%
report.section("3. 머리 얹기")
tokenizer = ByteLevelBPE.load(artifacts.require("base-model"))
classifier = make_classifier(artifacts, task, "all").eval()
n_backbone = sum(p.numel() for p in classifier.backbone.parameters())
print(f"몸통 {n_backbone:,}개 + 머리 {tuple(classifier.head.weight.shape)} = {classifier.head.weight.numel():,}개")
[ids] = encode_texts(tokenizer, task.train.texts[:1], classifier.config.context_length - 8)
row = torch.tensor([ids], device=classifier.device)
padded = torch.tensor([ids + [PAD] * 8], device=classifier.device)
with torch.no_grad():
    plain, with_padding = classifier(row), classifier(padded)
    wrong = classifier.head(classifier.backbone.hidden_states(padded.clamp(min=0), None, None)[:, -1])
print(f"그대로          {plain[0].cpu().numpy().round(4)}")
print(f"패딩 8개를 붙여  {with_padding[0].cpu().numpy().round(4)}  ({'같음' if torch.allclose(plain, with_padding, atol=1e-4) else '다름!'})")
print(f"마지막 자리를 꺼내면 {wrong[0].cpu().numpy().round(4)}  패딩의 벡터입니다")

# %% [markdown]
# ## 4. 패딩을 줄이는 배치
#
# 패딩도 똑같이 셈합니다. 모든 글을 가장 긴 글에 맞추면 셈의 대부분이 헛일일 수 있습니다.
#
# - **fixed**: 모두 가장 긴 글의 길이로
# - **longest**: 배치마다 그 안의 가장 긴 글에 맞추어
# - **grouped**: 길이가 비슷한 글끼리 배치를 만들고, 배치의 순서는 섞어서. 글을 50배치만큼 무작위로 모은 다음 그 안에서만 길이로
#   줄을 세웁니다. 자료 전체를 줄 세우면 에포크마다 똑같은 배치가 되기 때문입니다.

# %%
report.section("4. 패딩을 줄이는 배치")
limit = min(finetune.max_length or classifier.config.context_length, classifier.config.context_length)
windows = {
    padding: labelled_texts(task, "train", tokenizer, finetune.batch_size, limit, padding) for padding in ("fixed", "longest", "grouped")
}
shares = {padding: part.padding_share for padding, part in windows.items()}
for padding, part in windows.items():
    print(f"  {padding:8} 배치마다 평균 {part.mean_tokens:7,.0f}토큰, 그중 패딩 {part.padding_share:6.1%}")
lengths = windows["grouped"].lengths
if windows["grouped"].n_cut:
    print(f"  {limit}토큰이 넘어 뒤를 자른 글: {windows['grouped'].n_cut:,}개")
report.figure(lengths_plot(lengths, shares, windows["grouped"].n_cut), "padding", "글의 길이와, 배치를 만드는 방법에 따른 패딩의 비율")

# %% [markdown]
# ## 5. 어디까지 배우게 할까
#
# | 선택 | 배우는 것 | 알맞은 때 |
# |---|---|---|
# | `head` | 머리만 | 라벨이 아주 적을 때. 몸통의 벡터가 이미 좋을 때 |
# | `last-1` | 마지막 블록과 머리 | 그 중간 |
# | `lora` | 층마다 붙인 어댑터와 머리 | 과제가 여럿이라 하나씩 작게 저장하고 싶을 때 |
# | `all` | 전부 | 라벨이 넉넉할 때 |
#
# 배우는 것이 적을수록 한 걸음을 크게 내디뎌야 합니다. 그래서 학습률은 선택마다 다르게 두었습니다. 글 몇 개로 짧게 겨루는 것이니,
# 여기의 순서는 **이 과제, 이 모델, 이만큼의 라벨에서만** 맞습니다. 어댑터끼리의 겨루기는 `make week6-adapters`에서 합니다.

# %%
report.section("5. 어디까지 배우게 할까")
n_trial = min(finetune.trial_examples, len(task.train))
short_baseline = character_ngrams(task, n_trial)
trials = {}
for layers in ("head", "last-1", "lora", "all"):
    trials[layers] = run_trial(artifacts, task, layers, n_trial)
    figures = trials[layers]
    print(f"  {layers:7} {figures['trainable']:>12,}개  정확도 {figures['test']['accuracy']:6.1%}  "
          f"매크로 F1 {figures['test']['macro_f1']:.3f}  {figures['seconds']:6.1f}초")  # fmt: skip
print(f"  문자 n-그램 (같은 글 {n_trial:,}개)  정확도 {short_baseline['accuracy']:.1%}")
report.text(f"글 {n_trial:,}개로 짧게 배운 결과입니다.")
report.table([
    {"배우는 것": layers, "파라미터": t["trainable"], "정확도": t["test"]["accuracy"], "매크로 F1": t["test"]["macro_f1"], "초": round(t["seconds"], 1)}
    for layers, t in trials.items()
])  # fmt: skip
report.figure(layers_plot(trials, short_baseline["accuracy"]), "layers", "배우는 부분에 따른 정확도, 파라미터, 시간")

# %% [markdown]
# ## 6. 본 학습
#
# 학습은 5주차의 `train`이 그대로 합니다. 배치가 (글, 라벨)이 되었을 뿐, 체크포인트도 이어 하기도 같습니다.
# 결과는 `artifacts/<규모>/classifier`에 토크나이저와 함께 남습니다.

# %%
report.section("6. 본 학습")
build_classifier(artifacts, task, log=print_korean)
facts = artifacts.read_manifest("classifier")["metrics"]
test = facts["test"]
print(f"\n  가장 흔한 답   정확도 {common['accuracy']:6.1%}   매크로 F1 {common['macro_f1']:.3f}")
print(f"  문자 n-그램    정확도 {ngrams['accuracy']:6.1%}   매크로 F1 {ngrams['macro_f1']:.3f}")
print(f"  우리 분류기    정확도 {test['accuracy']:6.1%}   매크로 F1 {test['macro_f1']:.3f}   (테스트 글 {test['texts']:,}개)")
report.table([
    {"방법": title, "정확도": figures["accuracy"], "매크로 F1": figures["macro_f1"]}
    for title, figures in (("가장 흔한 답", common), ("문자 n-그램 + 로지스틱 회귀", ngrams), ("미세 조정한 모델", test))
], caption=f"테스트 글 {test['texts']:,}개")  # fmt: skip
records = read_metrics(artifacts.path("classifier") / "metrics.jsonl")
report.figure(learning_plot(records, facts["curve"], ngrams["accuracy"]), "learning", "학습 곡선")

# %% [markdown]
# ## 7. 무엇을 무엇으로 잘못 아나
#
# **혼동 행렬**은 정답 부류(행)를 무엇이라고 답했는지(열)를 비율로 보여 줍니다. 대각선이 맞힌 것입니다.
# 틀린 글 가운데 **가장 자신 있게 틀린 것**을 읽어 보세요. 라벨이 잘못된 글, 사람도 헷갈릴 글, 모델의 버릇이 보입니다.

# %%
report.section("7. 무엇을 무엇으로 잘못 아나")
report.figure(
    confusion_plot({"문자 n-그램": ngrams["confusion"], "우리 분류기": test["confusion"]}, names), "confusion", "혼동 행렬 (행마다의 비율)"
)
saved, tokenizer = open_classifier(artifacts)
logits = classify_texts(saved.classifier, tokenizer, task.test.texts, finetune.max_length)
truth = np.asarray(task.test.labels)
again = evaluate_logits(logits, truth)
print(f"저장한 것을 다시 열어 잰 정확도 {again['accuracy']:.1%} ({'같음' if abs(again['accuracy'] - test['accuracy']) < 0.002 else '다름!'})")
probabilities = (logits / saved.temperature).softmax(1).numpy()
wrong_texts = sorted(np.flatnonzero(probabilities.argmax(1) != truth), key=lambda i: -probabilities[i].max())[:5]
for i in wrong_texts:
    answer = probabilities[i].argmax()
    print(f"\n정답 {names[truth[i]]}, 답 {names[answer]} (확신 {probabilities[i].max():.0%}): {task.test.texts[i][:120]}")
if wrong_texts:
    report.text("가장 자신 있게 틀린 글입니다.").table([
        {"글": task.test.texts[i][:120], "정답": names[truth[i]], "답": names[probabilities[i].argmax()], "확신": f"{probabilities[i].max():.0%}"}
        for i in wrong_texts
    ])  # fmt: skip

# %% [markdown]
# ## 8. 확신을 믿어도 되나
#
# "90 % 확신"이라는 답 백 개 가운데 아흔 개가 맞으면 **잘 보정된** 것입니다. 확신과 실제 정확도의 어긋남을 구간마다 재어 평균한 값이
# **기대 보정 오차**(ECE)입니다. 신경망은 대개 지나치게 자신합니다.
#
# 고치는 가장 간단한 방법이 **온도 조절**입니다. 로짓을 수 하나 $T$로 나눕니다. $T$는 검증 글의 손실이 가장 작아지게 고릅니다.
# 모든 로짓을 같은 수로 나누므로 **답은 바뀌지 않고** 확신만 바뀝니다 (Guo 외, 2017).
#
# $T$는 검증 글의 **손실**에 맞춘 수입니다. 처음 보는 테스트 글의 ECE까지 나아진다는 보장은 없고, 글이 적으면 나빠지기도 합니다.
# 그래서 아래에서 전과 후를 함께 찍고, 나빠졌으면 나빠졌다고 적습니다.

# %%
report.section("8. 확신을 믿어도 되나")
before, after = logits.softmax(1).numpy(), probabilities
errors = {"보정 전": test["calibration_error"], "보정 뒤": test["calibrated_error"]}
assert (before.argmax(1) == after.argmax(1)).all()
print(f"온도 T = {saved.temperature:.2f} (검증 글에서는 {'지나치게 자신했습니다' if saved.temperature > 1 else '너무 조심스러웠습니다'})")
print(f"  ECE   {errors['보정 전']:.3f} → {errors['보정 뒤']:.3f}")
print(f"  손실  {test['loss']:.3f} → {test['calibrated_loss']:.3f}")
report.text(f"온도 T = {saved.temperature:.2f}: 손실 {test['loss']:.3f} → {test['calibrated_loss']:.3f}, ECE {errors['보정 전']:.3f} → {errors['보정 뒤']:.3f}")
if errors["보정 뒤"] > errors["보정 전"] or test["calibrated_loss"] > test["loss"]:
    worse = [name for name, is_worse in (("ECE", errors["보정 뒤"] > errors["보정 전"]), ("손실", test["calibrated_loss"] > test["loss"])) if is_worse]
    note = f"온도 조절로 오히려 나빠진 것: {', '.join(worse)}. T는 검증 글 {len(task.valid):,}개의 손실에 맞춘 것이라 테스트 글에는 맞지 않을 수 있습니다."
    print("  " + note)
    report.text(note)
caption = "확신과 정확도. 꺾은선이 점선과 겹칠수록 잘 보정된 것이고, 점선보다 아래에 있으면 지나치게 자신하는 것, 위로 벗어나면 너무 조심스러운 것"
report.figure(reliability_plot({"보정 전": before, "보정 뒤": after}, truth, errors), "reliability", caption)

# %% [markdown]
# ## 9. 라벨은 몇 개나 필요한가
#
# 사전 학습의 값어치는 **라벨이 적을 때** 드러납니다. 같은 글로 세 가지를 배웁니다.
#
# - 사전 학습한 모델을 미세 조정
# - 같은 꼴의 모델을 **무작위 가중치에서** 학습
# - 문자 n-그램
#
# 라벨을 다는 데 드는 돈과 시간을 생각하며 곡선을 읽으세요. 어디서부터 더 모아도 별로 오르지 않나요?
# 기준이 이기는 구간이 있다면, 거기서는 기준을 쓰는 것이 옳습니다.

# %%
report.section("9. 라벨은 몇 개나 필요한가")
counts = [count for count in finetune.label_counts if count <= len(task.train)]
counts = counts or [len(task.train)]
curves: dict[str, list[float]] = {"사전 학습 + 미세 조정": [], "무작위 가중치에서": [], "문자 n-그램": []}
for count in counts:
    values = (
        run_trial(artifacts, task, finetune.layers, count)["test"]["accuracy"],
        run_trial(artifacts, task, "all", count, pretrained=False)["test"]["accuracy"],
        character_ngrams(task, count)["accuracy"],
    )
    for name, value in zip(curves, values):
        curves[name].append(value)
    print(f"  라벨 {count:6,}개   " + "   ".join(f"{name} {value:.1%}" for name, value in zip(curves, values)))
gain = max(tuned - blank for tuned, blank in zip(curves["사전 학습 + 미세 조정"], curves["무작위 가중치에서"]))
chance = 2 * (0.5 / len(task.test)) ** 0.5  # 정확도 둘의 차이가 이 안이면 우연일 수 있습니다.
if gain < chance:
    note = f"사전 학습으로 얻은 것은 가장 큰 데서 {gain:+.1%}p이고, 테스트 글 {len(task.test):,}개로는 ±{chance:.1%}p 안을 우연과 가리지 못합니다."
    if settings.scale == "smoke":
        note += " smoke의 모델은 몇 초 배운 것이라 사전 학습의 값어치가 드러나지 않습니다. laptop 규모에서 다시 보세요."
    print("  " + note)
    report.text(note)
report.table([{"라벨": count, **{name: curves[name][i] for name in curves}} for i, count in enumerate(counts)])
report.figure(labels_plot(counts, curves), "labels", "라벨의 수에 따른 테스트 정확도")

# %% [markdown]
# ## 10. 써 보기
#
# 직접 쓴 글을 넣어 보세요. 브라우저에서 쓰려면 `make week6-classifier-page`입니다.

# %%
report.section("10. 써 보기")
mine = ["정말 맛있고 직원도 친절해서 또 가고 싶어요.", "화면이 어둡고 소리가 갈라져요. 돈이 아깝습니다.", "이야기는 좋았지만 너무 길었다."]
for text, row in zip(mine, class_probabilities(saved, tokenizer, mine).tolist()):
    print(f"  {text}\n    " + "  ".join(f"{name} {value:.0%}" for name, value in zip(names, row)))
report.save()
