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
# # 4주차. 모델의 비용: 파라미터, FLOPs, 메모리, MFU
#
# 모델을 고르기 전에 물어야 할 것이 셋 있습니다. **얼마나 계산하나, 얼마나 기억하나, 이 기계를 얼마나 제대로 쓰고 있나.**
# 셋 다 종이와 연필로 답할 수 있습니다. 이 실습에서는 식을 세우고, 그 식이 맞는지 PyTorch의 계수기로 눈앞에서 확인합니다.
#
# 파라미터가 700억 개인 모델도 나옵니다. 내려받지는 않습니다. PyTorch의 `meta` 장치에 올린 텐서는 모양만 있고 메모리가 없어서,
# 노트북에서도 1초면 샅샅이 셀 수 있습니다.

# %%
import torch
from torch.utils.flop_counter import FlopCounterMode

from llm_workshop.architectures.costs import decoding_rows, memory_rows, mfu_rows, price_rows, training_speed
from llm_workshop.artifacts import Artifacts, device_name
from llm_workshop.report import Report
from llm_workshop.report.cost_plots import context_lines, share_bars, short_count
from llm_workshop.report.plots import new_figure
from llm_workshop.settings import settings_from_command_line
from scratch_llm import analysis
from scratch_llm.analysis import as_shapes, device_named, forward_flops, mfu, published_config, six_n
from scratch_llm.models import DeepseekV3Config, Gemma3Config, LlamaConfig, MambaConfig, build_model
from scratch_llm.models.config import replace

settings = settings_from_command_line(uses=("tokenizer.vocab_size", "model", "pretrain.batch_size", "pretrain.precision"))
artifacts = Artifacts(settings)
report = Report(artifacts, "week04-flops", "4주차: 파라미터, FLOPs, 메모리, MFU")
KOREAN = {
    "feed-forward": "피드포워드", "embedding": "임베딩", "attention": "어텐션", "context": "문맥(점수와 합)", "mixer": "Mamba 믹서",
    "head": "출력층", "experts": "전문가", "shared expert": "공유 전문가", "router": "라우터", "norms": "정규화",
}  # fmt: skip

# %% [markdown]
# ## 1. 파라미터는 어디에 있나
#
# 너비를 $D$, 층수를 $L$, 어휘를 $V$라 합시다. 머리 $H$개의 너비가 저마다 $d$이고 키·밸류 머리는 $K$개, 피드포워드 안쪽 너비는 $F$입니다.
#
# $$ \underbrace{VD}_{\text{임베딩}} \;+\; L\,\bigl(\underbrace{D(H+2K)d + HdD}_{\text{어텐션}} + \underbrace{3DF}_{\text{SwiGLU}}\bigr)
#    \;+\; \underbrace{VD}_{\text{출력층, 묶으면 0}} $$
#
# GPT-2처럼 $Hd = D$, $F = 4D$이고 게이트가 없으면 블록 하나가 $12D^2$입니다. 작은 모델일수록 임베딩의 몫이 크다는 점,
# 전문가 혼합(MoE)에서는 **가진** 파라미터와 **쓰는** 파라미터가 다르다는 점을 표에서 찾아보세요.

# %%
report.section("1. 파라미터는 어디에 있나")
NAMES = (
    "GPT-2 124M", "GPT-2 355M", "GPT-2 774M", "GPT-2 1558M", "Llama 3.2 1B", "Qwen3 0.6B", "Gemma 3 1B", "Mamba 130M",
    "Llama 3.1 8B", "Llama 3.1 70B", "Qwen3 30B-A3B", "DeepSeek-V3",
)  # fmt: skip
models = {name: as_shapes(published_config(name)) for name in NAMES}
rows, shares = [], {}
for name, model in models.items():
    parts = analysis.count_parameters(model)
    rows.append({
        "모델": name,
        "파라미터": model.n_parameters(),
        "토큰 하나가 쓰는 것": analysis.active_parameters(model),
        "가장 큰 부분": f"{KOREAN[parts[0].name]} {parts[0].total / model.n_parameters():.0%}",
        "임베딩+출력층": f"{sum(p.total for p in parts if p.name in ('embedding', 'head')) / model.n_parameters():.0%}",
    })
    shares[name] = {KOREAN[part.name]: part.total for part in parts}
    print(f"{name:14} {model.n_parameters():>15,}개, 토큰 하나가 쓰는 것 {analysis.active_parameters(model):>14,}개  ({rows[-1]['가장 큰 부분']})")
