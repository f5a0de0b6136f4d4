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
# # 6주차. 지시를 따르게 하기
#
# 사전 학습한 모델에게 "이 영화평은 긍정인가요?" 하고 물으면 답 대신 비슷한 질문을 이어 쓰기 쉽습니다. 글을 이어 쓰는 것이
# 지금까지 배운 전부이기 때문입니다. 이번 실습에서는 **지시와 답의 쌍**을 보여 주어, 묻는 말에 답하는 모델을 만듭니다.
# 배우는 방법은 5주차와 똑같은 다음 토큰 맞히기입니다. 달라지는 것은 셋뿐입니다. 글을 어떤 **틀**에 담는가,
# **어느 토큰을 배우게 하는가**, 길이가 제각각인 짧은 글을 **어떻게 묶는가**.
#
# 셀을 하나씩 실행하며 읽어도 되고, 터미널에서 `make week6-instruct`로 한 번에 돌려도 됩니다.

# %%
from collections import Counter

import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.finetuning.answer_scores import TaskScore, both_ends, kind_of
from llm_workshop.finetuning.instruction_plots import answer_plot, layout_plot
from llm_workshop.finetuning.judge import ModelJudge, RuleJudge, endpoint, mean_points
from llm_workshop.pipeline import build_base_model, build_corpus, build_tokenizer, build_tokens
from llm_workshop.pipeline.chat_model import build_chat_model, load_from, read_answers
from llm_workshop.progress import print_korean
from llm_workshop.report import Report
from llm_workshop.settings import settings_from_command_line
from scratch_llm.finetuning.instruction import LAYOUTS, InstructionWindows, prepare
from scratch_llm.finetuning.templates import TEMPLATES
from scratch_llm.models import load_model
from scratch_llm.tokenizers import ByteLevelBPE

settings = settings_from_command_line(uses=("instruct",))
artifacts = Artifacts(settings)
report = Report(artifacts, "week06-instruct", "6주차: 지시를 따르게 하기")
instruct = settings.instruct

# %% [markdown]
# ## 1. 재료: 지시와 답
#
# 5주차의 모델이 없으면 지금 만듭니다. 지시 자료의 기본값은 표본 말뭉치입니다. 대화는 그대로 쓰고, 리뷰와 문장 쌍과 독해 글은
# 정답을 알고 있으므로 "물음과 답"으로 바꾸어 씁니다. 이렇게 **이미 있는 정답을 지시 꼴로 바꾸는 것**이 FLAN(Wei 외, 2022)이
# 한 일입니다. `instruct.data=sft_ko`는 공개된 한국어 자료 열네 과제로 만든 3만 9천여 건, `instruct.data=book`은
# Raschka의 책 *Build a Large Language Model (From Scratch)* 7장의 영어 자료입니다.

# %%
report.section("1. 재료: 지시와 답")
build_corpus(artifacts, force=False)
build_tokenizer(artifacts, force=False)
build_tokens(artifacts, force=False)
base = build_base_model(artifacts, force=False, log=print_korean)
tokenizer, model = ByteLevelBPE.load(base), load_model(base).eval()
data = load_from(settings)
KINDS = {"closed": "닫힘 (답이 몇 가지)", "choice": "고르기 (보기에서)", "open": "열림"}
rows = []
for task in data.tasks:
    mine = [example for example in data.train if example.task == task]
    asked = [example for example in data.valid if example.task == task]
    common, count = Counter(example.answer for example in asked).most_common(1)[0]
    rows.append({"과제": task, "갈래": KINDS[kind_of(asked)], "배울 것": len(mine), "물을 것": len(asked),
                 "가장 흔한 답": both_ends(common, 24), "그 비율": f"{count / len(asked):.1%}"})  # fmt: skip
    first = asked[0]
    print_korean(f"[{task}] {both_ends(first.prompt[-1]['content'], 120)} → {both_ends(first.answer, 60)}")
report.table(rows)

