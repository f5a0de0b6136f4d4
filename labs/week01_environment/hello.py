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
# # 1주차. 첫 모델: 글을 쓰는 파이프라인과 그 속
#
# 언어 모델을 부르는 데는 세 줄이면 됩니다. 그런데 그 세 줄 안에서 무슨 일이 벌어질까요?
# 이 실습에서는 Hugging Face Transformers의 `pipeline`으로 글을 쓰고, 그 속을 열어 똑같은 글을 손으로 한 토큰씩 다시 씁니다.
# 마지막에는 **같은 코드**로 허브에 있는 훨씬 큰 모델을 불러 봅니다.
#
# 내려받을 것은 없습니다. 이미 학습한 모델이 있으면 그것을 쓰고, 없으면 지금 이 자리에서 몇 초 만에 하나 만듭니다.

# %%
import math
import time

import torch

from llm_workshop.artifacts import Artifacts, make_command
from llm_workshop.export.checkpoint import quiet
from llm_workshop.orientation.first_model import find_first_model
from llm_workshop.orientation.hub import look_for_hub_model
from llm_workshop.orientation.induction import VOCAB, learn_to_copy
from llm_workshop.orientation.plots import induction_plot, probability_bars
from llm_workshop.orientation.words import losses_of_a_repetition, one_line, ordinary_tokens, token_label
from llm_workshop.report import Report
from llm_workshop.settings import settings_from_command_line
from scratch_llm.models import load_model

settings = settings_from_command_line(uses=("hello", "generate.max_new_tokens"))
artifacts = Artifacts(settings)
report = Report(artifacts, "week01-hello", "1주차: 글을 쓰는 파이프라인과 그 속")
N_NEW = min(settings.generate.max_new_tokens, 40)

# %% [markdown]
# ## 1. 모델이 담긴 폴더
#
# "모델"은 결국 파일 몇 개입니다. 세 가지만 알면 됩니다.
#
# | 파일 | 담긴 것 |
# |---|---|
# | `config.json` | 모양: 층수, 너비, 머리 수, 어휘 크기 |
# | `model.safetensors` | 가중치: 이름표가 붙은 수의 덩어리 |
# | `tokenizer.json` | 글을 번호로, 번호를 글로 바꾸는 규칙 |
#
# 이 형식은 Transformers가 정했지만 이제는 업계의 공용어입니다. 3주차와 5주차에 우리가 만드는 것도 이 형식으로 저장되고,
# `tools.py`에서는 같은 폴더를 NVIDIA의 도구들로도 열어 봅니다.

# %%
report.section("1. 모델이 담긴 폴더")
first = find_first_model(artifacts)
files = sorted(file for file in first.folder.iterdir() if file.suffix in (".json", ".safetensors") and file.name != "manifest.json")
rows = [{"파일": file.name, "크기 (바이트)": file.stat().st_size} for file in files]
print(f"쓸 모델: {first.origin}")
for row in rows:
    print(f"  {row['파일']:<26}{row['크기 (바이트)']:>12,}바이트")
report.text(f"쓴 모델은 **{first.origin}**입니다.").table(rows)

# %% [markdown]
# ## 2. 세 줄로 글쓰기
#
# `pipeline("text-generation", model=…)`은 폴더(또는 허브의 이름)를 받아 토크나이저와 모델을 함께 올립니다.
# 부르면 글을 이어 씁니다. `do_sample=False`는 늘 가장 그럴듯한 토큰만 고르라는 뜻이라, 몇 번을 불러도 같은 글이 나옵니다.
#
# 글자 하나는 바이트 셋이고, 토큰은 그 일부일 수 있습니다. 모델이 글자를 맺지 못한 채 멈추거나 엉뚱하게 이은 자리는 ▯로 보입니다.
#
# 작은 모델의 글은 엉성합니다. 문법은 어렴풋이 맞는데 뜻이 이어지지 않고, 늘 1등만 고르면 같은 말을 되풀이하기 쉽습니다. 그 엉성함이 **크기와 데이터의 부족**에서 온다는 것을
# 이 과정 내내 확인하게 됩니다.

