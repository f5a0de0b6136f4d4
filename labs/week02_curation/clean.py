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
# # 2주차. 글 다듬기
#
# 규칙은 두 가지뿐입니다. 글을 **고치는** 규칙과 글을 **버리는** 규칙. 되돌릴 수 있는 흠은 고치고, 되돌릴 수 없는 흠은 버립니다.
# 이번 단계에서는 규칙을 하나씩 손으로 만져 본 다음, 차례로 엮어 조각마다 나란히 돌립니다.
# 규칙의 코드는 `src/llm_workshop/curation/steps/`에, 규칙의 차례는 `curation/recipes/korean.yaml`에 있습니다.

# %%
import shutil
import tempfile
import unicodedata
from pathlib import Path

from llm_workshop.artifacts import Artifacts
from llm_workshop.corpora.document import read_documents
from llm_workshop.curation.card import rule_rows, rules_plot
from llm_workshop.curation.collect import build_raw
from llm_workshop.curation.measure import apply_steps, measure
from llm_workshop.curation.pipeline import build_clean, clean_shards, read_card
from llm_workshop.curation.recipe import load_recipe, parse_recipe
from llm_workshop.curation.shards import clean_name, count_shards
from llm_workshop.curation.step import Drop
from llm_workshop.curation.steps import steps_by_name
from llm_workshop.curation.words import detail_in_korean, reason_in_korean, title_of, why
from llm_workshop.report import Report
from llm_workshop.settings import settings_from_command_line

settings = settings_from_command_line(uses=("curation",))
artifacts = Artifacts(settings)
report = Report(artifacts, "week02-clean", "2주차: 글 다듬기")
raw = build_raw(artifacts)
recipe = load_recipe(settings.curation.recipe)
for step in recipe.steps:
    step.start()  # 모델을 쓰는 규칙은 여기서 읽습니다(처음이면 표본으로 몇 초 동안 배웁니다).


def try_rule(name: str, text: str, **options) -> str:
    """규칙 하나를 글 하나에: 고친 글, 또는 버린 까닭."""
    step = steps_by_name()[name](**options)
    step.start()
    outcome = step(text, {})
    return f"[버림: {why(outcome.reason, outcome.detail)}]" if isinstance(outcome, Drop) else outcome


# %% [markdown]
# ## 1. 눈에 같은 글은 컴퓨터에게도 같아야 한다
#
# 아래 세 글은 눈으로 보면 바른 글과 같거나 비슷합니다. 하나는 맥에서 온 파일 이름처럼 자모로 쪼개졌고(NFD), 하나는 폭이 없는 글자가
# 끼어 있고, 하나는 로마자가 한글만큼 넓습니다(전각).
# 그대로 두면 같은 낱말이 서로 다른 토큰이 되고, 같은 글이 중복으로 잡히지 않습니다.

# %%
report.section("1. 눈에 같은 글은 컴퓨터에게도 같아야 한다")
twins = {
    "NFD": ("한국어 글", unicodedata.normalize("NFD", "한국어 글")),
    "폭 없는 글자": ("한국어 글", "한\u200b국\u200b어 글"),
    "전각": ("AI 한국어", "ＡＩ 한국어"),
}
rows = []
for name, (plain, twin) in twins.items():
    fixed = try_rule("unicode", twin)
    rows.append({"흠": name, "보이는 글": twin, "글자 수": len(twin), "고친 글": fixed, "고친 뒤 글자 수": len(fixed)})
    print(f"{name:10} {len(twin):2}자 → {len(fixed)}자  {fixed}  고친 글 = '{plain}': {fixed == plain}")
report.table(rows)

# %% [markdown]
# ## 2. 깨진 글자는 되돌릴 수 있을까
#
# UTF-8로 쓴 글을 서유럽 인코딩으로 읽으면 `ë°¥`이 됩니다. 바이트는 그대로 남아 있으므로 **거꾸로 가면 돌아옵니다**.
# CP949로 쓴 글을 UTF-8로 읽으면 `�`가 됩니다. 바이트가 이미 사라져 **되돌릴 수 없으므로 버립니다**.

