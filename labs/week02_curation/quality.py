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
# # 2주차. 모델로 거르기
#
# 손으로 쓴 규칙은 무엇을 왜 버리는지 한 줄로 말할 수 있습니다. 그런데 스팸처럼 낱말도 모양도 계속 바뀌는 글은 규칙으로 다 적기 어렵습니다.
# 그래서 작은 모델에게 묻습니다. 언어 모델에게는 **"이 글이 낯선가?"** 를, 분류기에게는 **"이 글은 어느 쪽인가?"** 를 묻습니다.
# 둘 다 NumPy로 쓴 작은 모델이라 몇 초면 배웁니다. 코드는 `src/scratch_llm/ngram.py`와
# `src/llm_workshop/curation/models/classifier.py`에 있습니다.

# %%
import random
from collections import defaultdict

import numpy as np

from llm_workshop.artifacts import Artifacts
from llm_workshop.corpora.loaders import find_files, read_rows
from llm_workshop.corpora.sample import generate
from llm_workshop.corpora.sample.noise import inject
from llm_workshop.corpora.sample.noise.foreign import spam
from llm_workshop.curation.models.store import obtain
from llm_workshop.curation.models.training import train_spam
from llm_workshop.curation.step import Drop
from llm_workshop.curation.steps.hate import profanity_in
from llm_workshop.curation.steps.quality import Perplexity, Spam
from llm_workshop.curation.words import TITLES
from llm_workshop.report import Report
from llm_workshop.report.plots import COLORS, new_figure
from llm_workshop.settings import settings_from_command_line
from scratch_llm.ngram import CharacterNGramModel

settings = settings_from_command_line(uses=("curation.megabytes",))
artifacts = Artifacts(settings)
report = Report(artifacts, "week02-quality", "2주차: 모델로 거르기")
megabytes = min(settings.curation.megabytes or 2.0, 2.0) / 4

# %% [markdown]
# ## 1. 글자 하나를 맞히는 데 드는 비트
#
# n-gram 언어 모델은 앞의 글자 몇 개를 보고 다음 글자의 확률을 말합니다. 확률이 $p$인 글자를 만나면 $-\log_2 p$비트만큼 놀랍니다.
# 글자마다 평균을 내면 **글자당 비트**이고, 2의 그만큼 제곱이 **퍼플렉시티**입니다. 처음 본 이어짐에도 확률을 조금 남겨 두어야
# 무한히 놀라지 않습니다. 그 몫을 나누는 방법이 크네서-나이(Kneser-Ney) 평활입니다.

# %%
report.section("1. 글자 하나를 맞히는 데 드는 비트")
tiny = CharacterNGramModel(order=3)
tiny.fit(["오늘은 날씨가 맑아서 산책을 했다.", "어제는 날씨가 흐려서 집에 있었다.", "오늘은 비가 와서 책을 읽었다."])
rows = []
for text in ("오늘은 날씨가 흐려서 책을 읽었다.", "은늘오 가씨날 서려흐 을책 다었읽.", "뷁쉛 쿝뙑 픓훑"):
    bits = tiny.bits_per_character(text)
    rows.append({"글": text, "글자당 비트": round(bits, 2), "퍼플렉시티": round(2**bits)})
    print(f"{text}  글자당 {bits:.2f}비트, 퍼플렉시티 {2**bits:,.0f}")
report.table(rows, caption="세 문장으로 배운 모델. 첫 글은 배운 적이 없지만 조각이 낯익습니다.")

# %% [markdown]
# ## 2. 무엇이 낯선가
#
# 흠 없는 표본으로 배운 모델로 흠마다 한글 글자당 비트를 잽니다. 상자는 가운데 절반, 수염은 1~99%입니다. 진짜 글(영화평, 청원)이
# 있으면 함께 잽니다. 모델이 배운 글과 종류가 달라서 표본보다 훨씬 낯설지만, 무작위 음절보다는 낯익습니다. 문턱은 **그 사이**에 둡니다.
# 표본만 보고 문턱을 낮추면 진짜 글을 다 버립니다. 이 규칙(`perplexity`)은 다른 규칙을 모두 합한 만큼 느려서, 기본 레시피에는 꺼 두었습니다.

# %%
report.section("2. 무엇이 낯선가")
groups: dict[str, list[str]] = defaultdict(list)
for document in inject(generate(megabytes, 501, "valid"), 0.6, 501):
    groups[document.noise[0]["type"] if document.noise else "clean"].append(document.text)