# %%
report.section("2. 세 줄로 글쓰기")
with quiet():  # 불러올 때 나오는 알림을 감춥니다
    from transformers import pipeline

    started = time.perf_counter()
    write = pipeline("text-generation", model=str(first.folder), device=-1)
loading = time.perf_counter() - started
parameters = sum(p.numel() for p in write.model.parameters())
print(f"불러오는 데 {loading:.2f}초, 파라미터 {parameters:,}개, {type(write.model).__name__}")
for prompt in first.prompts:
    with quiet():
        [answer] = write(prompt, max_new_tokens=N_NEW, do_sample=False)
    print(f"  {prompt} → {one_line(answer['generated_text'][len(prompt):])}")
    report.text(f"**{prompt}**").output(one_line(answer["generated_text"]))

# %% [markdown]
# ## 3. 속을 열어 손으로 쓰기
#
# 파이프라인이 하는 일은 네 걸음입니다. 2에서 4까지를 되풀이합니다.
#
# 1. **토크나이저**: 글 → 토큰 번호
# 2. **모델**: 번호 T개 → 자리마다 점수(로짓) V개. 쓰는 것은 **마지막 자리**의 점수뿐입니다.
# 3. **소프트맥스**: 점수 → 확률 $p_i = e^{z_i} / \sum_j e^{z_j}$
# 4. **고르기**: 확률에서 하나를 골라 끝에 붙이고, 2로 돌아갑니다.
#
# 손으로 쓴 것이 파이프라인의 글과 토큰 하나까지 같은지 봅니다. 그리고 Transformers가 아니라 **우리가 밑바닥부터 쓴 코드**
# (`src/scratch_llm`)로 같은 가중치를 불러도 같은지 봅니다. 이 과정을 마치면 그 코드를 모두 이해하게 됩니다.

# %%
report.section("3. 속을 열어 손으로 쓰기")
tokenizer, model = write.tokenizer, write.model.eval()
prompt = first.prompts[0]
ids = tokenizer(prompt, return_tensors="pt").input_ids
with quiet():
    expected = write(prompt, max_new_tokens=12, do_sample=False, return_tensors=True)[0]["generated_token_ids"]


def by_hand(logits_of) -> list[int]:
    """가장 그럴듯한 토큰을 하나씩 붙여 간다. 끝 토큰이 나오면 멈춘다."""
    row = ids[0].tolist()
    for _ in range(12):
        with torch.no_grad():
            logits = logits_of(torch.tensor([row]))[0, -1]  # 마지막 자리의 점수 (V,)
        row.append(int(logits.argmax()))
        if row[-1] == model.config.eos_token_id:
            break
    return row


ours = load_model(first.folder)
same_tokens = {"Transformers의 모델": by_hand(lambda row: model(row).logits), "우리가 밑바닥부터 쓴 모델": by_hand(ours)}
print(f"프롬프트 {prompt!r} → 번호 {ids[0].tolist()} → 조각 {[token_label(tokenizer, i) for i in ids[0].tolist()]}")
for name, row in same_tokens.items():
    print(f"  {name}: {'파이프라인과 같습니다' if row == list(expected) else '파이프라인과 다릅니다!'}")
with torch.no_grad():
    difference = (model(ids).logits - ours(ids)).abs().max().item()
print(f"두 모델의 로짓 차이: 최대 {difference:.1e}")
report.table([{"쓴 코드": name, "파이프라인과 같은 글인가": row == list(expected)} for name, row in same_tokens.items()],
             caption=f"로짓의 최대 차이 {difference:.1e}")  # fmt: skip

# %% [markdown]
# ## 4. 모델이 내는 것은 글이 아니라 확률
#
# 같은 프롬프트 뒤에 올 토큰의 확률을 그립니다. **온도** $\tau$는 소프트맥스 앞에서 점수를 나누는 수입니다.
#
# $$ p_i = \frac{e^{z_i/\tau}}{\sum_j e^{z_j/\tau}} $$
#
# 글자 조각인 토큰은 `0xEC`처럼 바이트를 십육진수로 적고, 앞의 `_`는 공백입니다. `_0xEC`는 공백과 한글 글자의 첫 바이트입니다.
# $\tau$가 작으면 1등에게 몰리고, 크면 고르게 퍼집니다. 0은 나눌 수 없으니 "늘 1등"으로 약속합니다.