# %%
report.section("2. 깨진 글자는 되돌릴 수 있을까")
sentence = "오늘 저녁에는 된장찌개를 끓여 먹었습니다. 두부를 넉넉히 넣었어요."
broken = {
    "UTF-8을 latin-1로": sentence.encode("utf-8").decode("latin-1"),
    "CP949를 latin-1로": sentence.encode("cp949").decode("latin-1"),
    "CP949를 UTF-8로": sentence.encode("cp949").decode("utf-8", "replace"),
}
rows = []
for name, text in broken.items():
    rows.append({"무슨 일": name, "깨진 글": text[:24], "결과": try_rule("mojibake", text)})
    print(f"{name:16} {text[:20]!r:34} → {rows[-1]['결과']}")
report.table(rows)

# %% [markdown]
# ## 3. 껍데기를 벗긴다
#
# 웹에서 온 글은 태그, 메뉴, 저작권 줄에 싸여 있습니다. 태그는 정규식이 아니라 **HTML을 읽는 도구**(selectolax)로 걷어 냅니다.
# 닫히지 않은 태그나 `&lt;`처럼 글자로 적힌 부등호를 정규식은 자주 틀립니다.

# %%
report.section("3. 껍데기를 벗긴다")
page = '<div class="post"><p>1 &lt; 2 이고&nbsp;3 &gt; 2 입니다.</p><script>track();</script><b>굵은 글</b>도 남습니다.<br>끝'
print(page, "\n→", try_rule("html", page))
menu = "홈 > 게시판 > 자유글\n조회 1,204 | 추천 8 | 댓글 3\n오늘은 아침부터 비가 내렸다. 우산을 챙겨 나갔다.\n목록 | 이전글 | 다음글\nCopyright (c) 가나다 All rights reserved."
print(f"\n{menu}\n→ {try_rule('boilerplate', menu)}")
report.table([{"앞": page, "뒤": try_rule("html", page)}, {"앞": menu, "뒤": try_rule("boilerplate", menu)}])

# %% [markdown]
# ## 4. 싹 지우기의 값
#
# 인터넷의 한국어 전처리 글에는 한 줄이 자주 나옵니다. `re.sub(r"[^\w\s가-힣]", "", text)`. 깨끗해 **보이지만** 무엇을 잃을까요?
# 우리는 이 한 줄도 규칙으로 만들어 두었습니다. 예문으로 먼저 보고, 다음에는 흠이 **없는** 글을 얼마나 바꾸는지 셉니다.

# %%
report.section("4. 싹 지우기의 값")
sayings = ["환율이 1,385.5원, 3.5% 올랐다.", "C++과 C#은 다르다!", "정말요? 정말요. 정말요!", "\"가자.\" 그가 말했다."]
rows = []
for text in sayings:
    rows.append({"글": text, "싹 지우면": try_rule("naive_wipe", text), "우리 규칙": try_rule("repetition", try_rule("unicode", text))})
for row in rows:
    print(f"{row['글']:28} → {row['싹 지우면']:24} | {row['우리 규칙']}")
report.table(rows)
sample = [d for path in sorted(raw.glob("raw-*.jsonl"))[:2] for d in read_documents(path)]
clean_only = [d for d in sample if not d.noise]
wiped = measure(clean_only, parse_recipe("title: 싹 지우기\nsteps: [naive_wipe]").steps)
ours = measure(clean_only, parse_recipe("title: 고치기\nsteps: [mojibake, unicode, html, repetition, whitespace]").steps)
changed = {"싹 지우기": 1 - wiped.clean_kept, "우리 규칙": 1 - ours.clean_kept}
for name, share in changed.items():
    print(f"{name}: 흠 없는 글 {len(clean_only):,}편 가운데 {share:.1%}를 바꿈")