report.table(rows)
figure, axes = new_figure(width=8.2, height=4.4)
share_bars(axes, shares, "파라미터가 있는 곳", list(KOREAN.values()))
report.figure(figure, "parameters", "모델마다 파라미터가 어디에 얼마나 있는지 (묶은 임베딩은 한 번만)")

# %% [markdown]
# 공식 하나로 GPT-2 124M을 손으로 맞혀 봅시다. 편향과 정규화까지 넣으면 한 개도 틀리지 않습니다.
#
# $$ \underbrace{50257 \cdot 768}_{VD} + \underbrace{1024 \cdot 768}_{\text{위치}} + 12\,(\underbrace{12 \cdot 768^2}_{\text{행렬}}
#    + \underbrace{9 \cdot 768}_{\text{편향}} + \underbrace{4 \cdot 768}_{\text{정규화}}) + \underbrace{2 \cdot 768}_{\text{마지막 정규화}} $$

# %%
V, T, D, L = 50257, 1024, 768, 12
by_hand = V * D + T * D + L * (12 * D * D + 9 * D + 4 * D) + 2 * D
counted = models["GPT-2 124M"].n_parameters()
print(f"손으로 {by_hand:,}개, 모델이 센 것 {counted:,}개: {'같습니다' if by_hand == counted else '다릅니다!'}")
report.text(f"손으로 센 GPT-2 124M의 파라미터는 {by_hand:,}개, 모델이 센 것은 {counted:,}개입니다.")

# %% [markdown]
# ## 2. FLOPs: 토큰 하나의 비용
#
# 행렬에 든 수 하나는 토큰마다 곱셈 한 번과 덧셈 한 번에 쓰입니다. 그러니 행렬 파라미터가 $N$개면 토큰 하나에 $2N$번입니다.
# 어텐션에는 가중치가 아닌 것끼리의 곱이 더 있습니다. 층마다 점수 $q k^\top$에 $2HdT$, 밸류의 가중합에 $2HdT$입니다.
#
# $$ C_{\text{순전파}} = 2N + 4LHdT, \qquad C_{\text{학습}} = 3\,C_{\text{순전파}} $$
#
# 학습이 세 배인 까닭은 역전파에서 행렬 곱을 두 번 하기 때문입니다. $Y = XW$라면 입력의 기울기 $\partial X = \partial Y\, W^\top$와
# 가중치의 기울기 $\partial W = X^\top \partial Y$가 필요합니다. 임베딩은 찾아보기만 하므로 0입니다.
#
# 인과 마스크 때문에 실제로 필요한 점수는 $T \times T$ 가운데 절반이지만, PaLM(Chowdhery 외, 2022, 부록 B)을 따라 전부 셉니다.
# 논문마다 세는 법이 다르면 MFU를 비교할 수 없으므로, **어떻게 세었는지 밝히는 것**이 숫자만큼 중요합니다.
#
# 말로만 하지 말고 확인합시다. `FlopCounterMode`는 PyTorch가 실제로 부르는 행렬 곱을 하나하나 셉니다.

