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
# # 1주차. LLM의 생애: 산출물의 사슬과 크기의 값
#
# LLM은 모델 파일 하나가 아니라 **사슬**입니다. 글을 모으고, 다듬고, 토큰으로 자르고, 학습하고, 줄여서 내보냅니다.
# 한 고리가 나쁘면 뒤의 모든 고리가 나빠지고, 앞 고리를 바꾸면 뒤를 다시 만들어야 합니다.
#
# 이 실습에서는 먼저 여러분의 컴퓨터에 있는 사슬을 실제 기록(manifest)에서 그립니다. 그다음 "크다"는 말의 값을 셈합니다.
# 파라미터가 천만 개일 때와 칠백억 개일 때 메모리와 시간이 얼마나 다른지, 여러분의 GPU로는 어디까지 되는지 봅니다.

# %%
from llm_workshop.artifacts import Artifacts
from llm_workshop.orientation.chain import KOREAN, chain_rows, human_bytes, read_chain
from llm_workshop.orientation.costs import (
    CONTEXT,
    GPUS,
    expected_loss,
    human_hours,
    memory_by_size,
    sizes,
    smallest_gpu,
    training_hours,
)  # fmt: skip
from llm_workshop.orientation.plots import chain_plot, count_in_korean, hours_plot, memory_plot, scaling_plot
from llm_workshop.report import Report
from llm_workshop.settings import settings_from_command_line
from scratch_llm.analysis import as_shapes, device_named
from scratch_llm.models import GPT2Config, LlamaConfig
from scratch_llm.models.config import replace

settings = settings_from_command_line(uses=("model", "tokenizer.vocab_size"))
artifacts = Artifacts(settings)
report = Report(artifacts, "week01-lifecycle", "1주차: LLM의 생애")

# %% [markdown]
# ## 1. 사슬: 지금 무엇이 있나
#
# 모든 단계는 폴더 하나를 남기고, 그 안의 `manifest.json`에 **어떤 설정으로, 어떤 재료에서, 몇 초 걸려** 만들었는지 적습니다.
# 재료는 이름이 아니라 **내용의 지문**(SHA-256)으로 적습니다. 그래서 앞 단계가 바뀌면 뒤 단계가 낡았음을 알 수 있습니다.
# 아직 없는 단계에는 만드는 명령이 적혀 있습니다. 지금은 거의 비어 있어도 됩니다. 주마다 다시 실행하면 사슬이 채워집니다.
#
# 위 줄(모은 글 → 고른 글)은 말뭉치에 이르는 다른 길입니다. 2주차가 만드는 다듬은 글이고,
# `corpus.curated=true`일 때 말뭉치의 재료가 됩니다.

# %%
report.section("1. 사슬: 지금 무엇이 있나")
links = read_chain(artifacts)
for link in links:
    facts = f"{human_bytes(link.n_bytes):>10} {link.seconds:9.1f}초  지문 {link.digest[:12]}" if link.digest else f"→ {link.target}"
    print(f"  {KOREAN[link.state]:8} {link.stage:11} {facts}")
    if link.problem:
        print(f"      {link.problem}")
done = [link for link in links if link.seconds is not None]
print(f"{len(links)}단계 가운데 {len(done)}단계가 있습니다" + (f". 만드는 데 모두 {human_hours(sum(link.seconds for link in done) / 3600)}" if done else ""))
report.table(chain_rows(links))
figure = chain_plot(links)
report.figure(figure, "chain", f"SCALE={settings.scale}의 산출물. 점선은 아직 없는 것입니다")

# %% [markdown]
# ## 2. 크기는 메모리다
#
# 파라미터 하나에 드는 바이트는 무엇을 하느냐에 따라 다릅니다.
#
# | 하는 일 | 파라미터 하나에 | 까닭 |
# |---|--:|---|
# | 추론, int4 | 0.5 | 네 비트 |
# | 추론, bfloat16 | 2 | 열여섯 비트 |
# | 학습, 혼합 정밀도 AdamW | 16 | 가중치 2 + 기울기 2 + float32 사본과 두 평균 12 (ZeRO, Rajbhandari 외, 2020) |
# | LoRA | 2와 조금 | 얼린 가중치에는 기울기도 옵티마이저도 없음 |
#
# 여기에 추론에서는 **KV 캐시**가, 학습에서는 **활성값**이 더해집니다. 아래의 값은 모양만 있는 모델을 만들어 실제로 센 것입니다.
# 그림에서 점선은 GPU의 메모리입니다. 선이 점선 위로 넘어가면 한 장에 들어가지 않습니다.