report.table([{"규칙": name, "흠 없는 글을 바꾼 비율": f"{share:.1%}"} for name, share in changed.items()])

# %% [markdown]
# ## 5. 개인정보를 가린다
#
# 모델은 전화번호도 외웁니다. 그래서 번호를 `[전화번호]` 같은 낱말로 바꿉니다. 지우지 않고 **바꾸는** 까닭은 문장을 살리기 위해서입니다.
# 모양(정규식)만 보면 버전 번호와 금액까지 가려지므로, 검사 숫자(주민등록번호, 카드)나 둘레의 낱말(계좌, 주소)을 함께 봅니다.
# 뒤의 조사는 건드리지 않습니다. 그래서 `com으로`가 `[이메일]으로`가 됩니다('이메일로'가 맞습니다). 원문의 말을 규칙이 새로 쓰기 시작하면
# 어디까지 바꾸었는지 알기 어려워지고, 가린 자리는 어차피 모델이 낱말 하나로 배우기 때문입니다.

# %%
report.section("5. 개인정보를 가린다")
private = [
    "문의는 010-0123-4567 또는 hong@example.com으로 주세요.",
    "주민번호 800101-1980000 확인 부탁드립니다.",
    "주문 번호 800101-1980001은 자릿수만 같으므로 그대로 둡니다.",
    "버전 10.0.22621.2506을 설치하고 2026-11-21에 다시 보세요.",
]
rows = [{"글": text, "가린 글": try_rule("personal_data", text)} for text in private]
for row in rows:
    print(f"{row['글']}\n  → {row['가린 글']}")
report.table(rows)

# %% [markdown]
# ## 6. 버릴 글을 버린다
#
# 고칠 수 없는 글은 버립니다. 규칙마다 보는 것이 다릅니다. 어떤 규칙에 왜 걸렸는지가 반드시 남아야, 나중에 문턱을 고칠 수 있습니다.
# 여기서는 까닭을 우리말로 풀어 보여 줍니다. 파일에는 코드에 적힌 이름(`little_hangul` 따위)이 남으니, 그 이름으로 `steps/`를 찾으면 무엇을
# 쟀는지 읽을 수 있습니다. 두 이름은 `curation/words.py`에 나란히 있습니다.

# %%
report.section("6. 버릴 글을 버린다")
poor = {
    "다른 언어": "The library near the station opens at nine in the morning. We walked because the bus was late.",
    "무너진 띄어쓰기": "오늘은날씨가무척좋아서친구와함께공원에가서도시락을먹고사진을많이찍었습니다정말즐거운하루였습니다",
    "의미 없는 글": "ㅁㄴㅇㄹ ㅎㅗㅓㅏ ㅁㄴㅇㄹ ㅁㄴㅇ ㄹㅎㅗ ㅓㅏㅣ ㅁㄴㅇㄹ ㅁㄴㅇㄹ ㅋㅌㅊㅍ",
    "되풀이": "지금 바로 신청하세요\n" * 8,
    "괜찮은 글": "우리 동네 도서관은 아침 아홉 시에 문을 엽니다. 창가 자리에 앉으면 강이 보여서 저는 늘 그 자리에 앉아요.",
}
rows = []
for name, text in poor.items():
    outcome = apply_steps(recipe.steps, text)
    verdict = f"{title_of(outcome.dropped_by)}: {why(outcome.drop.reason, outcome.drop.detail)}" if outcome.drop else "남김"
    rows.append({"글": name, "결과": verdict})
    print(f"{name:10} → {verdict}")
report.table(rows)

# %% [markdown]
# ## 7. 차례로 엮어 조각마다 나란히
#
# 이제 규칙 전부를 모든 조각에 적용합니다. 프로세스마다 조각을 하나씩 맡고, 조각이 끝나면 결과가 한꺼번에 나타납니다. 한밤중에 죽어도
# 끝난 조각은 다시 하지 않습니다. 버린 글은 사라지지 않고 `dropped-*.jsonl`에 까닭과 함께 남습니다.