# 어떤 흠은 바로잡은 글이 대상이므로, 모델에게 물을 만한 것만 둡니다.
chosen = {name: groups[name] for name in ("clean", "truncated", "broken_spacing", "spam", "gibberish") if groups[name]}
for name, pattern, field in (
    ("영화평", "nsmc/reviews_other.jsonl*", "document"),
    ("청원", "pretrain_ko/petitions_valid.jsonl*", "text"),
    ("기술 문서", "pretrain_ko/msdocs_valid.jsonl*", "text"),
):
    for path in find_files((pattern,)):
        chosen[name] = [row[field] for _, row in zip(range(1000), read_rows(path), strict=False)]
titles = {"clean": "흠 없는 표본", **TITLES}
strange = Perplexity()
strange.start()
bits = {}
for name, texts in chosen.items():
    tags: list[dict] = [{} for _ in texts]
    for text, tag in zip(texts, tags, strict=True):
        strange(text, tag)
    if values := [tag["bits_per_character"] for tag in tags if "bits_per_character" in tag]:
        bits[titles.get(name, name)] = values
for name, values in bits.items():
    low, middle, high = np.quantile(values, (0.01, 0.5, 0.99))
    print(f"{name:12} {len(values):5,}편  1% {low:5.1f}  가운데 {middle:5.1f}  99% {high:5.1f}비트")
figure, axes = new_figure(width=6.4, height=3.8)
boxes = axes.boxplot(list(bits.values()), orientation="horizontal", whis=(1, 99), showfliers=False, patch_artist=True, widths=0.6)
for box in boxes["boxes"]:
    box.set(facecolor=COLORS[0], alpha=0.35)
axes.set_yticks(range(1, len(bits) + 1), list(bits))
axes.invert_yaxis()
axes.axvline(strange.maximum, color=COLORS[1], linestyle="--")
axes.set_title(f"점선은 문턱 {strange.maximum:g}비트")
axes.set_xlabel("한글 글자당 비트")
report.figure(figure, "bits", "글의 종류마다 한글 한 글자를 맞히는 데 드는 비트")

# %% [markdown]
# ## 3. 스팸을 알아보는 분류기
#
# 글자 1~4개짜리 조각마다 가중치를 하나씩 두고, 글에 든 조각의 가중치를 더합니다. 조각은 해시로 65,536칸에 나눠 담으므로 사전이 필요 없고,
# 모델의 크기가 정해져 있습니다. 가중치는 로지스틱 회귀로 배웁니다. 무엇을 보고 판단했는지는 글에서 조각을 하나씩 빼 보면 압니다.

# %%
report.section("3. 스팸을 알아보는 분류기")
classifier = obtain("spam")
advertisement = "선착순 50명 무료배송! 오늘만 특가, 지금 바로 상담 받으세요 ☎"
words = advertisement.split()
whole = classifier.probabilities(advertisement)["spam"]


def odds(p: float) -> float:
    return float(np.log(max(p, 1e-9) / max(1 - p, 1e-9)))


rows = []
for number, word in enumerate(words):
    without = classifier.probabilities(" ".join(words[:number] + words[number + 1 :]))["spam"]
    rows.append({"뺀 낱말": word, "스팸일 확률": round(without, 3), "줄어든 로그 승산": round(odds(whole) - odds(without), 2) + 0.0})
print(f"{advertisement}\n  스팸일 확률 {whole:.3f}")
for row in sorted(rows, key=lambda row: -row["줄어든 로그 승산"]):
    print(f"  {row['스팸일 확률']:.3f} (로그 승산 {0.0 - row['줄어든 로그 승산']:+.2f})  '{row['뺀 낱말']}' 없이")
report.text(f"`{advertisement}`: 스팸일 확률 {whole:.3f}").table(rows)

# %% [markdown]
# ## 4. 문턱, 그리고 본 적 없는 스팸
#
# 문턱을 올리면 억울하게 버리는 글이 줄고 놓치는 스팸이 늡니다. 그런데 시험 글의 주제가 배운 글과 같으면 성적이 너무 좋게 나옵니다.
# 그래서 도박 광고를 **하나도 보여 주지 않고** 배운 모델을 따로 만들어, 도박 광고만으로 시험합니다. 세상의 스팸은 늘 새로우니
# 이쪽이 진짜 성적에 가깝습니다.