# %%
report.section("2. 크기는 메모리다")
models = sizes()
memory = memory_by_size(models)
table = []
for row in memory:
    needs = {"추론 bfloat16": row["bfloat16"] + row["cache"], "추론 int4": row["int4"] + row["cache"], "전체 학습": row["full"], "LoRA": row["lora"]}
    table.append({"모델": row["name"]} | {key: round(value / 1e9, 2) for key, value in needs.items()}
                 | {"추론할 수 있는 GPU": smallest_gpu(needs["추론 bfloat16"]), "학습할 수 있는 GPU": smallest_gpu(needs["전체 학습"])})  # fmt: skip
    print(f"  {row['name']:14} {row['parameters']:>14,}개: " + ", ".join(f"{key} {value / 1e9:.2f} GB" for key, value in needs.items()))
report.table(table, caption=f"GB. 문맥 {CONTEXT:,}(GPT-2는 1,024), 배치 1, 추론은 KV 캐시까지. 10 %는 비워 두고 들어가는지 보았습니다. 여러 장이면 고르게 나뉜다고 쳤습니다")
figure = memory_plot(memory, {gpu: device_named(gpu).memory_bytes for gpu in GPUS})
report.figure(figure, "memory", "파라미터 수에 따른 메모리 (두 축 모두 로그)")

# %% [markdown]
# ## 3. 크기는 시간이다
#
# 학습에 드는 계산은 $C \approx 6ND$입니다. 파라미터 $N$개, 토큰 $D$개일 때 토큰마다 파라미터마다 앞으로 두 번, 뒤로 네 번입니다.
# 같은 예산에서 가장 낮은 손실을 얻으려면 $D \approx 20N$이 좋다고 알려져 있습니다(Hoffmann 외, 2022). 그러면 $C \approx 120N^2$,
# 곧 **크기가 열 배면 시간은 백 배**입니다.
#
# 시간은 $C$를 GPU의 최고 속도와 MFU의 곱으로 나눈 값입니다. MFU는 최고 속도 가운데 실제로 쓴 비율이고, 잘 다듬은 학습에서 40 %쯤입니다.
# "정확한 값"은 어텐션의 점수까지 센 것입니다. 여러 장으로 나누면 시간은 줄지만 **GPU 시간**(장수 × 시간)은 줄지 않습니다.

# %%
report.section("3. 크기는 시간이다")
hours = training_hours(models)
table = []
for row in hours:
    table.append({"모델": row["name"], "토큰": count_in_korean(row["tokens"]), "6ND": f"{row['six_nd']:.1e}", "정확한 값": f"{row['flops']:.1e}"}
                 | {gpu: human_hours(value) for gpu, value in row["hours"].items()})  # fmt: skip
    print(f"  {row['name']:14} 토큰 {count_in_korean(row['tokens']):>7}, {row['flops']:.1e} FLOP: "
          + ", ".join(f"{gpu} {human_hours(row['hours'][gpu])}" for gpu in ("T4", "RTX 4090", "H100 SXM")))  # fmt: skip
report.table(table, caption="GPU 한 장의 시간, MFU 40 %. T4는 bfloat16이 없어 float16의 속도로 셈했습니다. 메모리에 들어가는지는 2절에서 따로 보세요")
figure = hours_plot(hours)
report.figure(figure, "hours", "학습에 드는 GPU 시간 (두 축 모두 로그)")