# %% [markdown]
# ## 2. 한 줄로 적기: 틀
#
# 모델은 토큰 한 줄만 봅니다. 어디까지가 질문이고 어디부터가 답인지를 **늘 같은 꼴**로 적어 주어야 합니다.
#
# - **chat**: 역할마다 특수 토큰이 하나씩 있습니다. 차례가 몇 번이든 적을 수 있고, 사람이 친 글이 틀을 흉내 낼 수 없습니다.
# - **alpaca**: 같은 책 7장이 쓰는 Stanford Alpaca의 꼴입니다. 보통 글자로 된 제목뿐이어서 어느 토크나이저로도 적을 수 있습니다.
#
# 어느 쪽이 낫다기보다, **배울 때와 물을 때가 같아야** 한다는 것이 중요합니다. 그래서 틀은 토크나이저의 설정에 Jinja로 함께 저장합니다.
# 아래에서 `▁`는 가린 토큰(손실에 들지 않음), `■`는 배우는 토큰입니다.

# %%
report.section("2. 한 줄로 적기: 틀")
shown = next(example for example in data.valid if len(example.messages) == 2 and len(example.prompt[-1]["content"]) < 200)
for template in TEMPLATES:
    [row], _ = prepare([shown], tokenizer, 10_000, template=template)  # 문맥보다 길어도 보여 줍니다
    print_korean(f"\n[{template}] 토큰 {len(row.ids)}개, 그 가운데 배우는 것 {int(row.learn.sum())}개")
    print_korean(tokenizer.decode(row.ids.tolist()))
    print("".join("■" if learnt else "▁" for learnt in row.learn))
    report.text(f"**{template}** (토큰 {len(row.ids)}개, 배우는 것 {int(row.learn.sum())}개)").output(tokenizer.decode(row.ids.tolist()))

# %% [markdown]
# ## 3. 답만 배우기
#
# 질문의 토큰에는 정답 자리에 -100을 넣어 손실에서 뺍니다. 질문은 사람이 쓰는 것이지 모델이 쓸 것이 아니기 때문입니다.
# 빼지 않으면 어떤 일이 생길까요? 답이 한두 토큰뿐인 과제에서는 손실의 대부분이 질문을 외우는 데 쓰입니다.
# 반대로 **답의 끝 토큰은 꼭 배우게** 해야 합니다. 그래야 모델이 멈출 줄 압니다.
#
# 너무 긴 예는 질문의 **가운데**를 덜어 냅니다. 지시는 대개 처음이나 끝에 있고, 답은 한 토큰도 버릴 수 없기 때문입니다.

# %%
report.section("3. 답만 배우기")
train_rows, count = prepare(data.train, tokenizer, model.config.context_length, template=instruct.template)
n_tokens = sum(len(row.ids) - 1 for row in train_rows)
n_learnt = sum(int(row.learn[1:].sum()) for row in train_rows)
print_korean(f"train: {count}")
print_korean(f"토큰 {n_tokens:,}개 가운데 배우는 것은 {n_learnt:,}개 ({n_learnt / n_tokens:.0%})")
report.facts({"예": count.kept, "질문을 줄인 것": count.shortened, "뺀 것": sum(count.dropped.values()),
              "토큰": n_tokens, "배우는 토큰의 비율": f"{n_learnt / n_tokens:.1%}"})  # fmt: skip

# %% [markdown]
# ## 4. 묶어 담기
#
# 지시 자료의 글은 짧고 길이가 제각각입니다. 한 줄에 하나씩 담고 문맥 길이까지 패딩으로 채우면(padded) 계산의 대부분이 버려집니다.
# 길이가 비슷한 것끼리 묶거나(grouped), 한 줄에 여러 개를 이어 담을(packed) 수 있습니다.
#
# 이어 담을 때는 **서로를 보지 못하게** 해야 합니다. 그냥 이어 붙이면 뒤의 글이 앞의 남의 질문과 답을 문맥으로 읽습니다(오염).
# 우리 모델은 글마다 번호를 받아 어텐션을 글 안으로 막고, 위치도 글마다 0부터 다시 셉니다. 그래서 이어 담은 글의 로짓이
# 따로 계산한 것과 같습니다. 직접 재어 봅시다.

# %%
report.section("4. 묶어 담기")
fills = {}
for layout in LAYOUTS:
    windows = InstructionWindows(train_rows, model.config.context_length, instruct.batch_size, layout=layout)
    fills[layout] = windows.fill
    print(f"{layout:8} 한 에포크 {windows.n_batches:5,}배치, 글로 찬 자리 {windows.fill:.0%}")