# %%
report.section("4. 문턱, 그리고 본 적 없는 스팸")
rng = random.Random(5)
made = [spam(rng) for _ in range(600)]
blind = train_spam(min(megabytes, 0.25), without_topics=("gamble",))
seen = np.array([classifier.probabilities(text)["spam"] for text, _ in made])
unseen = np.array([blind.probabilities(text)["spam"] for text, about in made if about["topic"] == "gamble"])
honest = {titles.get(name, name): chosen[name] for name in chosen if name not in TITLES}
alarms = {name: np.array([classifier.probabilities(text)["spam"] for text in texts]) for name, texts in honest.items()}
thresholds = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
rows = []
for threshold in thresholds:
    wrong = {f"버린 {name}": f"{(values >= threshold).mean():.2%}" for name, values in alarms.items()}
    rows.append({"문턱": threshold, "찾은 스팸": f"{(seen >= threshold).mean():.1%}", "찾은 새 주제": f"{(unseen >= threshold).mean():.1%}", **wrong})
    print(f"문턱 {threshold:<5} " + "  ".join(f"{key} {value}" for key, value in rows[-1].items() if key != "문턱"))
report.table(rows)
figure, axes = new_figure(width=6.4, height=3.4)
axes.plot(thresholds, [(seen >= t).mean() for t in thresholds], "o-", color=COLORS[0], label="배운 주제의 스팸")
axes.plot(thresholds, [(unseen >= t).mean() for t in thresholds], "s-", color=COLORS[1], label="본 적 없는 주제의 스팸")
everyday = np.concatenate(list(alarms.values()))
axes.plot(thresholds, [(everyday >= t).mean() for t in thresholds], "^-", color=COLORS[2], label="스팸이 아닌 글")
axes.axvline(Spam().threshold, color="gray", linestyle="--")
axes.set_title("문턱에 따라 버린 비율")
axes.set_xlabel("문턱 (점선은 규칙의 기본값)")
axes.set_ylabel("버린 비율")
axes.set_ylim(-0.03, 1.03)
axes.legend()
report.figure(figure, "thresholds", "문턱을 올릴수록 덜 버립니다: 스팸도, 억울한 글도")

# %% [markdown]
# ## 5. 욕설과 혐오: 버리기보다 표시하기
#
# 낱말 목록은 빠르지만 두 번 틀립니다. "시발점", "다시 발생", "새끼 고양이"를 잡으면 안 되고, 욕이 없는 혐오는 영영 놓칩니다.
# 배운 분류기는 배운 곳(연예 기사 댓글) 밖에서는 "죽이고 또 죽이는" 영화평을 혐오로 봅니다. 더구나 혐오를 **다룬** 글까지 버리면
# 모델은 그것이 왜 나쁜지도 배우지 못합니다. 그래서 우리 레시피는 `tags`에 표시만 합니다.

# %%
report.section("5. 욕설과 혐오: 버리기보다 표시하기")
rows = []
for text in ("아 씨1발 진짜", "새로운 시발점이 되다", "오류가 다시 발생하면", "목을 졸라 숨지게 한", "존나 재미있는 영화", "새끼 고양이 세 마리", "그런 사람들은 이 나라에서 나가야 한다"):
    found = profanity_in(text)
    rows.append({"글": text, "낱말 목록": ", ".join(f"{kind} {count}" for kind, count in found.items()) or "없음"})
    print(f"{text:24} → {rows[-1]['낱말 목록']}")
report.table(rows, caption="마지막 글에는 욕이 없습니다. 목록은 이런 글을 볼 수 없습니다.")

# %% [markdown]
# ## 6. 무엇을 버렸는지 읽는다
#
# 숫자만 보고 문턱을 믿지 마세요. 모델이 버린 글을 읽어야 모델이 무엇을 싫어하는지 압니다. 아래는 스팸이 아닌 글 가운데 버려진 것입니다.

# %%
report.section("6. 무엇을 버렸는지 읽는다")
rule = Spam()
rule.start()
victims = []
for name, texts in honest.items():
    for text in texts:
        outcome = rule(text, {})
        if isinstance(outcome, Drop):
            victims.append({"글의 종류": name, "까닭": f"{outcome.reason} {outcome.detail}", "글": " ".join(text.split())[:70]})
print(f"스팸이 아닌 글 {sum(map(len, honest.values())):,}편 가운데 버린 것 {len(victims)}편")
for victim in victims[:10]:
    print(f"  [{victim['글의 종류']}] {victim['글']}")
if victims:
    report.table(victims[:20])
else:
    report.text("스팸이 아닌 글은 하나도 버리지 않았습니다. 진짜 글을 넣고 다시 해 보세요.")
report.save()
