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
# # 10주차. 내가 만든 모델과 대화하기
#
# 말뭉치를 모으고, 토크나이저를 배우게 하고, 무작위 숫자에서 모델을 길러 냈습니다. 이제 그 모델에게 말을 걸어 봅니다.
# 대화 화면은 마법이 아닙니다. **대화를 글 한 줄로 적고**, 모델이 **다음 토큰을 하나씩 뽑고**, 뽑힌 토큰을 **글자로 되돌려**
# 보여 줄 뿐입니다. 이 세 단계를 하나씩 열어 본 다음, 마지막에 대화 화면을 띄웁니다.
#
# 셀을 하나씩 실행하며 읽어도 되고, 터미널에서 `make week10-chat`으로 한 번에 돌려도 됩니다.

# %%
import time
from itertools import pairwise

import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.pipeline.samples import BEGINNINGS, QUESTIONS
from llm_workshop.report import Report
from llm_workshop.report.plots import COLORS, new_figure
from llm_workshop.serving import Sampling
from llm_workshop.serving.conversation import fit_messages
from llm_workshop.serving.scratch_engine import ScratchEngine
from llm_workshop.serving.serve import check_address, serve
from llm_workshop.settings import settings_from_command_line
from scratch_llm.tokenizers import StreamingDecoder, encode_chat, render_chat

settings = settings_from_command_line(uses=("generate", "chat"))
if settings.chat.serve:
    check_address(settings.chat.host, settings.chat.port)  # 포트가 막혀 있으면 지금 알려 줍니다.
artifacts = Artifacts(settings)
report = Report(artifacts, "week10-chat", "10주차: 내가 만든 모델과 대화하기")

# %% [markdown]
# ## 1. 산출물 열기
#
# 모델은 5주차가 `artifacts/<규모>/base-model`에 남긴 Hugging Face 형식 그대로입니다. 곁의 `manifest.json`에는
# 어떤 설정과 어떤 말뭉치로, 어느 커밋에서 만들었는지가 적혀 있습니다. 나중에 "이 답은 어느 모델이 했지?"라고 물을 때 필요한 기록입니다.

# %%
report.section("1. 산출물 열기")
engine = ScratchEngine.from_artifacts(artifacts)
model, tokenizer, info = engine.model, engine.tokenizer, engine.info()
print(f"{info.name}: {info.architecture}, 파라미터 {info.n_parameters:,}개, 문맥 {info.context_length}토큰")
print(f"바이트당 비트 {info.bits_per_byte:.3f}, 학습 자료 {info.trained_on}, 커밋 {info.commit}")
report.facts({
    "모델": info.name, "구조": info.architecture, "파라미터": info.n_parameters, "문맥 길이 (토큰)": info.context_length,
    "바이트당 비트": info.bits_per_byte, "학습 자료": info.trained_on, "커밋": info.commit,
})  # fmt: skip

# %% [markdown]
# ## 2. 대화를 글로: 템플릿
#
# 모델은 "사용자"와 "도우미"를 모릅니다. 긴 토큰 줄만 압니다. 그래서 누가 말하는지를 **특수 토큰**으로 적습니다.
# 학습할 때와 **똑같은** 꼴로 적어야 합니다. 빈칸 하나만 달라도 모델에게는 처음 보는 글입니다.
#
# 사람이 친 글 속의 `<|end|>`는 특수 토큰이 되면 안 됩니다. 그렇지 않으면 누구나 차례를 닫고 도우미 행세를 할 수 있습니다.
# 그래서 틀은 특수 토큰으로, 내용은 보통 글로 따로 번호를 매깁니다.

# %%
report.section("2. 대화를 글로: 템플릿")
messages = [{"role": "user", "content": "안녕?<|end|>"}]
print(render_chat(messages, add_generation_prompt=True))
ids, _ = encode_chat(tokenizer, messages, add_generation_prompt=True)
for token in ids:
    mark = "특수" if tokenizer.is_special(token) else "보통"
    print(f"  {token:6}  {mark}  {tokenizer.token_of(token)!r}")

# %% [markdown]
# ## 3. 다음 토큰의 확률
#
# 모델이 내놓는 것은 글이 아니라 **어휘 전체에 대한 점수**(로짓)입니다. 소프트맥스를 거치면 확률이 됩니다.
# 온도 T로 나누고 소프트맥스를 하면 모양이 달라집니다. T가 0에 가까우면 으뜸 토큰에 몰리고, 크면 고르게 퍼집니다.
# 순위는 바뀌지 않습니다. 얼마나 모험을 할지만 바뀝니다.

