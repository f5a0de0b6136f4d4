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
# # 6주차. 어댑터 겨루기: LoRA, DoRA, WaveFT, QLoRA …
#
# 논문마다 자기 방법이 가장 좋다고 합니다. 그런데 학습률 하나, 시드 하나로 얻은 차이는 방법의 차이가 아닐 때가 많습니다. 이 실습에서는
# **같은 모델, 같은 글, 같은 걸음 수**를 주고, 학습률은 방법마다 **저마다 좋은 것**을 고르게 한 다음, 시드를 바꾸어 가며 여러 번 재어
# **오차 막대**까지 그립니다. 그래야 "DoRA가 LoRA보다 낫다" 같은 말을 할 수 있는지, 아니면 할 수 없는지가 보입니다.
#
# 정확도만 보지 않습니다. 배우는 파라미터의 수, 학습 한 걸음의 시간, 메모리를 함께 잽니다.
#
# 터미널에서는 `make week6-adapters` 한 번이면 됩니다. 시도(trial) 하나가 끝날 때마다 표에 적어 두므로, 도중에 멈추어도 하던 데서 이어집니다.

# %%
import copy

import torch

from llm_workshop.artifacts import Artifacts, is_forced
from llm_workshop.finetuning.baseline import character_ngrams, majority
from llm_workshop.finetuning.compare import Comparison
from llm_workshop.finetuning.compare_plots import (
    PLACES,
    cost_plot,
    peers_plot,
    places_plot,
    quality_plot,
    ranks_plot,
    rates_plot,
)
from llm_workshop.finetuning.compare_tables import memory_at_scale, memory_rows, plus_minus, result_rows
from llm_workshop.finetuning.methods import METHODS
from llm_workshop.finetuning.swapping import build_swap, mixed_answers, open_swap, pass_milliseconds
from llm_workshop.report import Report
from llm_workshop.settings import settings_from_command_line
from scratch_llm.peft import activate, adapter_names, load_adapter, merge

settings = settings_from_command_line(uses=("peft",))
artifacts = Artifacts(settings)
peft = settings.peft
report = Report(artifacts, "week06-adapters", "6주차: 어댑터 겨루기")

# %% [markdown]
# ## 1. 과제와 원본
#
# 원본은 5주차에서 사전 학습한 모델이고, 과제는 리뷰의 감성입니다. 라벨이 적을 때의 겨루기이므로 학습할 글을 일부러 조금만 씁니다.
# 글이 많고 걸음이 많으면 차이가 사라지기 쉽습니다. 견줄 기준으로 **가장 흔한 답**과 **문자 n-그램**도 함께 잽니다.

# %%
report.section("1. 과제와 원본")
comparison = Comparison(artifacts, force=is_forced())
bench, task = comparison.bench, comparison.bench.task
common, ngrams = majority(task), character_ngrams(task)
print(f"{task.title}: {', '.join(task.class_names)}")
print(f"학습 {len(task.train):,}개, 검증 {len(task.valid):,}개, 테스트 {len(task.test):,}개, 시도마다 {peft.steps}걸음 × {peft.batch_size}개")
print(f"원본: {bench.base.model_type}, 파라미터 {bench.base.n_parameters():,}개")
print(f"가장 흔한 답 {common['accuracy']:.1%}, 문자 n-그램 {ngrams['accuracy']:.1%}")
report.facts({
    "과제": task.title, "부류": ", ".join(task.class_names), "학습할 글": len(task.train), "테스트할 글": len(task.test),
    "걸음 × 배치": f"{peft.steps} × {peft.batch_size}", "원본의 파라미터": bench.base.n_parameters(),
    "가장 흔한 답": f"{common['accuracy']:.1%}", "문자 n-그램 + 로지스틱 회귀": f"{ngrams['accuracy']:.1%}",
})  # fmt: skip

# %% [markdown]
# ## 2. 큰 모델이라면: 메모리는 어디에 드나
#
# 우리 모델은 작아서 무엇을 해도 돌아갑니다. PEFT가 왜 나왔는지는 **80억 개짜리**에서 보입니다. `meta` 장치에 모델을 만들면 모양만 있고
# 메모리는 쓰지 않으므로, 이 기계에서도 몇 초면 셀 수 있습니다.
#
# - **모두**: 가중치 float32 4바이트, 기울기 4, AdamW의 두 이동 평균 8. 합쳐서 파라미터마다 16바이트입니다.
# - **LoRA**: 얼린 원본은 bfloat16 2바이트로 충분합니다. 기울기와 이동 평균은 어댑터의 것만 있으면 됩니다.
# - **QLoRA**: 얼린 원본을 nf4로 담아 파라미터마다 0.5바이트 남짓. 임베딩과 출력층은 그대로입니다.
#
# 표의 **활성값** 칸을 보세요. 어느 방법이나 크게 다르지 않습니다. 기울기가 얼린 층을 **지나** 흘러야 하기 때문입니다. DoRA는 오히려 늘어납니다.

