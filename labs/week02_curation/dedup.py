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
# # 2주차. 겹치는 글 지우기
#
# 웹에는 같은 글이 수없이 복사되어 있습니다. 되풀이되는 글은 모델이 외우게 만들고, 학습 시간을 낭비하고, 평가 글과 겹치면 점수를 부풀립니다.
# 똑같은 글은 해시 하나로 찾습니다. 어려운 것은 **조금 고친** 글입니다. 모든 쌍을 견줄 수는 없으니, 집합을 숫자 몇 개로 줄이고(MinHash)
# 만날 만한 것끼리만 만나게 합니다(LSH). 코드는 `src/llm_workshop/curation/dedup/`에 있고, NumPy만 씁니다.

# %%
import json
from itertools import combinations, pairwise

import numpy as np

from llm_workshop.artifacts import Artifacts
from llm_workshop.corpora.document import read_documents
from llm_workshop.curation.curated import build_chain, removed_documents
from llm_workshop.curation.dedup.exact import digest, fold
from llm_workshop.curation.dedup.lsh import Bands, choose_bands, collision_probability
from llm_workshop.curation.dedup.minhash import MinHash, estimate
from llm_workshop.curation.dedup.settings import NearSettings, dedup_settings
from llm_workshop.curation.dedup.shingles import shingles
from llm_workshop.curation.dedup.verify import jaccard
from llm_workshop.curation.recipe import load_recipe
from llm_workshop.curation.words import reason_in_korean
from llm_workshop.report import Report
from llm_workshop.report.plots import COLORS, new_figure
from llm_workshop.settings import settings_from_command_line

settings = settings_from_command_line(uses=("curation",))
artifacts = Artifacts(settings)
report = Report(artifacts, "week02-dedup", "2주차: 겹치는 글 지우기")
curated = build_chain(artifacts)
near = dedup_settings(load_recipe(settings.curation.recipe).dedup).near or NearSettings()

# %% [markdown]
# ## 1. 똑같은 글
#
# 글 전체를 16바이트로 줄인 해시가 같으면 같은 글입니다. 글이 아무리 길어도 16바이트면 되니, 글 1억 편이 1.6 GB에 들어갑니다.
# 다만 공백 하나, 대문자 하나만 달라도 해시는 전혀 다릅니다. 그래서 해시하기 전에 **접습니다**(fold): 유니코드, 대소문자, 공백을 맞춥니다.

# %%
report.section("1. 똑같은 글")
versions = ["오늘은  날씨가 좋다.", "오늘은 날씨가 좋다.\n", "오늘은 날씨가 좋다!", "오늘은 날씨가 참 좋다."]
rows = []
for text in versions:
    rows.append({"글": text.replace("\n", "⏎"), "그대로 해시": digest(text).hex()[:8], "접어서 해시": digest(fold(text)).hex()[:8]})
    print(f"{rows[-1]['글']:18} 그대로 {rows[-1]['그대로 해시']}  접으면 {rows[-1]['접어서 해시']}")
report.table(rows)

# %% [markdown]
# ## 2. 얼마나 겹치나: 조각과 자카드
#
# 글을 다섯 글자씩 잘라 조각(shingle)의 집합으로 봅니다. 겹치는 비율 |A∩B| / |A∪B|가 **자카드 유사도**입니다.
# 한 낱말만 고쳐도 그 둘레의 조각 몇 개만 달라지므로, 고친 글은 1에 가깝고 남남인 글은 0에 가깝습니다.

# %%
report.section("2. 얼마나 겹치나: 조각과 자카드")
family = [
    "할머니께서 시장에서 사과를 사 오셨습니다. 사과가 무척 달아서 온 식구가 둘러앉아 먹었습니다.",
    "할머니께서 시장에서 사과를 사 오셨습니다. 사과가 아주 달아서 온 식구가 둘러앉아 먹었습니다.",
    "할머니께서 시장에서 배를 사 오셨습니다. 배가 무척 달아서 온 식구가 둘러앉아 먹었습니다. 잘 읽었습니다.",
    "GPU가 없어도 이번 주 실습은 할 수 있어요. 노트북의 CPU면 넉넉합니다.",
]
sets = shingles([fold(text) for text in family], "char", 5)
for number, text in enumerate(family):
    print(f"글 {number}: {text}")
report.table([{"번호": number, "글": text} for number, text in enumerate(family)])
rows = []
for i, j in combinations(range(len(family)), 2):
    a, b = sets.unique(i), sets.unique(j)
    rows.append({"두 글": f"{i}, {j}", "조각": f"{len(a)}, {len(b)}", "자카드": round(jaccard(a, b), 3)})
    print(f"글 {i}, 글 {j}: 조각 {len(a)}개, {len(b)}개, 자카드 {rows[-1]['자카드']}")
report.table(rows)