packed = InstructionWindows(train_rows, model.config.context_length, 1, seed=settings.seed, layout="packed")
number = next((n for n in range(min(50, packed.n_batches)) if packed.batch(n)[0][0, 1].max() > 1), 0)
inputs, _ = packed.batch(number)
tokens, numbers = inputs[:, 0], inputs[:, 1]
last = int(numbers.max())
place = (numbers[0] == last).nonzero()[:, 0]
with torch.no_grad():
    alone = model(tokens[:, place])[0]
    apart = model(tokens, padding_mask=numbers)[0, place]
    mixed = model(tokens)[0, place]
differences = {"번호를 준 것": (apart - alone).abs().max().item(), "그냥 이어 붙인 것": (mixed - alone).abs().max().item()}
print_korean(f"한 줄에 글 {last}개. 마지막 글의 로짓이 따로 계산한 것과 다른 정도(최댓값):")
for name, value in differences.items():
    print_korean(f"  {name}: {value:.2g}")
report.table([{"담는 법": layout, "글로 찬 자리": f"{fill:.1%}"} for layout, fill in fills.items()])
report.facts({f"로짓의 차이, {name}": value for name, value in differences.items()})
report.figure(layout_plot(fills, numbers[0].tolist()), "layouts", "왼쪽: 글로 찬 자리의 비율. 오른쪽: 이어 담은 한 줄에서 누가 누구를 보는가")

# %% [markdown]
# ## 5. 학습
#
# 5주차의 학습 루프를 그대로 씁니다. 먼저 지금 모델에게 검증 질문을 물어 두고(전), 배운 다음 같은 질문을 다시 묻습니다(후).
# 학습률은 사전 학습의 절반 아래에서 시작하는 것이 무난합니다. 도중에 멈추어도 같은 명령으로 이어 갑니다.

# %%
report.section("5. 학습")
folder = build_chat_model(artifacts, log=print_korean)
facts = artifacts.read_manifest("chat-model")["metrics"]
report.facts({"배운 걸음": facts["steps"], "검증 손실 (답 토큰)": facts["valid_loss"], "학습 시간 (초)": facts["training_seconds"],
              "초당 토큰": facts["tokens_per_second"]})  # fmt: skip

# %% [markdown]
# ## 6. 채점: 전과 후
#
# 답이 몇 가지로 정해진 과제는 **정확히 일치**한 비율로 봅니다. 그런데 비율 하나만 보면 속기 쉽습니다. 두 답이 반반인 과제라면
# 아무것도 모르고 한 답만 외쳐도 50 %입니다. 그래서 **가장 좋은 상수 답**을 곁에 적습니다. 고르기 과제는 "늘 1번" 같은 답도 상수로 칩니다.
# 이 선을 넘은 만큼만 배운 것입니다.
#
# 열린 과제에는 **chrF**(글자 n-그램이 겹치는 정도)와 **ROUGE-L**(공통 부분 어절열)을 적습니다. 한국어는 조사와 어미 때문에
# 어절로 세는 ROUGE-L이 박하고, 글자로 세는 chrF가 더 고르게 움직입니다.

# %%
report.section("6. 채점: 전과 후")
scores = {name: [TaskScore(**score) for score in part] for name, part in facts["tasks"].items()}
table = []
for before, after in zip(scores["before"], scores["after"]):
    shares = {"일치 (전)": before.exact, "일치 (후)": after.exact, "상수 답": after.constant, "chrF (전)": before.chrf, "chrF (후)": after.chrf,
              "ROUGE-L (후)": after.rouge_l, "스스로 끝냄": after.ended}  # fmt: skip
    table.append({"과제": after.task, "갈래": KINDS[after.kind], "문항": after.n, **{name: f"{share:.1%}" for name, share in shares.items()}})
    print_korean(f"{after.task:12} 일치 {before.exact:5.0%} → {after.exact:5.0%} (상수 {after.constant:4.0%}: {both_ends(after.constant_answer, 28)}),"
                 f" chrF {before.chrf:.1%} → {after.chrf:.1%}, 스스로 끝낸 답 {after.ended:.0%}")  # fmt: skip