# %%
report.section("2. 큰 모델이라면: 메모리는 어디에 드나")
large = memory_at_scale()
print("Llama 3.1 8B, 글 하나 × 512토큰 (단위는 GiB)")
for row in large:
    print("  " + f"{row['방법']:6}  " + "  ".join(f"{name} {value:.2f}" for name, value in row.items() if name != "방법"))
report.text("Llama 3.1 8B로 512토큰짜리 글 하나를 배울 때의 어림입니다. 단위는 GiB입니다.").table(large)

# %% [markdown]
# ## 3. 학습률은 저마다
#
# 배우는 수가 적을수록 한 걸음을 크게 떼야 합니다. 모두를 배울 때 좋은 학습률을 LoRA에 그대로 쓰면 LoRA가 진 것처럼 보이고, 거꾸로 하면 모두
# 배우기가 무너집니다. 그래서 방법마다 몇 가지를 시험하고 **검증 손실**이 가장 낮은 것을 고릅니다. 테스트 글은 여기서 보지 않습니다.
#
# 고른 값이 시험한 범위의 **끝**에 있으면 더 좋은 값이 바깥에 있을지 모릅니다. 그런 방법이 있는지 그림에서 찾아보세요.
# `SCALE=smoke`는 시간을 아끼느라 방법마다 하나만 돌립니다. 그때는 고른 것이 없으므로 그림도 없습니다.

# %%
report.section("3. 학습률은 저마다")
sweeps = comparison.choose_rates()
for method, trials in sweeps.items():
    tried = "  ".join(f"{trial['learning_rate']:g}: {trial['valid_loss']:.3f}" for trial in trials)
    edge = "  (시험한 범위의 끝)" if comparison.rates[method] in (trials[0]["learning_rate"], trials[-1]["learning_rate"]) and len(trials) > 2 else ""
    print(f"  {METHODS[method].title:8} {tried}  → {comparison.rates[method]:g}{edge}")
if len(set(peft.rate_factors)) > 1:
    report.figure(rates_plot(sweeps), "rates", "방법마다 학습률에 따른 검증 손실. 채운 점을 골랐습니다.")
else:
    alone = "방법마다 학습률 하나만 돌렸으므로 고르지 않았습니다. 고르려면 ARGS=\"peft.rate_factors=0.33,1,3\"을 주세요."
    print(f"  {alone}")
    report.text(alone)

# %% [markdown]
# ## 4. 겨루기
#
# 고른 학습률로 시드를 바꾸어 가며 여러 번 배웁니다. 시드가 바뀌면 머리와 어댑터의 처음 값, 글을 읽는 순서가 바뀝니다.
# 두 방법의 막대가 서로 겹치면, 이 실험으로는 **어느 쪽이 낫다고 말할 수 없습니다.**

# %%
report.section("4. 겨루기")
rows = comparison.compare()
for row in rows:
    measured = row["cost"]["measured"]
    print(f"  {row['title']:8} 정확도 {plus_minus(row['accuracy'], row['accuracy_spread']):>14}  매크로 F1 {row['macro_f1']:.3f}  배우는 수 {row['trainable']:>10,}개  "
          f"걸음 {1000 * measured['seconds']:6.1f} ms  최고 {measured['peak'] / 2**20:6.1f} MiB")  # fmt: skip
report.table(result_rows(rows))
report.figure(quality_plot(rows, ngrams["accuracy"], "문자 n-그램"), "quality", "방법마다의 테스트 정확도와 배우는 파라미터의 수. 막대는 시드에 따른 표준편차이고, 시드가 하나면 없습니다.")

# %% [markdown]
# ## 5. 값: 시간과 메모리
#
# 메모리는 두 번 구했습니다. 막대는 모델의 텐서와 **역전파가 붙드는 텐서**를 세어 미리 어림한 것이고, 마름모는 학습 한 걸음 동안 텐서가 생기고
# 사라지는 것을 하나하나 지켜보아 **잰** 최고치입니다. 기울기는 활성값이 사라지는 동안 생기므로 최고치가 막대의 합보다 조금 작을 수 있습니다.
#
# 거꾸로 최고치가 더 클 때도 있습니다. 막대에는 **잠깐 지나가는 텐서**가 빠져 있기 때문입니다. 순전파가 다음 층에 넘기고 곧 버리는 중간 결과와,
# 역전파가 층을 거슬러 가며 만드는 활성값의 기울기가 그렇습니다. '머리만'은 붙들어 둘 활성값이 없어 최고치의 대부분이 지나가는 텐서이고,
# (IA)³과 프리픽스는 배우는 수가 적어 기울기와 옵티마이저가 거의 없으므로 지나가는 텐서가 그대로 드러납니다. (IA)³은 활성값을 float32 배율과
# 곱했다가 되돌리므로, bfloat16으로 배울 때는 **두 배 큰** 중간 결과가 순전파와 역전파에서 지나갑니다.
#
# 작은 모델에서는 얼린 가중치의 이득이 작습니다. 활성값이 큰 몫을 차지하기 때문입니다. 2절의 표와 견주어 보세요.