# %%
report.section("4. 모델이 내는 것은 글이 아니라 확률")
with torch.no_grad():
    logits = model(ids).logits[0, -1].float()
top = torch.softmax(logits, -1).topk(10).indices
labels = [token_label(tokenizer, int(i)) for i in top]
bars = {f"온도 {t}": torch.softmax(logits / t, -1)[top].tolist() for t in (0.5, 1.0, 1.5)}
entropy = -(torch.log_softmax(logits, -1).exp() * torch.log_softmax(logits, -1)).sum().item()
print(f"{prompt!r} 다음: " + ", ".join(f"{label} {p:.2f}" for label, p in zip(labels[:5], bars["온도 1.0"])))
print(f"확률의 엔트로피 {entropy:.2f} nat = 고르게 헷갈리는 후보 {math.exp(entropy):.1f}개꼴 (어휘는 {len(logits):,}개)")
figure = probability_bars(labels, bars, f"'{prompt}' 다음 토큰의 확률 (10등까지)")
report.figure(figure, "next-token", "온도가 낮을수록 1등에게 몰립니다. _는 앞의 공백, 0x…는 글자가 되다 만 바이트입니다")
for temperature in (0.7, 1.5):
    texts = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        with quiet():
            [answer] = write(prompt, max_new_tokens=16, do_sample=True, temperature=temperature, top_k=0)
        texts.append(one_line(answer["generated_text"][len(prompt) :]))
        print(f"  온도 {temperature}, 시드 {seed}: {texts[-1]}")
    report.text(f"온도 {temperature}로 두 번").output("\n".join(texts))

# %% [markdown]
# ## 5. 문맥에서 배우는 능력은 어떻게 생기나
#
# 큰 모델은 가중치를 바꾸지 않고도 **프롬프트에 든 예시**에서 배웁니다(few-shot; Brown 외, 2020). 그 가장 작은 꼴을 재 봅시다.
# 아무렇게나 뽑은 토큰 열을 **두 번 되풀이**해 들려줍니다. 첫 번째는 아무도 맞힐 수 없습니다. 두 번째는 앞을 뒤져 베끼면 맞힐 수 있습니다.
#
# 먼저 위의 모델로 재 봅니다. 두 번째에 손실이 뚝 떨어지면 베낄 줄 아는 것입니다. 작은 모델은 대개 못 합니다.
# (찍기, 곧 $\ln V$보다도 못한 값이 나오곤 합니다. 글만 배운 모델이 글이 아닌 것을 두고 자신 있게 틀리기 때문입니다.)

# %%
report.section("5. 문맥에서 배우는 능력은 어떻게 생기나")
LENGTH = 24
ordinary = ordinary_tokens(tokenizer, model)
losses = losses_of_a_repetition(model, ordinary, LENGTH, rows=32, seed=settings.seed)
first_half, second_half = losses[: LENGTH - 1].mean().item(), losses[LENGTH:].mean().item()
verdict = "다시 들을 때 뚜렷이 낮습니다. 앞에서 본 것을 베낄 줄 압니다" if second_half < 0.7 * first_half else "거의 낮아지지 않습니다. 문맥에서 베끼지 못합니다"
print(f"토큰 {LENGTH}개를 처음 들을 때의 손실 {first_half:.2f}, 다시 들을 때 {second_half:.2f} (찍으면 ln V = {math.log(len(ordinary)):.2f})")
print(f"  {verdict}.")
report.text(f"무작위 토큰 {LENGTH}개를 처음 들을 때 {first_half:.2f}, 다시 들을 때 {second_half:.2f} nat입니다. {verdict}.")

# %% [markdown]
# 이제 이 능력이 생기는 순간을 봅니다. 되풀이되는 열만 들려주며 **두 층짜리** 모델을 몇 초 학습합니다. 되풀이까지의 거리는 매번 다릅니다.
# 한동안은 아무것도 배우지 못하는 듯하다가, 어느 순간 손실이 **뚝 떨어집니다**. 앞의 토큰이 무엇이었는지 적어 두는 층과
# 그것을 찾아가는 층이 맞물리는 순간입니다(귀납 머리; Olsson 외, 2022). 같은 크기의 **한 층**은 같은 시간에 그러지 못합니다.
#
# 큰 모델에서 말하는 **창발**(emergence; Wei 외, 2022), 곧 어느 크기나 학습량을 넘으면 없던 능력이 나타나는 일의 축소판입니다.
# 다만 "갑자기"에는 재는 자의 탓도 있습니다. 맞았다와 틀렸다로만 재면 서서히 나아지는 것도 갑작스러워 보입니다(Schaeffer 외, 2023).
# 여기서는 연속인 손실로 재는데도 뚝 떨어지니, 재는 자의 탓만은 아닙니다.

