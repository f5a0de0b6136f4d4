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
# # 2주차. 글 모으기
#
# 사전 학습의 첫걸음은 글을 모으는 일입니다. 모은 글은 언제나 지저분합니다. 줄이 깨져 있고, 인코딩이 섞여 있고, 같은 글이 여러 번
# 들어 있고, 남의 전화번호가 그대로 있습니다. 이번 단계에서는 글을 **날것 그대로** 조각 파일에 담고, 읽을 수 없는 것은 버리지 않고
# 따로 모아 둡니다. 고치는 일은 다음 단계(`make week2-clean`)의 몫입니다.

# %%
import gzip
import json
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from llm_workshop.artifacts import Artifacts
from llm_workshop.corpora.catalogue import CATALOGUE
from llm_workshop.corpora.document import Document, read_documents
from llm_workshop.corpora.loaders import find_files
from llm_workshop.curation.collect import build_raw
from llm_workshop.curation.sources import Source
from llm_workshop.curation.words import TITLES, reason_in_korean
from llm_workshop.report import Report
from llm_workshop.report.plots import COLORS, new_figure
from llm_workshop.settings import settings_from_command_line

settings = settings_from_command_line(uses=("curation", "corpus.kinds"))
artifacts = Artifacts(settings)
report = Report(artifacts, "week02-collect", "2주차: 글 모으기")

# %% [markdown]
# ## 1. 어디에서 모을까
#
# 한국어 글은 위키백과, 뉴스, 영화평, 청원, 기술 문서처럼 출처마다 문체도 흠도 다릅니다. 출처를 고를 때는 **쓸 권리가 있는지**(라이선스)부터
# 봅니다. 아래는 이 워크숍이 이름으로 아는 말뭉치입니다. `DATA=petitions`처럼 이름을 대거나, `DATA=내글.jsonl`처럼 파일을 대면 됩니다.
# 이 컴퓨터에 파일이 있는 말뭉치는 바로 쓸 수 있고, 나머지는 허브에서 받습니다.

# %%
report.section("1. 어디에서 모을까")
known = []
for corpus in CATALOGUE.values():
    here = bool(find_files(corpus.train_files))
    where = "이 컴퓨터" if here else "허브" if corpus.hub else "직접 받기"
    known.append({"이름": corpus.name, "내용": corpus.title, "라이선스": corpus.licence, "있는 곳": where})
    print(f"{corpus.name:16} {where:8} {corpus.licence:14} {corpus.title}")
report.table(known)

# %% [markdown]
# ## 2. 깨진 것도 끝까지 읽는다
#
# 파일 하나에 깨진 줄이 하나 있다고 밤새 돌던 작업이 멈추면 안 됩니다. 그렇다고 말없이 건너뛰어도 안 됩니다. 그래서 읽을 수 없는 것은
# **파일과 줄 번호, 까닭을 적어 따로 모으고**(quarantine), 그 비율이 문턱(`curation.broken_share`)을 넘을 때만 멈춥니다.
#
# 성한 것과 일부러 망가뜨린 것을 섞어 파일 다섯 개를 읽어 봅시다. CP949와 UTF-16은 윈도에서 저장한 옛 파일에 흔합니다.