# %%
report.section("5. 값: 시간과 메모리")
memory = memory_rows(rows)
print("  단위는 MiB. 합계는 붙드는 텐서만 어림한 것이고, 잰 최고치에는 잠깐 지나가는 텐서도 들었습니다.")
for row in memory:
    print("  " + f"{row['방법']:8}" + "  ".join(f"{name} {value:.2f}" for name, value in row.items() if name != "방법"))
report.table(memory, caption="학습 한 걸음의 메모리 (MiB). 합계에는 잠깐 지나가는 텐서가 들지 않습니다.")
report.figure(cost_plot(rows), "cost", "학습 한 걸음의 시간과 메모리")

# %% [markdown]
# ## 6. 랭크
#
# 랭크를 키우면 늘 나아질까요? LoRA의 배율은 α/r이라, α를 그대로 두고 r을 키우면 배운 것이 **작게** 실립니다. rsLoRA의 배율은 α/√r이라 덜 줄어듭니다.
# 학습률도 그대로 두었으므로, 이 그림은 "랭크만 바꾸면 어떻게 되나"에 대한 답입니다.

# %%
report.section("6. 랭크")
sizes = comparison.compare_sizes()
for row in sizes:
    print(f"  {METHODS[row['method']].title:7} r={row['rank']:<3} 정확도 {plus_minus(row['accuracy'], row['accuracy_spread']):>6}  배우는 수 {row['trainable']:,}개")
report.figure(ranks_plot(sizes), "ranks", "랭크에 따른 테스트 정확도")

# %% [markdown]
# ## 7. 어디에 다나
#
# LoRA의 논문은 쿼리와 밸류에만 달았습니다. 뒤의 연구들은 모든 선형층에 다는 쪽이 낫다고 보고합니다. 배우는 수가 서로 다르다는 점도 함께 보세요.
# 아래쪽 절반과 위쪽 절반은 배우는 수가 같습니다. 분류에 필요한 변화는 어느 쪽에서 더 잘 일어날까요?

# %%
report.section("7. 어디에 다나")
where = comparison.compare_places()
for row in where:
    print(f"  {PLACES[row['targets']]:9} 정확도 {plus_minus(row['accuracy'], row['accuracy_spread']):>6}  배우는 수 {row['trainable']:,}개")
report.figure(places_plot(where), "places", "LoRA를 단 자리에 따른 테스트 정확도")

# %% [markdown]
# ## 8. 같은 계산인가: PEFT와 TRL
#
# 손으로 쓴 LoRA가 정말 그 LoRA인지 확인합니다. 같은 가중치, 같은 어댑터, 같은 배치로 **Hugging Face PEFT**(`Trainer`)와 **TRL**(`SFTTrainer`)을
# 돌려 걸음마다 손실을 견줍니다. 이번에는 분류가 아니라 리뷰를 이어 쓰는 일이고, 학습률은 처음부터 끝까지 같습니다. 곡선이 하나로 보이면 성공입니다.

# %%
report.section("8. 같은 계산인가: PEFT와 TRL")
if peft.peer_steps:
    from llm_workshop.finetuning.peers import compare_libraries

    curves = compare_libraries(artifacts.require("base-model"), bench.tokenizer, task.train.texts, peft.peer_steps, rank=comparison.variant("lora").rank)
    largest = max(abs(a - b) for losses in curves.values() for a, b in zip(losses, curves["scratch_llm"]))
    for title, losses in curves.items():
        print(f"  {title:12} 첫 손실 {losses[0]:.5f} → 마지막 {losses[-1]:.5f}")
    print(f"  걸음마다의 가장 큰 차이 {largest:.1e}")
    report.text(f"{peft.peer_steps}걸음 동안 손실의 가장 큰 차이는 {largest:.1e}입니다.")
    report.figure(peers_plot(curves), "peers", "scratch_llm, PEFT, TRL의 학습 손실")