# %% [markdown]
# ## 3. 집합을 숫자 몇 개로: MinHash
#
# 조각마다 해시값을 매기고 **가장 작은 값만** 남깁니다. 두 집합의 가장 작은 값이 같을 확률은 얼마일까요? 합집합에서 가장 작은 조각이
# 교집합에 들어 있을 확률, 곧 **자카드 유사도**입니다(Broder, 1997). 해시 함수를 바꾸어 가며 128번 하면, 같은 자리의 비율이 유사도의 추정값입니다.
# 표준 오차는 √(s(1−s)/128)이니 가장 나쁠 때도 0.044입니다.
#
# 표본의 글을 조금씩 고쳐 실제 유사도와 추정값을 견주어 봅시다.

# %%
report.section("3. 집합을 숫자 몇 개로: MinHash")
rng = np.random.default_rng(settings.seed)
texts = [fold(document.text) for document in read_documents(curated / "train.jsonl") if len(document.text) > 120][:300]


def edited(text: str, share: float) -> str:
    """글의 일부를 다른 글의 토막으로 바꿉니다."""
    other = texts[rng.integers(len(texts))]
    cut = int(len(text) * share)
    place = int(rng.integers(0, max(1, len(text) - cut)))
    return text[:place] + (other * 9)[:cut] + text[place + cut :]


pairs = [(text, edited(text, rng.uniform(0, 0.6))) for text in texts]
both = shingles([text for pair in pairs for text in pair], near.unit, near.size)
signatures = MinHash(near.permutations, near.seed).signatures(both)
truth = np.array([jaccard(both.unique(2 * i), both.unique(2 * i + 1)) for i in range(len(pairs))])
guess = np.array([estimate(signatures, 2 * i, 2 * i + 1) for i in range(len(pairs))])
error = guess - truth
expected = np.sqrt(truth * (1 - truth) / near.permutations)
print(f"쌍 {len(pairs)}개: 조각 평균 {len(both.hashes) / len(pairs) / 2:.0f}개 → 숫자 {near.permutations}개")
print(f"추정 오차의 표준편차 {error.std():.4f} (이론 {np.sqrt((expected**2).mean()):.4f})")
report.facts({
    "쌍": len(pairs),
    "서명의 길이": near.permutations,
    "추정 오차의 표준편차 (잰 값 / 이론)": f"{error.std():.4f} / {np.sqrt((expected**2).mean()):.4f}",
})  # fmt: skip

# %% [markdown]
# ## 4. 만날 만한 것끼리만: LSH
#
# 서명을 띠(band)로 자르고, 띠 하나라도 통째로 같은 글끼리만 견줍니다. 줄이 r개인 띠가 b개면, 유사도 s인 두 글이 후보가 될 확률은
# 1 − (1 − s^r)^b입니다. 문턱 언저리에서 0에서 1로 가파르게 오르는 **S자 곡선**이 됩니다. 띠를 늘리면 곡선이 왼쪽으로 가서 덜 놓치는 대신
# 확인할 후보가 늡니다. 아래 그림의 점은 방금 만든 쌍에서 **잰** 비율, 선은 이론입니다.