# %%
report.section("7. 차례로 엮어 조각마다 나란히")
build_clean(artifacts, recipe)
card = read_card(artifacts)
before, after = card["before"]["documents"], card["after"]["documents"]
print(f"\n글 {before:,}편 → {after:,}편 ({after / before:.1%}), {card['seconds']:.1f}초, 초당 {before / card['seconds']:,.0f}편, 프로세스 {card['workers']}개")
for row in rule_rows(card):
    print(f"  {row['규칙']:14} 고친 글 {row['고친 글']:6,}  버린 글 {row['버린 글']:6,}  {row['µs/글']:7.1f} µs/글  {row['버린 까닭']}")
report.table(rule_rows(card), caption="규칙이 한 일 (차례대로)")
report.figure(rules_plot(card), "rules", "규칙마다 버린 글과 고친 글, 글 하나에 걸린 시간")

# %% [markdown]
# ## 8. 정말 이어서 할까
#
# 말로만 믿지 말고 해 봅시다. 같은 조각들을 다른 폴더에서 다듬은 다음, 끝난 조각 하나를 지우고 다시 부릅니다. **하나만** 다시 해야 하고,
# 다시 만든 조각은 처음 것과 **바이트까지** 같아야 합니다.

# %%
report.section("8. 정말 이어서 할까")
with tempfile.TemporaryDirectory() as folder:
    few = Path(folder) / "raw"
    few.mkdir()
    for path in sorted(raw.glob("raw-*.jsonl"))[:3]:
        shutil.copy(path, few)
    done = Path(folder) / "done"
    first = clean_shards(recipe.steps, few, done, 1)
    victim = done / clean_name(count_shards(few) - 1)
    original = victim.read_bytes()
    victim.unlink()
    again = clean_shards(recipe.steps, few, done, 1)
    same = victim.read_bytes() == original
print(f"처음에 한 조각 {first}개, 하나를 지우고 다시 한 조각 {again}개, 바이트까지 같은가: {'같음' if same else '다름!'}")
report.facts({"처음에 한 조각": first, "하나를 지우고 다시 한 조각": again, "다시 만든 조각": "바이트까지 같음" if same else "다름!"})

# %% [markdown]
# ## 9. 버린 글을 읽는다
#
# 이 실습에서 가장 중요한 순간입니다. 규칙마다 버린 글을 몇 편씩 읽고, **아까운 글이 있는지** 스스로 판단하세요. 아까운 글이 보이면 그 규칙의
# 문턱을 고칠 때입니다. 전부 읽고 싶으면 `dropped-*.jsonl`을 여세요.

# %%
report.section("9. 버린 글을 읽는다")
for rule in card["rules"]:
    if not rule["drops"]:
        continue
    print(f"\n[{title_of(rule['name'])}] {rule['dropped']}편")
    rows = []
    for example in rule["drops"][:4]:
        start = " ".join(example["start"].split())[:100]
        rows.append({"까닭": reason_in_korean(example["reason"]), "자세히": detail_in_korean(example["detail"]), "글": start})
        print(f"  {why(example['reason'], example['detail'])}: {start}")
    report.heading(f"{title_of(rule['name'])}: 버린 글 {rule['dropped']}편", 3)
    report.table(rows)
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `korean.yaml`을 `my.yaml`로 베껴 `hangul_ratio`의 `minimum`을 0.2와 0.8로 바꾸어 보세요. 버린 글이 어떻게 달라지나요?
# - `make week2-clean DATA=msdocs ARGS="curation.megabytes=4"`: 기계가 번역한 기술 문서에서는 어느 규칙이 가장 많이 버리나요? 그 판단에 동의하나요?
# - 규칙의 차례를 거꾸로 해 보세요. 무엇이 달라지나요?
