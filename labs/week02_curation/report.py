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
# # 2주차. 데이터 카드와 성적표
#
# 다듬기가 끝났습니다. 잘 다듬어졌는지 어떻게 알까요? 표본에는 정답이 있으니 **잴 수 있고**, 진짜 글에는 정답이 없으니 **읽어야** 합니다.
# 마지막 단계에서는 규칙의 성적표와 데이터 카드를 만들고, 같은 규칙을 NVIDIA NeMo Curator로도 돌려 같은 글이 남는지 확인합니다.

# %%
import time

from llm_workshop.artifacts import Artifacts, make_command
from llm_workshop.corpora.document import read_documents
from llm_workshop.curation.card import add_data_card
from llm_workshop.curation.curated import build_chain, removed_documents, removing_rules
from llm_workshop.curation.curator import curate_python, kept_texts, run_curator
from llm_workshop.curation.dedup.settings import NearSettings, dedup_settings
from llm_workshop.curation.measure import apply_steps, measure
from llm_workshop.curation.recipe import load_recipe
from llm_workshop.curation.words import TITLES, title_of, why
from llm_workshop.report import Report
from llm_workshop.report.plots import COLORS, new_figure
from llm_workshop.settings import settings_from_command_line

settings = settings_from_command_line(uses=("curation",))
artifacts = Artifacts(settings)
report = Report(artifacts, "week02-report", "2주차: 데이터 카드와 성적표")
curated = build_chain(artifacts)
recipe = load_recipe(settings.curation.recipe)
raw = sorted(artifacts.path("raw").glob("raw-*.jsonl"))

# %% [markdown]
# ## 1. 규칙의 성적표
#
# 흠마다 두 가지를 잽니다.
#
# - **재현율**: 그 흠이 있는 글 가운데 바르게 된 비율. 고칠 수 있는 흠은 **깨끗한 원문과 똑같이** 고쳐져야, 고칠 수 없는 흠은 버려져야 맞은 것입니다.
# - **정밀도**: 규칙이 손댄 글 가운데 정말 흠이 있던 비율. 멀쩡한 글을 고치거나 버리면 내려갑니다.
#
# 손댄 글이 많다고 좋은 규칙이 아닙니다. 멀쩡한 글을 **그대로 두는 비율**도 함께 보세요.

# %%
report.section("1. 규칙의 성적표")
documents = [document for path in raw for document in read_documents(path)]
near = dedup_settings(recipe.dedup).near or NearSettings()
graded = any(document.noise for document in documents)
if graded:
    result = measure(documents, recipe.steps, removed_documents(curated), near.threshold, removed_by=removing_rules(curated))
    rows = [
        {"흠": TITLES[fault], "글": count, "고침": restored, "바르게 버림": dropped, "틀림": wrong, "재현율": recall, "정밀도": precision}
        for fault, count, restored, dropped, wrong, recall, precision in result.rows()
    ]
    for row in rows:
        print(f"{row['흠']:14} 글 {row['글']:5,}  재현율 {row['재현율']}  정밀도 {row['정밀도']}")
    print(f"흠 없는 글을 그대로 둔 비율: {result.clean_kept:.4f}")
    report.table(rows, caption=f"흠 없는 글 {result.clean.total():,}편 가운데 {result.clean_kept:.2%}를 그대로 두었습니다")
else:
    print("이 말뭉치에는 정답이 없습니다. 성적표 대신 데이터 카드의 보기를 읽으세요.")
    report.text("이 말뭉치에는 정답이 없어 성적을 잴 수 없습니다. 아래 데이터 카드에서 규칙마다 버린 글을 읽어 보세요.")

# %% [markdown]
# ## 2. 무엇을 틀렸나
#
# 성적보다 값진 것은 **틀린 글**입니다. 규칙을 고칠 실마리가 거기에 있습니다. 다만 여기 나온 글에만 맞추어 고치면 안 됩니다.
# 그것은 평가 문제를 외우는 것과 같습니다. 고친 뒤에는 `SEED=7`처럼 다른 표본에서 다시 재세요.

# %%
report.section("2. 무엇을 틀렸나")
if graded:
    problems = {"left": "손대지 않음", "changed": "잘못 고침", "lost": "고칠 수 있는데 버림", "dropped": "멀쩡한데 버림"}

    def came_out(miss) -> str:
        """나온 글, 또는 버린 까닭."""
        if miss.taken_for:
            return f"같은 글로 보고 남긴 글: {miss.got[:60]}"
        return f"버림: {why(miss.drop.reason, miss.drop.detail)}" if miss.drop else miss.got[:60]

    shown = [
        {"흠": TITLES.get(miss.fault, "흠 없는 글"), "무엇이": problems.get(miss.problem, miss.problem),
         "규칙": ", ".join(map(title_of, miss.rules)) or "–", "바라던 글": miss.expected[:60] or "(버려야 함)", "나온 글": came_out(miss)}
        for miss in result.misses[:24]
    ]  # fmt: skip
    for row in shown[:12]:
        print(f"[{row['흠']}] {row['무엇이']} ({row['규칙']})\n   바라던 글: {row['바라던 글']}\n   나온 글:   {row['나온 글']}")
    if shown:
        report.table(shown)
    else:
        report.text("틀린 글이 없습니다. 흠을 더 섞어(`curation.noise=0.6`) 다시 재 보세요.")
    figure, axes = new_figure(1, 1, width=6.4, height=4.4)
    scores = {TITLES[name]: score for name, score in result.faults.items()}
    for place, score in enumerate(scores.values()):
        axes.plot([score.precision, score.recall], [place, place], color="#cccccc", zorder=1)
        axes.scatter(score.recall, place, color=COLORS[0], s=34, zorder=3, label="재현율" if place == 0 else None)
        axes.scatter(score.precision, place, color=COLORS[1], s=34, marker="D", zorder=2, label="정밀도" if place == 0 else None)
    axes.axvline(0.98, color="#888888", linewidth=1, linestyle=":")
    axes.set_yticks(range(len(scores)), list(scores))
    axes.invert_yaxis()
    lowest = min([0.95, *(value for s in scores.values() for value in (s.recall, s.precision) if value == value)])
    axes.set_xlim(max(0.0, lowest - 0.02), 1.004)
    axes.set_title("흠마다 재현율과 정밀도")
    axes.set_xlabel("점선은 목표 0.98")
    axes.legend(loc="lower left")
    report.figure(figure, "scores", "흠마다 재현율과 정밀도")