# %%
report.section("4. 만날 만한 것끼리만: LSH")
chosen = choose_bands(near.threshold, near.permutations, near.recall)
figure, axes = new_figure(1, 2, width=4.9, height=3.7)
axes[0].scatter(truth, guess, s=10, color=COLORS[0], alpha=0.6)
axes[0].plot([0, 1], [0, 1], color=COLORS[1], linewidth=1)
axes[0].set_title("MinHash의 추정")
axes[0].set_xlabel("실제 자카드 유사도")
axes[0].set_ylabel("서명에서 같은 자리의 비율")
grid = np.linspace(0, 1, 200)
shapes = [(chosen, COLORS[1]), (Bands(max(1, near.permutations // 2), 2), COLORS[2]), (Bands(max(1, near.permutations // 16), 16), COLORS[3])]
for bands, color in shapes:
    axes[1].plot(grid, collision_probability(grid, bands), color=color, label=f"띠 {bands.bands} × 줄 {bands.rows}")
used = signatures[: chosen.bands * chosen.rows].reshape(chosen.bands, chosen.rows, -1)
met = np.array([(used[:, :, 2 * i] == used[:, :, 2 * i + 1]).all(axis=1).any() for i in range(len(pairs))])
edges = np.linspace(0, 1, 11)
for low, high in pairwise(edges):
    inside = (truth >= low) & (truth < high)
    if inside.sum() >= 5:
        axes[1].plot(truth[inside].mean(), met[inside].mean(), "o", color=COLORS[1], markersize=5)
axes[1].axvline(near.threshold, color="#999999", linewidth=1, linestyle=":")
axes[1].set_title("후보가 될 확률")
axes[1].set_xlabel("자카드 유사도 (점선: 문턱)")
axes[1].legend(loc="center left", bbox_to_anchor=(0.2, 0.62), fontsize=8)
report.figure(figure, "minhash", "왼쪽: 추정한 유사도. 오른쪽: S자 곡선, 점은 잰 값")
above = truth >= near.threshold
print(f"고른 모양: 띠 {chosen.bands}개 × 줄 {chosen.rows}개. 유사도 {near.threshold} 이상인 쌍 {above.sum()}개 가운데 {met[above].sum()}개가 후보")
print(f"0.4 이하인 쌍 {(truth <= 0.4).sum()}개 가운데 {met[truth <= 0.4].sum()}개가 후보 (확인 단계에서 걸러집니다)")

# %% [markdown]
# ## 5. 말뭉치 전체에
#
# 조각 파일마다 서명을 만들고(여러 프로세스), 띠마다 정렬해 후보를 뽑고, 후보를 **실제 조각으로 확인**한 다음, 무리마다 하나를 남깁니다.
# 확인하므로 유사도가 문턱보다 낮은 글을 잘못 지우는 일은 없습니다. 평가용 글(valid)과 학습용 글이 겹치면 학습용을 지웁니다.

# %%
report.section("5. 말뭉치 전체에")
card = json.loads((curated / "card.json").read_text(encoding="utf-8"))
dropped, kept = card["dropped"], card["kept"]
print(f"글 {card['documents']:,}편 → 학습 {kept['train']['documents']:,}편 + 평가 {kept['valid']['documents']:,}편")
for rule, count in dropped.items():
    print(f"  {reason_in_korean(rule)}: {count:,}편")
facts = {"들어온 글": card["documents"], "학습용": kept["train"]["documents"], "평가용": kept["valid"]["documents"]}
report.facts(facts | {f"지운 글: {reason_in_korean(rule)}": count for rule, count in dropped.items()})
for example in card["examples"][:4]:
    print(f"\n유사도 {example['similarity']}\n  지움: {' '.join(example['text'].split())[:90]}\n  남김: {' '.join(example['of_text'].split())[:90]}")
if card["examples"]:
    rows = [
        {"유사도": example["similarity"], "지운 글": " ".join(example["text"].split())[:140], "남긴 글": " ".join(example["of_text"].split())[:140]}
        for example in card["examples"][:6]
    ]
    report.table(rows, caption="비슷하다고 지운 글과 남긴 글")

# %% [markdown]
# ## 6. 정답과 견주기
#
# 표본에는 어느 글이 무엇의 중복인지가 적혀 있습니다. 찾아야 할 것을 얼마나 찾았고(재현율), 지운 것 가운데 억울한 글은 없는지(정밀도) 봅니다.

# %%
report.section("6. 정답과 견주기")
gone = removed_documents(curated)
labels = {d.id: d.noise[0] for path in sorted(artifacts.path("raw").glob("raw-*.jsonl")) for d in read_documents(path) if d.noise}
passed = {json.loads(line)["id"] for path in sorted(artifacts.path("clean").glob("clean-*.jsonl")) for line in open(path, encoding="utf-8")}


def origin(name: str) -> str:
    return labels.get(name, {}).get("of", name)


def is_known(name: str) -> bool:
    """규칙을 지나온 글 가운데, 원본이나 그 중복이 함께 있는 글인가."""
    return name in passed and labels[name]["type"] in ("exact_duplicate", "near_duplicate") and labels[name].get("similarity", 1.0) >= near.threshold


families: dict[str, list[str]] = {}
for name in passed:
    families.setdefault(origin(name), []).append(name)
wanted = {name for name in labels if is_known(name) and len(families[origin(name)]) > 1}
found = {name for name in wanted if name in gone or sum(other not in gone for other in families[origin(name)]) == 1}
wrong = [name for name, of in gone.items() if of and origin(name) != origin(of)]
if wanted:
    print(f"찾아야 할 중복 {len(wanted)}편 가운데 {len(found)}편 찾음 (재현율 {len(found) / len(wanted):.3f})")
    print(f"지운 글 {len(gone)}편 가운데 정답에 없는 것 {len(wrong)}편")
    report.facts({
        "찾아야 할 중복 (규칙을 지나온 것)": len(wanted),
        "찾은 것": len(found),
        "재현율": round(len(found) / len(wanted), 4),
        "지운 글": len(gone),
        "정답에 없는 것": len(wrong),
    })  # fmt: skip
    asked = {name for pair in ((name, gone[name]) for name in wrong[:3]) for name in pair}
    bodies = {d.id: " ".join(d.text.split())[:140] for path in artifacts.path("clean").glob("clean-*.jsonl") for d in read_documents(path) if d.id in asked}
    doubtful = [{"지운 글": bodies[name], "남긴 글": bodies.get(gone[name], gone[name])} for name in wrong[:3]]
    for row in doubtful:
        print(f"\n정답에는 없지만 실제로 겹치는가?\n  지움: {row['지운 글']}\n  남김: {row['남긴 글']}")
    if doubtful:
        report.table(doubtful, caption="정답에는 없지만 지운 글: 실제로 겹치는지 읽어 보세요")
else:
    print("이 말뭉치에는 정답이 없습니다. 지운 글의 보기를 직접 읽어 보세요.")
    report.text("이 말뭉치에는 중복의 정답이 없습니다. 지운 글의 보기를 직접 읽어 보세요.")
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - 문턱을 0.6으로 낮추면 무엇이 더 지워지나요? 조리법처럼 틀이 같은 글을 조심하세요.
# - `unit: word, size: 3`으로 바꾸면 띄어쓰기가 다른 복사본은 어떻게 되나요?
# - 조각의 크기를 3과 9로 바꾸고 3절의 그림을 다시 그려 보세요.