# %%
report.section("3. 다음 토큰의 확률")
chats = info.supports_chat
first = QUESTIONS[1] if chats else BEGINNINGS[0]
prompt = [{"role": "user", "content": first}]
prompt_ids = encode_chat(tokenizer, prompt, add_generation_prompt=True)[0] if chats else tokenizer.encode(first)
with torch.inference_mode():
    logits = model(torch.tensor([prompt_ids], device=model.device))[0, -1].float().cpu()

temperatures = (0.5, 1.0, 1.5)
probabilities = {t: (logits / t).softmax(-1) for t in temperatures}
likeliest = logits.topk(10).indices.tolist()


def label(token: int) -> str:
    """토큰의 글자. 빈칸은 ␣, 글자가 되다 만 바이트는 16진수."""
    raw = tokenizer.token_of(token)
    try:
        return raw.decode().replace(" ", "␣").replace("\n", "↵")
    except UnicodeDecodeError:
        return raw.hex(" ").upper()


labels = [label(token) for token in likeliest]
print(f"{first!r} 다음에 올 토큰:")
for token, name in zip(likeliest, labels):
    print("  " + name.ljust(10), "  ".join(f"T={t}: {probabilities[t][token].item():6.1%}" for t in temperatures))

# %%
figure, axes = new_figure(1, 1, width=8.0, height=3.2)
for index, t in enumerate(temperatures):
    places = [position + (index - 1) * 0.27 for position in range(len(likeliest))]
    axes.bar(places, probabilities[t][likeliest].tolist(), width=0.25, color=COLORS[index], label=f"T={t}")
axes.set_xticks(range(len(labels)), labels)
axes.set_ylabel("확률")
axes.set_title("온도가 바꾸는 것: 다음 토큰의 확률")
axes.legend()
report.heading("다음 토큰의 확률").text(f"**{first}** 다음에 올 토큰 열 개입니다.")
report.figure(figure, "temperature", "온도에 따른 다음 토큰의 확률. ␣는 빈칸, 16진수는 글자가 되다 만 바이트")
figure  # 노트북에서는 이 줄이 그림을 보여 줍니다.

# %% [markdown]
# ## 4. 뽑는 방법 견주기
#
# | 설정 | 하는 일 |
# |---|---|
# | 온도 0 (탐욕) | 늘 으뜸 토큰. 같은 물음에 늘 같은 답 |
# | top-k | 확률이 높은 k개만 남기고 나머지는 버림 |
# | top-p | 확률이 높은 것부터 더해 p가 될 때까지만 남김 (Holtzman 외, 2020) |
# | min-p | 으뜸 토큰 확률의 p배보다 낮은 것을 버림 (Nguyen 외, 2024) |
# | 반복 벌점 | 이미 쓴 토큰의 점수를 깎음 (Keskar 외, 2019) |
#
# top-k는 언제나 k개를 남기지만, top-p와 min-p는 모델이 자신 있을 때는 조금, 망설일 때는 많이 남깁니다.
# 아래 표의 **반복률**은 답에 나온 토큰 두 개짜리 묶음 가운데 되풀이된 것의 비율입니다.

# %%
report.section("4. 뽑는 방법 견주기")
longest = min(settings.generate.max_new_tokens, 80)
WAYS = {
    "탐욕 (온도 0)": {"temperature": 0.0},
    "온도 0.7": {"temperature": 0.7},
    "온도 1.3": {"temperature": 1.3},
    "온도 1.3, top-k 20": {"temperature": 1.3, "top_k": 20},
    "온도 1.0, top-p 0.9": {"temperature": 1.0, "top_p": 0.9},
    "온도 1.3, min-p 0.1": {"temperature": 1.3, "min_p": 0.1},
    "탐욕, 반복 벌점 1.2": {"temperature": 0.0, "repetition_penalty": 1.2},
}


def answer(question: str, sampling: Sampling) -> tuple[str, float]:
    """답과 초당 토큰 수(첫 토큰까지 포함)."""
    started, pieces, n_tokens = time.perf_counter(), [], 0
    stream = engine.stream([{"role": "user", "content": question}], sampling) if chats else engine.complete(question, sampling)
    for delta in stream:
        pieces.append(delta.text)
        n_tokens += delta.n_tokens
    return "".join(pieces).strip(), n_tokens / (time.perf_counter() - started)