report.table(table)
if facts["closed_questions"]:
    gain = facts["closed_exact"] - facts["closed_constant"]
    questions = round(abs(gain) * facts["closed_questions"])
    summary = (f"정답이 정해진 {facts['closed_questions']:,}문항: 전 {facts['closed_exact_before']:.1%}, 후 {facts['closed_exact']:.1%}, "
               f"상수 답 {facts['closed_constant']:.1%} (후가 상수 답보다 {100 * gain:+.1f}%p, {questions:,}문항 차이)")  # fmt: skip
    print_korean(summary)
    report.text(summary)
report.figure(answer_plot(scores["before"], scores["after"]), "scores", "정확히 일치한 비율(닫힌 과제)과 chrF(열린 과제), 배우기 전과 후")

# %% [markdown]
# ## 7. 열린 답을 매기기
#
# 열린 답에는 맞는 말이 여럿입니다. 요즘은 **더 강한 모델에게 채점 기준표를 주고 점수를 매기게** 합니다(LLM-as-a-judge).
# 여기서는 인터넷 없이도 돌도록 **겉모습만 보는 규칙**을 기본으로 씁니다. 빈 답, 되풀이, 길이, 모범 답과 겹치는 글자를 봅니다.
# OpenAI 방식의 서버가 있으면 `ARGS="instruct.judge=http://127.0.0.1:11434/v1 instruct.judge_model=이름"`으로 모델에게 맡길 수 있습니다.
# 심판은 긴 답과 자기 말투를 좋아하고 순서에도 흔들립니다. 점수의 평균을 믿기 전에 판정을 몇 개 읽어 보세요.

# %%
report.section("7. 열린 답을 매기기")
records = read_answers(folder)
open_tasks = {score.task for score in scores["after"] if score.kind == "open"}
judged = [record for record in records if record["task"] in open_tasks][:40]
judge = ModelJudge(endpoint(instruct.judge, instruct.judge_model)) if instruct.judge else RuleJudge()
if judged:
    points = []
    for when, name in (("before", "전"), ("after", "후")):
        verdicts = [judge.judge(record["question"], record["reference"], record[when]) for record in judged]
        mean, unread = mean_points(verdicts)
        points.append({"언제": name, "평균 (1-5)": mean, "답": len(judged), "읽을 수 없는 판정": unread})
        print_korean(f"{name}: 평균 {'–' if mean is None else f'{mean:.2f}'}점 (답 {len(judged)}개, 읽을 수 없는 판정 {unread}개)")
    report.text(f"심판: {'모델 ' + instruct.judge if instruct.judge else '규칙'}").table(points)
else:
    print_korean("열린 과제가 없습니다.")

# %% [markdown]
# ## 8. 답을 읽기
#
# 숫자보다 먼저 답을 읽으세요. 틀린 답이 **어떻게** 틀렸는지가 다음에 할 일을 알려 줍니다. 꼴은 맞는데 내용이 틀렸는지,
# 질문을 베끼는지, 멈추지 못하는지. 긴 글은 처음과 끝만 보이고, 줄인 가운데에 `…`를 둡니다.

# %%
report.section("8. 답을 읽기")
for task in data.tasks:
    for record in [record for record in records if record["task"] == task][:2]:
        lines = (f"질문: {both_ends(record['question'], 160)}", f"전:   {both_ends(record['before'], 90)}",
                 f"후:   {both_ends(record['after'], 90)}", f"정답: {both_ends(record['reference'], 90)}")  # fmt: skip
        print_korean(f"\n[{task}]\n" + "\n".join(lines))
        report.text(f"**{task}**").output("\n".join(lines))
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `make week6-instruct ARGS="instruct.learn=all"`: 질문까지 배우게 하면 닫힌 과제의 점수가 어떻게 되나요?
# - `make week6-instruct ARGS="instruct.layout=padded"`: 한 에포크의 걸음 수가 왜 늘어나나요? '초당 토큰'은 패딩까지 센 수인데, 그것만 보고 빠르기를 견주면 왜 안 되나요?
# - `make week6-instruct ARGS="instruct.template=alpaca"`: 틀을 바꾸면 무엇이 달라지나요? 배운 틀과 다른 틀로 물으면요?
# - `make week10-chat ARGS="chat.model=chat-model"`: 지시를 배운 모델과 대화해 보세요.