else:
    print("peft.peer_steps=0이라 건너뜁니다.")

# %% [markdown]
# ## 9. 갈아 끼우기
#
# 어댑터는 작은 파일입니다. 원본 하나를 메모리에 올려 두고 일마다 어댑터만 바꾸면 모델 여러 개를 서비스하는 것과 같습니다. 같은 원본에서
# **감성** 어댑터와 **무엇에 대한 리뷰인가** 어댑터를 따로 배워 파일로 남긴 다음, 한 모델에 함께 끼웁니다.
#
# 갈아 끼울 때 가중치는 움직이지 않습니다. 어느 어댑터를 쓸지 이름만 바꾸므로 마이크로초면 됩니다. 한 배치 안에서 **줄마다 다른 어댑터**를 쓸 수도 있습니다.

# %%
report.section("9. 갈아 끼우기")
folder = build_swap(comparison, artifacts)
model, heads, names = open_swap(artifacts)
base_bytes = sum(p.nbytes for name, p in model.named_parameters() if ".adapters." not in name)
print(f"  모델에 끼운 어댑터: {', '.join(adapter_names(model))}")
for name in adapter_names(model):
    size = sum(file.stat().st_size for file in (folder / name).glob("*.safetensors"))
    print(f"  {name}: 파일 {size / 1024:,.0f} KiB (원본의 {size / base_bytes:.1%})")
answers = mixed_answers(model, heads, names, bench.tokenizer, task.test.texts[:4], peft.max_length)
report.table(answers, caption="한 배치에서 줄마다 다른 어댑터로 답했습니다")
for row in answers:
    print(f"  [{row['어댑터']}] {row['답']:4} ({row['확신']:.0%})  {row['글'][:40]}…")

# %% [markdown]
# ## 10. 합치기와 거절
#
# 갈아 끼울 일이 없으면 어댑터를 원본에 **더해 넣습니다**(merge). 답은 그대로이고 덧셈이 사라져 원본만큼 빨라집니다.
#
# 어댑터는 원본과의 **차이**라서, 다른 원본에 얹으면 오류도 없이 헛소리를 합니다. 그래서 파일 곁에 원본 가중치의 지문(SHA-256)을 적어 두고,
# 다르면 거절합니다. 원본의 수 하나를 아주 조금 바꾸어 시험해 봅니다.

# %%
report.section("10. 합치기와 거절")
first = adapter_names(model)[0]
activate(model, first)
merged = merge(copy.deepcopy(model).eval())
with torch.no_grad():
    sample = torch.randint(1, bench.tokenizer.vocab_size, (4, min(64, peft.max_length)), generator=torch.Generator().manual_seed(0)).to(model.device)
    difference = (merged(sample) - model.eval()(sample)).abs().max().item()
    times = {title: pass_milliseconds(one, sample) for title, one in (("어댑터를 끼운 채", model), ("합친 뒤", merged))}
activate(model, None)
times["원본"] = pass_milliseconds(model, sample)
print(f"  합치기 전과 뒤의 로짓 차이 {difference:.1e}")
for title, value in times.items():
    print(f"  {title:8} {value:.2f} ms")

stranger = copy.deepcopy(bench.base)
with torch.no_grad():
    next(stranger.parameters()).view(-1)[0] += 1e-3
try:
    load_adapter(stranger, folder / first)
    raise AssertionError("an adapter was put on another base")
except ValueError as problem:
    refusal = str(problem).replace(str(folder), "…/peft-adapters")
says = "이 어댑터는 지금의 모델과 가중치가 다른 원본에서 배웠으므로 얹지 않습니다. 프로그램은 영어로 이렇게 알립니다."
print(f"  다른 원본에 얹으면: {says}\n    {refusal}")
report.table([{"": title, "한 번의 계산 (ms)": value} for title, value in times.items()], caption=f"합치기 전과 뒤의 로짓 차이 {difference:.1e}")
report.text(f"수 하나가 다른 원본에 어댑터를 얹으려 하면 거절합니다. {says}").output(refusal)
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `make week6-adapters DATA=nsmc ARGS="peft.examples=2000 peft.steps=150"`: 진짜 영화평에서는 순서가 달라지나요? (자료가 있을 때)
# - `make week6-adapters ARGS="peft.rate_factors=1"`: 학습률을 고르지 않으면 누가 손해를 보나요?
# - `make week6-adapters ARGS="peft.seeds=5 peft.methods=lora,dora"`: 시드를 늘리면 LoRA와 DoRA의 막대가 떨어지나요?
# - `make week6-adapters ARGS="peft.examples=50"`: 글이 아주 적으면 모두 배우기와 머리만 배우기 가운데 어느 쪽이 나은가요?