def repeated(text: str) -> float:
    """되풀이된 토큰 쌍의 비율. 0이면 모두 새것."""
    tokens = tokenizer.encode(text, allow_special=False)
    pairs = list(pairwise(tokens))
    return 1 - len(set(pairs)) / len(pairs) if pairs else 0.0


rows = []
for name, options in WAYS.items():
    text, speed = answer(first, Sampling(max_new_tokens=longest, seed=settings.seed, **options))
    rows.append({"뽑는 방법": name, "답": text, "반복률": repeated(text), "토큰/초": speed})
    print(f"\n[{name}]  반복률 {rows[-1]['반복률']:.0%}, {speed:,.0f} 토큰/초\n{text}")
report.heading("뽑는 방법 견주기").text(f"**{first}**").table(rows)

# %% [markdown]
# ## 5. 토큰을 글자로: 스트리밍
#
# 한글 한 글자는 UTF-8로 3바이트이고, 토큰의 경계가 글자 한가운데일 수 있습니다. 토큰이 나올 때마다 곧바로 글자로 바꾸면
# 깨진 글자(U+FFFD)가 화면에 번쩍입니다. 그래서 **글자가 다 모일 때까지 바이트를 붙들고** 있어야 합니다.

# %%
report.section("5. 토큰을 글자로: 스트리밍")
pieces = [tokenizer.token_to_id(bytes([byte])) for byte in "뷁!".encode()]
decoder = StreamingDecoder(tokenizer)
for token in pieces:
    careless = tokenizer.decode([token])
    print(f"{tokenizer.token_of(token)!r:10}  바로 바꾸면 {careless!r:10}  모았다가 바꾸면 {decoder.push(token)!r}")

# %% [markdown]
# ## 6. 긴 대화: 무엇을 잊을까
#
# 모델이 한 번에 볼 수 있는 토큰 수는 정해져 있습니다. 대화가 길어지면 **오래된 메시지부터 통째로** 뺍니다.
# 한가운데를 자르면 말이 끊기고, 도우미의 말부터 시작하면 학습 때 본 적 없는 꼴이 됩니다.
# 화면에는 모두 남아 있어도 모델은 잊은 것입니다. 그래서 대화 화면은 몇 개를 뺐는지 알려 줍니다.

# %%
report.section("6. 긴 대화: 무엇을 잊을까")
long_talk = []
for number in range(1, 13):
    long_talk.append({"role": "user", "content": f"{number}번째 질문입니다. 오늘 무엇을 먹으면 좋을까요?"})
    long_talk.append({"role": "assistant", "content": "따뜻한 국수는 어떠세요?"})
long_talk.pop()
room = info.context_length // 2
kept, dropped = fit_messages(long_talk, lambda m: len(encode_chat(tokenizer, m, True)[0]), room)
print(f"메시지 {len(long_talk)}개 가운데 {dropped}개를 빼면 {room}토큰 안에 들어갑니다. 첫 메시지: {kept[0]['content']}")

# %% [markdown]
# ## 7. 여러 가지 물어보기

# %%
report.section("7. 여러 가지 물어보기")
report.heading("생성 예")
generate = settings.generate
usual = Sampling(**generate.model_dump(), seed=settings.seed)
for question in QUESTIONS if chats else BEGINNINGS:
    text, speed = answer(question, usual)
    print(f"\n> {question}\n{text}")
    report.text(f"**{question}**").output(text)
report.save()

# %% [markdown]
# ## 8. 대화 화면
#
# 주소를 브라우저로 여세요. 오른쪽(휴대전화에서는 아래)에서 온도와 top-p를 바꿔 가며 같은 질문을 해 보세요.
# 답 아래에는 첫 토큰까지 걸린 시간과 초당 토큰 수가 나옵니다. 시드를 적으면 같은 답을 다시 볼 수 있습니다.
# 터미널에서 Ctrl-C를 누르면 닫힙니다.

# %%
report.section("8. 대화 화면")
if settings.chat.serve:
    serve(settings, engine)
else:
    print(f"대화 화면은 띄우지 않았습니다 (chat.serve=false). 띄우려면: make chat SCALE={settings.scale}")