# %% [markdown]
# ## 3. 데이터 카드
#
# 어떤 글을 모아 무엇을 얼마나 버리고 고쳤는지, 보기와 함께 적은 문서입니다(Gebru 외, 2021). 몇 달 뒤에 "이 모델은 왜 존댓말을 못 하지?"라고
# 물을 때 처음 펴 볼 곳입니다. 카드는 보고서에 그대로 들어갑니다.

# %%
report.section("3. 데이터 카드")
add_data_card(report, artifacts)
print("데이터 카드를 보고서에 넣었습니다.")

# %% [markdown]
# ## 4. 같은 규칙을 NeMo Curator로
#
# 글이 컴퓨터 한 대를 넘으면 여러 컴퓨터로 나누는 엔진이 필요합니다. NVIDIA NeMo Curator는 읽기, 고치기(modifier), 거르기(filter), 쓰기를
# Ray 위에서 나눕니다. 한국어 규칙은 들어 있지 않으므로 **우리 규칙을 그대로 끼워** 돌리고, 남은 글이 하나하나 같은지 봅니다.
#
# 작은 글에서는 우리 파이프라인이 훨씬 빠릅니다. Ray를 띄우는 데만 몇 초가 들기 때문입니다. 큰 엔진은 컴퓨터가 여러 대일 때 값을 합니다.
# 비슷한 글 찾기는 Curator에서는 GPU(cuDF)가 있어야 하므로 CPU에서는 방금 쓴 우리 MinHash가 그 자리를 맡습니다.

# %%
report.section("4. 같은 규칙을 NeMo Curator로")
try:
    curate_python()
    started = time.perf_counter()
    facts = run_curator(settings.curation.recipe, raw[:2], artifacts.root / "curator", workers=settings.curation.workers or 2)
    elapsed = time.perf_counter() - started
except ValueError as problem:
    print(f"건너뜁니다: {problem}")
    report.text(f"이 컴퓨터에는 NeMo Curator가 없어 건너뛰었습니다. `make env-curate`로 만들 수 있습니다. ({problem})")
else:
    ours, spent = {}, time.perf_counter()
    for step in recipe.steps:
        step.start()
    for path in raw[:2]:
        for document in read_documents(path):
            if (text := apply_steps(recipe.steps, document.text).text) is not None:
                ours[document.id] = text
    spent = time.perf_counter() - spent
    same = kept_texts(artifacts.root / "curator") == ours
    print(f"NeMo Curator {facts['version']}: 글 {facts['read']:,}편 → {facts['kept']:,}편, {facts['seconds']:.1f}초 (Ray를 띄우고 닫기까지 {elapsed:.1f}초)")
    print(f"우리 규칙 (프로세스 하나): {len(ours):,}편, {spent:.1f}초")
    print(f"남은 글이 글자까지 같은가: {'같음' if same else '다름!'}")
    report.facts({
        "NeMo Curator": facts["version"],
        "들어온 글 / 남은 글": f"{facts['read']:,} / {facts['kept']:,}",
        "걸린 시간 (Ray를 띄우고 닫기까지)": f"{facts['seconds']:.1f}초 ({elapsed:.1f}초)",
        "우리 규칙, 프로세스 하나": f"{spent:.1f}초",
        "남은 글": "글자까지 같음" if same else "다름!",
    })  # fmt: skip

# %% [markdown]
# ## 5. 이어서 3주차로
#
# 다듬은 글은 `curated/`에 있습니다. 3주차부터 이 글로 이어 가려면 `ARGS="corpus.curated=true"`를 붙이세요. 토크나이저가 메뉴 줄을
# 토큰으로 배우지 않으면 그만큼의 어휘를 본문에 쓸 수 있습니다.

# %%
report.section("5. 이어서 3주차로")
metrics = artifacts.read_manifest("curated")["metrics"]
kept = {name: part["documents"] for name, part in metrics["kept"].items()}
print(f"학습용 {kept['train']:,}편, 평가용 {kept['valid']:,}편: {curated}")
report.facts({"다듬은 말뭉치": f"학습용 {kept['train']:,}편, 평가용 {kept['valid']:,}편", "이어 쓰기": make_command(settings, "week3-tokenizer", args="corpus.curated=true")})
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `SEED=7`로 다시 모으고 재어 보세요. 성적이 그대로인가요?
# - `make week2-report DATA=petitions`: 진짜 청원 글의 데이터 카드를 읽고, 가장 많이 버린 규칙이 옳았는지 판단해 보세요.
# - `make env-curate`를 한 다음 4절을 다시 돌려 보세요.