# %%
report.section("2. 깨진 것도 끝까지 읽는다")
rows = []
with tempfile.TemporaryDirectory() as folder:
    box = Path(folder)
    (box / "1-good.jsonl").write_text('{"text": "첫째 글입니다."}\n{"text": "둘째 글입니다."}\n', encoding="utf-8")
    (box / "2-broken.jsonl").write_text('{"text": "여기까지는 좋았는데"}\n{"text": "따옴표가 닫히지\n{"제목": "본문이 없다"}\n', encoding="utf-8")
    (box / "3-cp949.txt").write_bytes("옛날 메모장이 저장한 글입니다.\n".encode("cp949"))
    (box / "4-utf16.txt").write_text("바이트 순서 표시가 붙은 글입니다.\n", encoding="utf-16")
    packed = gzip.compress('{"text": "압축이 풀리다가 끊깁니다."}\n'.encode() * 500)
    (box / "5-cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    for path in sorted(box.iterdir()):
        good, broken = [], []
        for item in Source(str(path)):
            (good if isinstance(item, Document) else broken).append(item)
        first = good[0].text if good else ""
        reasons = ", ".join(f"{item.line}번째 줄: {reason_in_korean(item.reason)}" for item in broken[:2])
        rows.append({"파일": path.name, "읽은 글": len(good), "따로 둔 것": len(broken), "까닭": reasons, "첫 글": first})
        print(f"{path.name:18} 글 {len(good):3}  따로 둔 것 {len(broken)}  {reasons}")
report.table(rows, caption="파일 다섯 개를 읽은 결과")

# %% [markdown]
# ## 3. 조각으로 나누어 담는다
#
# 모은 글은 `raw-00000.jsonl`, `raw-00001.jsonl`처럼 일정한 크기의 조각으로 담습니다. 조각은 **일의 단위**(프로세스 하나가 하나씩)이자
# **실패의 단위**(죽으면 그 조각만 다시)입니다. 줄마다 id가 있어, 어느 단계에서 어떻게 되었는지 끝까지 따라갈 수 있습니다.
#
# 표본에는 흠이 섞입니다(`curation.noise`). 현실과 다른 점이 하나 있습니다. **무엇이 흠인지 우리가 안다**는 것입니다.

# %%
report.section("3. 조각으로 나누어 담는다")
raw = build_raw(artifacts)
metrics = artifacts.read_manifest("raw")["metrics"]
shards = sorted(raw.glob("raw-*.jsonl"))
print(f"글 {metrics['documents']:,}편, 조각 {len(shards)}개, 따로 둔 것 {metrics['broken']}개")
report.facts({
    "글": f"{metrics['documents']:,}편",
    "조각": f"{len(shards)}개, 모두 {sum(path.stat().st_size for path in shards) / 1e6:.1f} MB",
    "따로 둔 것": f"{metrics['broken']}개",
    "종류": ", ".join(f"{name} {count}" for name, count in metrics["kinds"].items()),
})  # fmt: skip

# %% [markdown]
# ## 4. 어떤 글이 섞여 있나
#
# 숫자보다 글을 먼저 보세요. 흠마다 하나씩 꺼냈습니다. 어떤 것은 고칠 수 있고(태그, 깨진 글자), 어떤 것은 버려야 하고(스팸, 잘린 글),
# 어떤 것은 이 글 하나만 보아서는 알 수 없습니다(똑같은 글, 비슷한 글). 셋의 차이가 다음 두 단계를 나눕니다.

# %%
report.section("4. 어떤 글이 섞여 있나")
counts: Counter[str] = Counter()
examples: dict[str, str] = {}
lengths: dict[str, list[int]] = defaultdict(list)
for path in shards:
    for document in read_documents(path):
        fault = document.noise[0]["type"] if document.noise else "clean"
        counts[fault] += 1
        lengths["흠 없는 글" if fault == "clean" else "흠 있는 글"].append(len(document.text))
        if fault != "clean" and fault not in examples and len(document.text) > 40:
            examples[fault] = " ".join(document.text.split())[:90]
if examples:
    for fault, text in examples.items():
        print(f"\n[{TITLES[fault]}]\n  {text}")
    report.table([{"흠": TITLES[fault], "글": counts[fault], "보기": text} for fault, text in examples.items()])
else:
    print("이 말뭉치에는 정답이 없습니다. 흠은 다음 단계에서 규칙이 찾습니다.")
    report.text("이 말뭉치에는 흠의 정답이 없습니다. 다음 단계에서 규칙이 찾은 것을 직접 읽어 보세요.")

# %% [markdown]
# ## 5. 그림으로
#
# 왼쪽은 흠의 종류, 오른쪽은 글의 길이입니다. 길이의 분포가 여러 봉우리인 것은 대화, 영화평, 백과사전 글이 섞였기 때문입니다.
# 문턱을 정할 때 이 그림을 먼저 봅니다. "50자보다 짧으면 버린다"는 규칙은 영화평을 통째로 잃을 수도 있습니다.

# %%
report.section("5. 그림으로")
figure, axes = new_figure(1, 2, width=5.2, height=3.8)
shown = {TITLES.get(fault, "흠 없는 글"): count for fault, count in counts.most_common()}
shown.pop("흠 없는 글", None)
if shown:
    places = range(len(shown))
    axes[0].barh(places, list(shown.values()), color=COLORS[1])
    axes[0].set_yticks(places, list(shown))
    axes[0].invert_yaxis()
    axes[0].grid(axis="y", visible=False)
    axes[0].set_title(f"흠이 있는 글 {sum(shown.values()):,}편 (흠 없는 글 {counts['clean']:,}편)")
else:
    axes[0].barh(range(len(metrics["kinds"])), list(metrics["kinds"].values()), color=COLORS[0])
    axes[0].set_yticks(range(len(metrics["kinds"])), list(metrics["kinds"]))
    axes[0].set_title("글의 종류")
axes[0].set_xlabel("글의 수")
edges = [10 * 1.25**i for i in range(34)]
for name, color in (("흠 없는 글", COLORS[0]), ("흠 있는 글", COLORS[1])):
    if lengths[name]:
        axes[1].hist(lengths[name], bins=edges, alpha=0.7, label=name, color=color)
axes[1].set_xscale("log")
axes[1].set_xticks([10, 100, 1000, 10000], ["10", "100", "1천", "1만"])
axes[1].set_title("글의 길이")
axes[1].set_xlabel("글자 수 (로그 눈금)")
axes[1].legend()
report.figure(figure, "mixture", "모은 글의 흠과 길이")
report.save()
print(f"\n첫 줄을 눈으로 보세요:  head -n 1 {shards[0]}")
print(json.dumps(json.loads(shards[0].open(encoding="utf-8").readline()), ensure_ascii=False, indent=1)[:600])

# %% [markdown]
# ## 스스로 해 보기
#
# - `make week2-collect DATA=nsmc ARGS="curation.megabytes=2"`: 진짜 영화평의 길이 분포는 어떻게 다른가요?
# - `make week2-collect ARGS="curation.noise=0.6"`: 흠을 두 배로 섞고 다음 단계의 성적이 어떻게 달라지는지 보세요.
# - 여러분의 글을 `내글.jsonl`로 만들어 `DATA=내글.jsonl`로 모아 보세요. 한 줄에 `{"text": "..."}` 하나입니다.