# %%
report.section("2. FLOPs: 토큰 하나의 비용")
CHECKED = ("GPT-2 124M", "Llama 3.2 1B", "Qwen3 0.6B", "Llama 3.1 70B", "Qwen3 30B-A3B", "DeepSeek-V3")
rows, T = [], 512
# 전문가가 많은 둘은 행렬 곱이 만 번을 넘어, 맛보기(smoke)에서는 뺍니다.
for name in CHECKED[:4] if settings.scale == "smoke" else CHECKED:
    model, tokens = models[name], torch.zeros(1, T, dtype=torch.long, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(tokens)
    ours, torchs = T * model.flops_per_token(T, training=False), counter.get_total_flops()
    rows.append({"모델": name, f"우리 식 (토큰 {T}개, TFLOP)": ours / 1e12, "PyTorch 계수기": torchs / 1e12, "같은가": ours == torchs})
    print(f"{name:14} 식 {ours:>22,}  계수기 {torchs:>22,}  {'같음' if ours == torchs else '다름!'}")
report.table(rows, caption="모델 코드를 meta 장치에서 그대로 돌려, 한 번의 곱도 빠짐없이 센 것")

small = build_model(LlamaConfig(vocab_size=512, context_length=128, n_layers=2, n_heads=4, n_kv_heads=2, d_model=64)).to("meta")
with FlopCounterMode(display=False) as counter:
    small(torch.zeros(2, 128, dtype=torch.long, device="meta")).sum().backward()
print(f"학습 한 걸음: 식 {2 * 128 * small.flops_per_token(128):,}, 계수기 {counter.get_total_flops():,}")

parts = {name: {KOREAN[part]: value for part, value in forward_flops(models[name], 4096).items()} for name in NAMES[4:]}
figure, axes = new_figure(width=8.2, height=3.4)
share_bars(axes, parts, "문맥 4,096에서 토큰 하나의 FLOPs", list(KOREAN.values()))
report.figure(figure, "flops", "같은 모델도 파라미터의 몫과 계산의 몫이 다릅니다")

# %% [markdown]
# ## 3. 문맥이 길어지면
#
# 흔히 쓰는 어림셈은 $6N$입니다(Kaplan 외, 2020). 학습의 $3 \times 2N$에서 어텐션을 뺀 것이지요. 얼마나 긴 문맥까지 믿어도 될까요?
# 둘째 항이 첫째 항과 같아지는 길이는 $4LHdT = 2N$에서 바로 나옵니다.
#
# $$ T^{*} = \frac{N}{2LHd} \;\approx\; \frac{12LD^2}{2LD} = 6D $$
#
# 너비가 큰 모델일수록 어텐션이 늦게 드러난다는 뜻입니다. 창이 있는 모델(Gemma 3)과 상태를 쓰는 모델(Mamba)은 선이 어떻게 다른가요?

# %%
report.section("3. 문맥이 길어지면")
CONTEXTS = [2**exponent for exponent in range(8, 18)]
LINES = ("Qwen3 0.6B", "Llama 3.2 1B", "Gemma 3 1B", "Llama 3.1 8B", "Llama 3.1 70B", "Mamba 130M")
lines = {name: [100 * analysis.context_share(models[name], context) for context in CONTEXTS] for name in LINES}
figure, axes = new_figure(width=7.4, height=3.8)
context_lines(axes, CONTEXTS, lines, "전체 FLOPs 가운데 문맥의 몫", "%")
report.figure(figure, "context-share", "어텐션의 점수와 합(Mamba는 스캔)이 전체 계산에서 차지하는 몫")
rows = []
for name in LINES[:-1]:
    at_one = forward_flops(models[name], 1)
    exact = {context: models[name].flops_per_token(context) / six_n(models[name]) for context in (1024, 8192, 131072)}
    half = (sum(at_one.values()) - at_one["context"]) / at_one["context"]
    windowed = name.startswith("Gemma")
    rows.append({"모델": name, "T*": None if windowed else round(half)} | {f"6N의 몇 배 (문맥 {short_count(c)})": round(r, 2) for c, r in exact.items()})
    meeting = "창 때문에 한 점으로 정해지지 않음" if windowed else f"T* = {half:,.0f}"
    print(f"{name:14} {meeting}, 정확한 값은 6N의 " + ", ".join(f"{r:.2f}배(문맥 {short_count(c)})" for c, r in exact.items()))
report.table(rows, caption="어림셈 6N이 빠뜨리는 것")

# %% [markdown]
# **읽기와 생성.** 프롬프트를 읽을 때(prefill)는 모든 토큰을 한꺼번에 넣고, 답을 생성할 때(decode)는 한 토큰씩 넣습니다.
# KV 캐시가 있으면 앞의 토큰을 다시 계산하지 않습니다. 캐시가 없으면 한 토큰을 더 생성할 때마다 처음부터 다시 읽어야 합니다.

# %%
n_prompt, n_new = 1000, 200
rows = []
for name in ("Llama 3.2 1B", "Llama 3.1 8B", "Llama 3.1 70B"):
    reading, writing = analysis.generation_flops(models[name], n_prompt, n_new)
    again = sum(analysis.prefill_flops(models[name], n_prompt + step) for step in range(n_new))
    rows.append({
        "모델": name, "읽기 (TFLOP)": reading / 1e12, "생성 (TFLOP)": writing / 1e12,
        "캐시 없이 (TFLOP)": again / 1e12, "캐시가 줄인 배수": round(again / (reading + writing), 1),
    })
    print(f"{name:14} 읽기 {reading / 1e12:.1f}, 생성 {writing / 1e12:.1f}, 캐시가 없다면 {again / 1e12:,.0f} TFLOP ({rows[-1]['캐시가 줄인 배수']}배)")
report.table(rows, caption=f"토큰 {n_prompt:,}개를 읽고 {n_new}개를 생성하는 비용")

# %% [markdown]
# ## 4. KV 캐시의 메모리
#
# 다시 계산하지 않는 대신 기억해야 합니다. 토큰 하나마다, 층마다, 키·밸류 머리마다 키 하나와 밸류 하나입니다. 수 하나가 $b$바이트라면
#
# $$ M_{\text{KV}} = 2\,b\,L\,K\,d\,T $$
#
# 이 식에서 줄일 수 있는 글자가 곧 연구의 역사입니다.
#
# | 방법 | 줄이는 것 | 토큰·층마다 기억하는 수 |
# |---|---|---|
# | MHA (Vaswani 외, 2017) | 없음 | $2Hd$ |
# | GQA (Ainslie 외, 2023) | $K < H$ | $2Kd$ |
# | MQA (Shazeer, 2019) | $K = 1$ | $2d$ |
# | MLA (DeepSeek-V2, 2024) | 머리마다 따로 두지 않고 잠재 벡터 하나 | $c + r$ |
# | 슬라이딩 윈도 (Gemma 3, 2025) | 여섯 층 가운데 다섯 층에서 $T$를 $W$로 | $2Kd$, 길이는 $\min(T, W)$ |
# | 상태 공간 (Mamba, 2023) | $T$ 자체 | 길이와 상관없이 고정 |
#
# 공평하게, 모두 32층에 너비 4,096인 8B급 모양으로 맞추어 실제 캐시 객체의 바이트를 잽니다. (Mamba는 블록이 작아 64층이 그만한 크기입니다.)

# %%
report.section("4. KV 캐시의 메모리")
shape = {"vocab_size": 128256, "context_length": 131072, "n_layers": 32, "d_model": 4096}
heads = {"n_heads": 32, "head_dim": 128, "d_ff": 14336}
variants = {
    "MHA (K=32)": LlamaConfig(**shape, **heads, n_kv_heads=32),
    "GQA (K=8)": LlamaConfig(**shape, **heads, n_kv_heads=8),
    "MQA (K=1)": LlamaConfig(**shape, **heads, n_kv_heads=1),
    "GQA + 창 1,024": Gemma3Config(**shape, **heads, n_kv_heads=8, window=1024),
    "MLA (c=512, r=64)": DeepseekV3Config(
        **shape, n_heads=32, d_ff=14336, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128,
        n_experts=2, n_experts_per_token=1, expert_d_ff=64, n_dense_layers=32,
    ),
    "Mamba (상태 16)": MambaConfig(**shape | {"n_layers": 64}),
}  # fmt: skip
lines, rows = {}, []
for name, config in variants.items():
    model = as_shapes(config)
    lines[name] = [analysis.cache_bytes(model, context) / 2**30 for context in CONTEXTS]
    rows.append({"방법": name} | {f"문맥 {short_count(c)} (GiB)": round(lines[name][CONTEXTS.index(c)], 3) for c in (1024, 8192, 131072)})
    print(f"{name:18} 문맥 8k에서 {lines[name][5]:7.3f} GiB, 128k에서 {lines[name][-1]:7.3f} GiB")
predicted = 2 * 2 * 32 * 8 * 128 * 131072
print(f"식 2bLKdT로 GQA 128k: {predicted:,}바이트, 캐시 객체: {analysis.cache_bytes(variants['GQA (K=8)'], 131072):,}바이트")
figure, axes = new_figure(width=7.4, height=4.0)
context_lines(axes, CONTEXTS, lines, "시퀀스 하나의 캐시 (bfloat16)", "GiB", log=True)
report.figure(figure, "cache", "문맥 길이에 따른 캐시의 크기 (두 축 모두 로그)")
report.table(rows, caption="시퀀스 하나의 캐시. 여덟 사람이 동시에 쓰면 여덟 배입니다")

# %% [markdown]
# **MLA는 공짜가 아닙니다.** 잠재 벡터에서 바로 점수를 내면(흡수 형태) 점수 하나의 너비가 $d$가 아니라 $c + r$이 되어 계산이 늘어납니다.
# 메모리를 아끼고 계산을 더 쓰는 거래인데, 생성 단계는 어차피 메모리를 읽느라 계산 장치가 놀고 있으니 남는 장사입니다.

# %%
for name in ("GQA (K=8)", "MLA (c=512, r=64)"):
    at = {length: analysis.decode_flops(variants[name], length) - analysis.decode_flops(variants[name], 1) for length in (8192, 131072)}
    print(f"{name:18} 토큰 하나를 생성할 때 문맥에 드는 계산: 8k에서 {at[8192] / 1e9:.1f}, 128k에서 {at[131072] / 1e9:.1f} GFLOP")

# %% [markdown]
# ## 5. 학습 메모리: 무엇이 어느 GPU에 들어가나
#
# 학습할 때 메모리에 있는 것은 네 가지입니다. AdamW와 혼합 정밀도라면 파라미터 하나에 16바이트가 듭니다(ZeRO, Rajbhandari 외, 2020, 3.1절).
#
# $$ \underbrace{2}_{\text{가중치}} + \underbrace{2}_{\text{기울기}} + \underbrace{4 + 4 + 4}_{\text{float32 사본, } m,\, v} = 16 \text{ 바이트} $$
#
# 넷째는 **활성값**입니다. 역전파에 쓰려고 남겨 두는 중간 결과로, 토큰 수에 비례합니다. FlashAttention과 융합 RMSNorm을 쓰는 Llama 블록이라면
#
# $$ A_{\text{블록}} = b\,\bigl(4D + 3(H + K)d + 4F\bigr) + 4\,(H + 2) \quad\text{바이트/토큰} $$
#
# 입니다. 체크포인팅(Chen 외, 2016)은 블록의 입력 $bD$만 남기고 나머지는 역전파 때 다시 계산합니다. 계산은 4/3배가 되고 활성값은 크게 줄어듭니다.
# 식이 맞는지, autograd가 실제로 붙들고 있는 텐서를 세어 봅시다.

# %%
report.section("5. 학습 메모리")
config = published_config("Llama 3.1 8B")
counted = analysis.count_activations(config, 1, 4096, dtype=torch.bfloat16)
formula = 4096 * analysis.block_activation_bytes(config)
print(f"Llama 3.1 8B의 블록 하나, 토큰 4,096개: 식 {formula:,}바이트, autograd가 남긴 것 {counted.blocks[0]:,}바이트")
print(f"모델 전체: 그냥 {counted.total / 2**30:.1f} GiB, 체크포인팅하면 {counted.with_checkpointing / 2**30:.1f} GiB")

LENGTHS = CONTEXTS[2:8]
fused = [analysis.count_activations(config, 1, n, dtype=torch.bfloat16) for n in LENGTHS]
lines = {
    "어텐션을 풀어 쓰면": [analysis.count_activations(config, 1, n, dtype=torch.bfloat16, kernels="plain").total / 2**30 for n in LENGTHS],
    "FlashAttention": [counted.total / 2**30 for counted in fused],
    "+ 체크포인팅": [counted.with_checkpointing / 2**30 for counted in fused],
}
figure, axes = new_figure(width=7.0, height=3.6)
context_lines(axes, LENGTHS, lines, "Llama 3.1 8B, 시퀀스 하나의 활성값 (bfloat16)", "GiB", log=True)
report.figure(figure, "activations", "풀어 쓴 어텐션은 길이의 제곱, 나머지는 길이에 비례합니다")

# %% [markdown]
# 이제 표를 만듭니다. 길이 2,048인 시퀀스를 한 번에 하나씩(마이크로 배치 1) 넣을 때 모델 전체가 GPU 한 장에 들어가는지 봅니다.
# 할당기의 틈과 작업 공간이 있으니 10 %는 비워 둡니다.
# LoRA 줄은 파라미터의 0.5 %만 학습한다고 본 것입니다. 나머지에는 기울기도 옵티마이저 상태도 없습니다.

# %%
ours = LlamaConfig(vocab_size=8192, context_length=2048, n_layers=6, n_heads=6, n_kv_heads=3, d_model=384)
sizes = {"우리 모델 12M": ours, "GPT-2 124M": replace(published_config("GPT-2 124M"), context_length=2048)}
sizes |= {name: published_config(name) for name in ("Llama 3.2 1B", "Llama 3.2 3B", "Llama 3.1 8B", "Llama 3.1 70B")}
GPUS = ("T4", "RTX 4090", "L40S", "A100 SXM 80GB", "H200")
rows = memory_rows(sizes, GPUS)
for row in rows:
    first = next((gpu for gpu, mark in list(row.items())[-len(GPUS):] if mark == "○"), "한 장에는 안 들어감")
    print(f"{row['모델']:14} {row['방법']:14} {row['합 (GB)']:9.1f} GB  → {first}")
report.table(rows, caption="마이크로 배치 1, 문맥 2,048, 혼합 정밀도 AdamW (괄호 안은 GPU 메모리, GB)")

# %% [markdown]
# ## 6. MFU: 이 기계를 얼마나 쓰고 있나
#
# $$ \text{MFU} = \frac{\text{초당 토큰} \times C_{\text{학습}}}{\text{장치의 최고 속도}} $$
#
# 분자는 위에서 맞추었습니다. 틀리기 쉬운 것은 **분모**입니다. 작은 모델을 몇 걸음 학습시켜 직접 재 봅시다.
# 최고 속도는 이 기계에서 큰 행렬을 곱해 잰 값입니다. 모양은 `ARGS="model.d_model=512"`처럼 바꿀 수 있습니다.

# %%
report.section("6. MFU: 이 기계를 얼마나 쓰고 있나")
device = "cuda" if torch.cuda.is_available() else "cpu"
speed = training_speed(settings, device)
rows = mfu_rows(speed, device)
print(f"{device_name()}, {speed.reason}")
print(f"파라미터 {speed.n_parameters:,}개, 초당 {speed.tokens_per_second:,.0f}토큰")
for row in rows:
    print(f"  분자 {row['분자']}, 분모 {row['분모']} ({row['TFLOP/s']:.2f} TFLOP/s): MFU {row['MFU']}  [{row['판정']}]")
report.text(f"{device_name()}에서 파라미터 {speed.n_parameters:,}개짜리 모델이 초당 {speed.tokens_per_second:,.0f}토큰을 배웠습니다.").table(rows)

# %% [markdown]
# **왜 튜토리얼의 MFU가 틀리곤 할까요?** GPU 제조사의 표에는 숫자가 여럿입니다. A100을 봅시다.
#
# - float32, 텐서 코어 밖: 19.5 TFLOP/s
# - TF32, 텐서 코어: 156
# - bfloat16, 텐서 코어: **312**
# - bfloat16, 2:4 희소 행렬일 때: 624 (별표와 함께 작게 적혀 있고, 보통의 행렬에서는 나오지 않습니다)
#
# 학습은 bfloat16 텐서 코어로 돌려 놓고 19.5로 나누면 MFU가 100 %를 훌쩍 넘습니다. 그런 값이 나오면 기뻐할 일이 아니라 분모를 의심할 일입니다.
# 거꾸로 624로 나누면 잘 돌아가는 학습도 반토막이 납니다. 어텐션을 빼고 세면 문맥이 길수록 MFU가 낮게 나옵니다.
# 아래는 A100에서 GPT-2 124M이 초당 15만 토큰을 배운다고 할 때, 같은 속도가 분모에 따라 어떻게 달라 보이는지입니다.

# %%
a100, gpt2 = device_named("A100 SXM 80GB"), published_config("GPT-2 124M")
denominators = {
    "float32, 텐서 코어 밖": a100.peak(torch.float32), "TF32": a100.peak("tf32"),
    "bfloat16 밀집 (맞는 값)": a100.peak(torch.bfloat16), "bfloat16 희소": 2 * a100.peak(torch.bfloat16),
}  # fmt: skip
rows = [{"분모": name, "TFLOP/s": peak / 1e12, "MFU": f"{mfu(gpt2, 150_000, peak):.0%}"} for name, peak in denominators.items()]
for row in rows:
    print(f"  {row['분모']:20} {row['TFLOP/s']:6.1f} TFLOP/s → MFU {row['MFU']}")
report.table(rows, caption="A100, GPT-2 124M, 문맥 1,024, 초당 150,000토큰(가정): 분모만 바꾼 MFU")

# %% [markdown]
# ## 7. 시간과 돈, 생성의 한계
#
# 같은 식으로 학습에 드는 시간도 어림할 수 있습니다. MFU 40 %는 잘 다듬은 학습이 내는 값입니다(Llama 3 405B는 38~43 %).
#
# 생성 단계는 다른 벽에 부딪힙니다. 토큰 하나를 생성할 때마다 가중치와 캐시를 **모두 읽어야** 하므로 계산이 아니라 메모리 대역폭이 한계입니다.
#
# $$ \text{초당 토큰} \le \frac{\text{배치} \times \text{대역폭}}{M_{\text{가중치}} + \text{배치} \times M_{\text{KV}}}, \qquad
#    \text{MBU} = \frac{\text{초당 읽은 바이트}}{\text{대역폭}} $$

# %%
report.section("7. 시간과 돈, 생성의 한계")
PLANS = (("GPT-2 124M", 10e9, "100억"), ("Llama 3.2 1B", 100e9, "1,000억"), ("Llama 3.1 8B", 15e12, "15조"), ("Llama 3.1 70B", 15e12, "15조"))
rows = price_rows([(models[name], name, n_tokens, in_words) for name, n_tokens, in_words in PLANS], "H100 SXM", price_per_hour=2.5)
for row in rows:
    print(f"{row['모델']:14} 토큰 {row['토큰']} 개: {row['정확한 FLOPs']} FLOP (6ND로는 {row['6ND']}), "
          f"H100 {row['GPU 시간']:,.0f}시간, {row['시간당 2.5달러라면']}")  # fmt: skip
report.table(rows, caption="H100 한 장, MFU 40 %로 본 학습 비용 (문맥은 8,192와 모델의 최대 가운데 짧은 것)")
rows = decoding_rows(models["Llama 3.1 8B"], ("L4", "RTX 4090", "A100 SXM 80GB", "H100 SXM", "H200"))
for row in rows:
    print(f"{row['GPU']:14} 배치 1에서 아무리 빨라도 초당 {row['배치 1']}, 배치 64에서 {row['배치 64']} (벽: {row['배치 64의 벽']})".replace(" 토큰/초", "토큰"))
report.table(rows, caption="Llama 3.1 8B(bfloat16), 문맥 2,048에서 넘을 수 없는 생성 속도. 배치가 크면 캐시가 메모리에 들어가는지도 따로 보아야 합니다")
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `make week4-flops ARGS="model.d_model=512"`: 너비를 키우면 MFU가 오르나요? 왜 그럴까요?
# - `make week4-flops ARGS="model.context_length=1024 pretrain.batch_size=4"`: 한 걸음의 토큰 수는 비슷한데 무엇이 달라지나요?
# - `make week4-flops ARGS="pretrain.precision=float32"`: MFU는 오르는데 초당 토큰은 줄지 않나요? 어느 쪽이 더 나은 학습일까요?
# - 여러분이 가진 GPU의 제조사 표를 찾아, 밀집과 희소, 텐서 코어 안과 밖의 숫자를 구별해 보세요.