# %%
STEPS = 400 if settings.scale == "smoke" else 700
learned = {f"{n}층": learn_to_copy(n, STEPS, settings.seed) for n in (1, 2)}
for name, learning in learned.items():
    shown = "  ".join(f"{step}: {sum(learning.again[step - 20 : step]) / 20:.2f}" for step in range(100, STEPS + 1, 100))
    print(f"  {name}, 두 번째 듣는 토큰의 손실 (스텝: 값)  {shown}")
figure = induction_plot({name: learning.again for name, learning in learned.items()}, math.log(VOCAB))
ends = {name: sum(learning.again[-20:]) / 20 for name, learning in learned.items()}
report.text(f"되풀이되는 열만 {STEPS}스텝 배운 뒤 두 번째 듣는 토큰의 손실은 한 층 {ends['1층']:.2f}, 두 층 {ends['2층']:.2f} nat입니다.")
report.figure(figure, "induction", "문맥에서 베끼는 능력이 생기는 순간. 한 층은 같은 시간에 배우지 못합니다")

# %% [markdown]
# ## 6. 같은 코드, 허브의 모델
#
# 2절의 코드에서 바뀌는 것은 이름 하나뿐입니다. 이름은 `ARGS="hello.hub_model=조직/모델"`로 고르고, `none`으로 끕니다.
# 네트워크가 없거나 `HF_HUB_OFFLINE=1`이고 캐시에도 없으면 까닭을 적고 넘어갑니다. 내려받기 전에 크기를 먼저 알려 줍니다.

# %%
report.section("6. 같은 코드, 허브의 모델")
if settings.hello.hub_model is None:
    command = make_command(settings, "week1-hello", args="hello.hub_model=Qwen/Qwen3-0.6B-Base")
    print(f"허브의 모델을 고르지 않았습니다. 해 보려면: {command}")
else:
    hub = look_for_hub_model(settings.hello.hub_model)
    print(f"{hub.name}: {hub.reason}")
    if hub.usable:
        with quiet():
            write = pipeline("text-generation", model=hub.name, dtype="auto", device_map=None, device=0 if torch.cuda.is_available() else -1)
        parameters = sum(p.numel() for p in write.model.parameters())
        print(f"파라미터 {parameters:,}개, {write.model.dtype}")
        for prompt in ("오늘 아침에", "대한민국의 수도는", "사과=apple, 물=water, 책="):
            with quiet():
                [answer] = write(prompt, max_new_tokens=N_NEW, do_sample=False)
            print(f"  {prompt} → {one_line(answer['generated_text'][len(prompt):])}")
            report.text(f"{hub.name}: **{prompt}**").output(one_line(answer["generated_text"]))
        losses = losses_of_a_repetition(write.model, ordinary_tokens(write.tokenizer, write.model), LENGTH, rows=8, seed=settings.seed)
        print(f"  무작위 토큰 {LENGTH}개를 처음 들을 때 {losses[: LENGTH - 1].mean():.2f}, 다시 들을 때 {losses[LENGTH:].mean():.2f}")
    else:
        report.text(f"허브의 모델({hub.name})은 실행하지 못했습니다. {hub.reason}.")
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - 3절의 `by_hand`에서 `argmax` 대신 두 번째로 그럴듯한 토큰을 고르면 어떤 글이 되나요?
# - `make week5-pretrain` 다음에 다시 실행하면 2절의 글과 3절의 확률이 어떻게 달라지나요?
# - 네트워크가 있다면 `hello.hub_model`을 바꾸어, 파라미터 수에 따라 6절의 "책="을 맞히는지 보세요. 예시를 셋에서 하나로 줄이면 어떤가요?