# %% [markdown]
# ## 4. 왜 그 값을 치르나
#
# 손실은 크기와 데이터에 대해 **매끄럽게** 줄어듭니다. Hoffmann 외(2022)는 모델 400개에 이런 식을 맞추었습니다.
#
# $$ L(N, D) = \underbrace{1.69}_{\text{바닥}} + \frac{406.4}{N^{0.34}} + \frac{410.7}{D^{0.28}} $$
#
# 두 항이 따로 있다는 점이 중요합니다. 데이터를 늘리지 않고 모델만 키우면 둘째 항에서 막히고(평평해지는 실선),
# 모델을 키우지 않고 글만 늘리면 첫째 항에서 막힙니다. 점선은 둘을 함께 늘린 것입니다.
#
# 상수는 그들의 영어 글과 토크나이저에서 얻은 것이라 우리 모델에 그대로 쓸 수는 없습니다. 같은 자료에서 다른 상수를 얻은 연구도 있습니다
# (Besiroglu 외, 2024). 손실이 매끄럽게 주는 동안 **할 수 있는 일**은 어느 순간 나타나기도 합니다. `hello.py`의 5절에서 그 축소판을 봅니다.

# %%
report.section("4. 왜 그 값을 치르나")
weights = [10 ** (7 + step / 8) for step in range(33)]
lines = {f"토큰 {count_in_korean(n)}": [expected_loss(w, n) for w in weights] for n in (1e9, 1e11, 1e13)}
lines["파라미터 하나에 토큰 20개"] = [expected_loss(w, 20 * w) for w in weights]
for n in (1e7, 1e9, 7e10):
    print(f"  파라미터 {count_in_korean(n):>6}: 토큰 10억이면 {expected_loss(n, 1e9):.2f}, 파라미터의 20배이면 {expected_loss(n, 20 * n):.2f}, 토큰 10조이면 {expected_loss(n, 1e13):.2f}")
figure = scaling_plot(lines, weights, 1.69)
report.figure(figure, "scaling", "데이터를 그대로 두고 크기만 키우면 곧 평평해집니다")

# %% [markdown]
# ## 5. 우리가 학습할 모델은 어디쯤인가
#
# 이 과정의 설정(`SCALE`)을 같은 자로 재 봅니다. 이미 기반 모델이 있으면 기록된 속도로 셈한 시간과 실제 걸린 시간을 나란히 놓습니다.

# %%
report.section("5. 우리가 학습할 모델은 어디쯤인가")
shape = settings.model.model_dump(include={"context_length", "n_layers", "n_heads", "d_model", "d_ff", "tie_embeddings"})
ours = (GPT2Config if settings.model.architecture == "gpt2" else LlamaConfig)(vocab_size=settings.tokenizer.vocab_size, **shape)
if settings.model.architecture == "llama":
    ours = replace(ours, n_kv_heads=settings.model.n_kv_heads)
n_parameters, n_tokens = as_shapes(ours).n_parameters(), settings.pretrain.steps * settings.pretrain.batch_size * settings.model.context_length
flops = n_tokens * as_shapes(ours).flops_per_token(settings.model.context_length, training=True)
facts = {
    "파라미터": n_parameters, "읽을 토큰": n_tokens, "파라미터 하나에 토큰": round(n_tokens / n_parameters, 2), "학습 FLOP": f"{flops:.2e}",
    "Llama 3.1 8B와의 크기 비": f"{as_shapes(models['Llama 3.1 8B']).n_parameters() / n_parameters:,.0f}분의 1",
}  # fmt: skip
model_link = next(link for link in links if link.stage == "base-model")
if model_link.state in ("done", "stale"):
    measured = artifacts.read_manifest("base-model")["metrics"]
    facts["실제 학습 시간 (초)"] = round(measured["training_seconds"], 1)
    facts["초당 토큰으로 셈한 시간 (초)"] = round(n_tokens / measured["tokens_per_second"], 1)
    facts["낸 속도 (GFLOP/s)"] = round(flops / measured["training_seconds"] / 1e9, 1)
for name, value in facts.items():
    print(f"  {name}: {value:,}" if isinstance(value, (int, float)) else f"  {name}: {value}")
report.facts(facts)
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `make week1-lifecycle SCALE=gpu`: gpu 규모의 모델은 몇 분의 1인가요? RTX 4090 한 장으로 며칠인가요?
# - `make corpus tokenizer` 다음에 다시 실행해 사슬이 채워지는 것을 보세요. `make corpus SEED=1` 뒤에는 어떤 고리가 "재료가 바뀜"이 되나요?
# - `ARGS="model.n_layers=24 model.d_model=1024"`로 5절의 수가 어떻게 바뀌는지, 2절의 어느 점에 가까운지 보세요.
