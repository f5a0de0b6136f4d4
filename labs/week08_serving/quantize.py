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
# # 8주차. 양자화: 더 적은 비트로 같은 말을
#
# 학습이 끝난 가중치 하나는 bf16으로 2바이트입니다. 8비트면 1바이트, 4비트면 반 바이트입니다. 모델이 작아지는 것은 당연한데,
# **왜 빨라지기까지 할까요? 그리고 어디까지 줄여도 같은 말을 할까요?**
#
# 라이브러리를 부르기 전에 손으로 해 봅니다. 수 하나를 반올림하는 것에서 시작해 SmoothQuant, AWQ, GPTQ까지 모두
# `scratch_llm.quantization`에 있는 그대로 쓰고, 마지막에 같은 가중치를 bitsandbytes, torchao, NVIDIA ModelOpt에도 맡겨
# 같은 글로 채점합니다. 재료는 5주차에 학습한 모델입니다.

# %%
import time

import torch
import torch.nn.functional as F

from llm_workshop.artifacts import Artifacts, device_name
from llm_workshop.quantization.comparison import (
    BASE,
    WITH_HEAD,
    Text,
    check_methods,
    compare,
    decoding_speeds,
)
from llm_workshop.quantization.evaluation import text_batches
from llm_workshop.quantization.plots import error_histogram, grid_plot, outlier_plot, speed_plot, trade_plot
from llm_workshop.report import Report
from llm_workshop.settings import settings_from_command_line
from llm_workshop.timing import fastest_seconds
from scratch_llm.generation.packing import PackedLinear, can_pack
from scratch_llm.models import LlamaConfig, build_model, load_model
from scratch_llm.quantization import (
    DynamicInt8Linear,
    awq,
    gptq,
    hessian,
    load_quantized,
    model_bytes,
    pack_int4,
    quantizable,
    quantization_error,
    quantize,
    quantize_model,
    save_quantized,
    schemes,
    smoothing_scales,
    unpack_int4,
)
from scratch_llm.quantization.affine import choose_grid, decode, encode
from scratch_llm.quantization.model import round_to_nearest
from scratch_llm.tokenizers import ByteLevelBPE

settings = settings_from_command_line(uses=("quantize",))
methods = check_methods(settings.quantize.methods)
artifacts = Artifacts(settings)
report = Report(artifacts, "week08-quantize", "8주차: 양자화")
folder = artifacts.require("base-model")
model = load_model(folder, dtype=torch.bfloat16)
tokenizer = ByteLevelBPE.load(artifacts.require("tokenizer"))
context, group_size = model.config.context_length, settings.quantize.group_size
calibration = [inputs for inputs, _ in text_batches(artifacts, "train", settings.quantize.calibration_tokens, context)]
evaluation = text_batches(artifacts, "valid", settings.quantize.eval_tokens, context)
layer_name, layer = list(quantizable(model))[-2]
weight = layer.weight.detach().float()
print(f"파라미터 {model.n_parameters():,}개, bf16으로 {model_bytes(model) / 1e6:.1f} MB. 연습할 가중치: {layer_name} {tuple(weight.shape)}")

# %% [markdown]
# ## 1. 스케일: 눈금 한 칸의 크기
#
# 양자화는 자로 재는 일입니다. 눈금 한 칸의 크기를 **스케일** $s$라 하면, 실수 $w$는 "몇 칸인가" 하는 정수 $q$(**코드**)로 바뀝니다.
#
# $$ q = \mathrm{round}\!\left(\frac{w}{s}\right), \qquad \hat w = q \cdot s $$
#
# 8비트면 $-127$부터 $127$까지 쓰니($-128$은 짝이 없어 비워 둡니다), 가장 큰 수가 127에 오도록 $s = \max|w| / 127$로 잡습니다.
# 반올림이니 오차는 반 칸, 곧 $s/2$를 넘지 않습니다. 학습한 가중치의 한 행으로 확인합시다.

# %%
report.section("1. 스케일: 눈금 한 칸의 크기")
row = weight[0]
scale = row.abs().max() / 127
codes = torch.round(row / scale)
print(f"가중치   {row[:4].tolist()}")
print(f"스케일   {scale:.6f}")
print(f"코드     {codes[:4].int().tolist()}")
print(f"되돌리면 {(codes * scale)[:4].tolist()}")
largest_error = (codes * scale - row).abs().max()
print(f"가장 큰 오차 {largest_error:.6f}, 반 칸 {scale / 2:.6f}: {'반 칸 안' if largest_error <= scale / 2 * 1.0001 else '반 칸을 넘음!'}")
report.text(
    f"`{layer_name}` 첫 행의 스케일은 {scale:.3g}, 되돌린 값의 가장 큰 오차는 {largest_error:.3g}로 반 칸({scale / 2:.3g}) 안입니다."
)

# %% [markdown]
# ## 2. 대칭과 비대칭
#
# 0을 한가운데 두면 **대칭**입니다. 값이 한쪽으로 쏠려 있으면 안 쓰는 눈금이 생기지요. **비대칭**은 최솟값에서 최댓값까지만 눈금을 놓고,
# 0이 몇 번째 눈금인지(**영점**, zero point, $z$)를 따로 적어 둡니다.
#
# $$ s = \frac{\max w - \min w}{2^n - 1}, \qquad q = \mathrm{round}\!\left(\frac{w}{s}\right) + z, \qquad \hat w = (q - z)\,s $$
#
# 4비트의 눈금 열여섯 개로 보면 차이가 뚜렷합니다. 대칭은 하나를 비워 열다섯 개만 씁니다. 오차는 **SNR**(신호 대 잡음비, 곧 가중치의
# 제곱합을 오차의 제곱합으로 나눈 것을 데시벨로 적은 값)로도 잽니다. 클수록 좋습니다.

# %%
report.section("2. 대칭과 비대칭")
grids, rows = {}, []
skewed = int((weight.amax(1) + weight.amin(1)).abs().argmax())  # 가장 한쪽으로 쏠린 행
row = weight[skewed]
for name, symmetric in (("대칭", True), ("비대칭", False)):
    scale, zero_point = choose_grid(row[None], 4, symmetric=symmetric)
    low, high = (-7, 7) if symmetric else (0, 15)
    points = torch.arange(low, high + 1)
    grids[f"{name} 4비트"] = decode(points, scale[0], None if symmetric else zero_point[0].int()).float()
    back = decode(encode(row[None], scale, zero_point, 4), scale, zero_point)[0]
    error = quantization_error(row, back)
    rows.append({"방식": name, "스케일": float(scale), "영점": None if symmetric else int(zero_point), "RMS 오차": error.rms, "SNR (dB)": error.snr_db})
    print(f"{name:4} 스케일 {float(scale):.5f}, RMS 오차 {error.rms:.5f}, SNR {error.snr_db:.1f} dB")
report.table(rows, caption=f"{layer_name} {skewed}번 행 (최소 {row.min():.3f}, 최대 {row.max():.3f})")
report.figure(grid_plot(row, grids, "한 행의 가중치와 4비트 눈금"), "grids", "눈금이 가중치의 범위를 얼마나 알뜰하게 덮는지")

# %% [markdown]
# ## 3. 이상치와 그룹
#
# 스케일은 **가장 큰 수**가 정합니다. 유난히 큰 수(**이상치**)가 하나만 있어도 눈금이 성겨져 나머지가 모두 뭉개집니다.
# 그래서 스케일을 여럿 둡니다. 텐서 전체에 하나, 행(출력 채널)마다 하나, 이웃한 입력 몇 개(**그룹**)마다 하나.
# 잘게 나눌수록 정확하지만 스케일도 저장해야 하니 공짜는 아닙니다.
#
# 아래에서는 수 하나만 가장 큰 값의 여덟 배로 키워 봅니다. 오차는 그 수를 뺀 나머지에서 잽니다.

# %%
report.section("3. 이상치와 그룹")
spoiled = weight.clone()
spoiled[0, 0] = 8 * weight.abs().max()
rest = torch.ones_like(weight, dtype=torch.bool)
rest[0, 0] = False
rows = []
for name, granularity in (("텐서에 하나", "tensor"), ("채널(행)마다", "channel"), (f"입력 {group_size}개마다", schemes(group_size)["int4"].granularity_for(weight.shape[1]))):
    found = {}
    for label, matrix in (("원래", weight), ("이상치 하나", spoiled)):
        quantized = quantize(matrix, 4, granularity=granularity)
        found[label] = quantization_error(matrix[rest], quantized.dequantize()[rest]).snr_db
    rows.append({"스케일": name, "SNR, 원래 (dB)": found["원래"], "SNR, 이상치 하나 (dB)": found["이상치 하나"], "비트/가중치": 8 * quantized.n_bytes() / weight.numel()})
    print(f"{name:12} {found['원래']:6.1f} dB -> 이상치 하나 {found['이상치 하나']:6.1f} dB  (가중치 하나에 {rows[-1]['비트/가중치']:.2f}비트)")
report.table(rows, caption="4비트 대칭. 이상치는 자기와 스케일을 나누어 쓰는 이웃만 망칩니다 (스케일은 float32로 셈)")

# %% [markdown]
# ## 4. 4비트 둘을 한 바이트에
#
# 컴퓨터의 가장 작은 단위는 바이트라서, 4비트 코드는 둘씩 묶어 넣습니다. 앞의 것을 아래 네 비트에, 뒤의 것을 위 네 비트에 둡니다.
# 되돌릴 때는 `& 15`로 아래를, `>> 4`로 위를 꺼냅니다. 이어서 8, 4, 3비트로 줄일 때 오차가 얼마나 커지는지도 재어 봅니다.

# %%
report.section("4. 4비트 둘을 한 바이트에")
pair = torch.tensor([3, 12])
byte = pack_int4(pair)
print(f"{pair[0]} = {pair[0]:04b},  {pair[1]} = {pair[1]:04b}  ->  한 바이트 {byte.item():08b} ({byte.item()})")
print(f"되돌리면 아래 {byte.item() & 15}, 위 {byte.item() >> 4}")
four = quantize(weight, 4, symmetric=False, granularity=schemes(group_size)["int4"].granularity_for(weight.shape[1]))
packed = pack_int4(four.codes)
same = torch.equal(unpack_int4(packed), four.codes)
print(f"{tuple(weight.shape)}: bf16 {2 * weight.numel():,}바이트 -> 4비트 {packed.numel():,}바이트, 풀면 {'그대로' if same else '다릅니다!'}")
report.text(f"코드 3(`0011`)과 12(`1100`)는 한 바이트 `{byte.item():08b}`가 됩니다. 이 가중치는 {2 * weight.numel():,}바이트에서 {packed.numel():,}바이트가 됩니다.")

errors = {}
for n_bits in (8, 4, 3):
    back = quantize(weight, n_bits, granularity="channel").dequantize()
    errors[f"{n_bits}비트"] = (back - weight).flatten()
    print(f"{n_bits}비트, 채널마다: {quantization_error(weight, back).snr_db:.1f} dB")
report.figure(
    error_histogram(errors, "비트 수와 반올림 오차"), "errors", "한 비트를 줄일 때마다 눈금이 두 배쯤 성겨지고, SNR은 6 dB쯤 떨어집니다"
)

# %% [markdown]
# ## 5. 보정
#
# 지금까지는 가중치만 보았습니다. 그런데 우리가 지키려는 것은 가중치가 아니라 **출력** $Wx$입니다. 글을 조금 읽혀 보면
# 어느 입력이 큰지, 어느 입력끼리 함께 움직이는지 알 수 있습니다. 이것을 **보정**(calibration)이라 합니다. 이 층의 입력을 토큰마다 한 행씩
# 쌓은 행렬을 $X$라고 합시다.
#
# - **AWQ**: 큰 입력과 만나는 가중치의 열을 $s_j$배 키운 다음 반올림하고, 입력을 $s_j$로 나눕니다. 그 열의 눈금이 그만큼 촘촘해지는 셈입니다.
# - **GPTQ**: 한 열을 반올림해 생긴 오차를, 아직 반올림하지 않은 열들이 나누어 갚습니다. 얼마씩 갚을지는 $H = 2X^\top X$가 정합니다.
# - **SmoothQuant**: 활성값까지 8비트로 할 때, 활성값의 이상치를 가중치로 반쯤 떠넘깁니다($\alpha = 0.5$).
#
# $$ s_j = \frac{\max|X_j|^{\alpha}}{\max|W_j|^{1-\alpha}}, \qquad Y = \left(X\,\mathrm{diag}(s)^{-1}\right)\left(\mathrm{diag}(s)\,W^\top\right) $$
#
# 먼저 AWQ와 GPTQ를 한 층에서 3비트로 견주어 봅시다. 글의 절반으로 보정하고(AWQ는 그 가운데 네 토큰에 하나만 봅니다),
# **보지 못한 절반**으로 채점합니다.

# %%
report.section("5. 보정")


def inputs_of(linear):
    """The inputs (tokens, D) float32 that the calibration text gives this layer."""
    seen = []
    hook = linear.register_forward_pre_hook(lambda _, given: seen.append(given[0].flatten(0, -2).float()))
    with torch.no_grad():
        for ids in calibration:
            model(ids)
    hook.remove()
    return torch.cat(seen)


x = inputs_of(layer)
shown, unseen = x[: len(x) // 2], x[len(x) // 2 :]
grid = {"symmetric": False, "granularity": four.group_size}
approximations = {
    "반올림만": quantize(weight, 3, **grid).dequantize(),
    "AWQ": awq(weight, shown[::4], 3, **grid).dequantize(),
    "GPTQ": gptq(weight, hessian(shown), 3, **grid, block_size=4 * four.group_size).dequantize(),
}
truth, rows = unseen @ weight.T, []
for name, approximation in approximations.items():
    output = (unseen @ approximation.T - truth).norm() / truth.norm()
    rows.append({"방법 (3비트)": name, "가중치 SNR (dB)": quantization_error(weight, approximation).snr_db, "출력 오차 (%)": 100 * float(output)})
    print(f"{name:6} 가중치 {rows[-1]['가중치 SNR (dB)']:5.1f} dB, 출력 오차 {100 * float(output):.2f} %")
report.table(rows, caption=f"{layer_name}, 보정에 쓰지 않은 토큰 {len(unseen):,}개")

# %% [markdown]
# GPTQ의 가중치는 원래 것에서 **더 멀어졌는데** 출력은 더 가깝습니다. 무엇을 기준으로 재느냐가 중요하다는 뜻입니다.
#
# 이번에는 SmoothQuant입니다. 정규화를 막 지난 활성값 가운데 채널의 크기가 가장 고르지 않은 층을 찾아 봅시다.
# 튀어나온 채널이 얼마나 눌리고, 그만큼 가중치는 얼마나 커지나요? 중앙값의 수십 배나 되는 이상치는 파라미터가 수십억 개쯤 되어야 또렷해집니다.
# 작은 모델은 활성값이 원래 고른 편이라 얻을 것도 적습니다.

# %%
candidates = {name: inputs_of(linear) for name, linear in quantizable(model) if name.endswith(("qkv", "gate_up", "up"))}
name, x = max(candidates.items(), key=lambda item: float(item[1].abs().amax(0).max() / item[1].abs().amax(0).median()))
w = model.get_submodule(name).weight.detach().float()
scales = smoothing_scales(x, [w])
before, after = x.abs().amax(0), (x / scales).abs().amax(0)
print(f"{name}: 활성값의 가장 큰 채널 / 중앙값 {before.max() / before.median():.1f}배 -> {after.max() / after.median():.1f}배")
report.figure(
    outlier_plot(before, after, w.abs().amax(0), (w * scales).abs().amax(0)), "outliers", f"SmoothQuant 앞뒤의 활성값과 가중치 ({name})"
)

# %% [markdown]
# ## 6. 왜 빨라지나
#
# 글을 한 토큰씩 쓸 때(**디코딩**)는 토큰마다 **모든 가중치를 한 번씩 읽습니다.** 읽은 수 하나로 하는 계산은 곱셈 한 번, 덧셈 한 번뿐이라
# 연산 장치는 놀고 메모리만 바쁩니다.
#
# $$ \text{토큰 하나의 시간} \;\gtrsim\; \frac{\text{읽을 바이트}}{\text{메모리 대역폭}} $$
#
# 그래서 바이트를 반으로 줄이면 시간은 잘해야 반으로 줄어듭니다. 반대로 프롬프트를 읽을 때(**프리필**)는 가중치 하나를 토큰 수백 개에 쓰므로
# 계산이 병목이고, 가중치만 줄여서는 빨라지지 않습니다. 거기서는 활성값까지 int8로 바꾸어 **정수끼리 곱하는** 방식(동적 양자화)이 쓸모 있습니다.
# 토큰마다 스케일을 그때그때 재므로 '동적'이라 합니다. 단, 정수 곱셈이 빠른 하드웨어라야 합니다.

# %%
report.section("6. 왜 빨라지나")
generator = torch.Generator().manual_seed(settings.seed)
big = torch.randn(4096, 1024, generator=generator).bfloat16()
linear = torch.nn.Linear(1024, 4096, bias=False, dtype=torch.bfloat16)
linear.weight.data = big
config = LlamaConfig(vocab_size=8192, context_length=256, n_layers=6, n_heads=6, n_kv_heads=6, d_model=384, d_ff=1024)
dynamic, rows = DynamicInt8Linear(big), []
bf16 = PackedLinear(big, None, 1) if can_pack(torch.bfloat16) else linear
for n_rows in (1, 128):
    x = torch.randn(n_rows, 1024, generator=generator).bfloat16()
    ways = {"bf16": bf16, "가중치만 int8": round_to_nearest(linear, schemes()["int8"]).packed(1), "가중치만 int4": round_to_nearest(linear, schemes(32)["int4"]).packed(1), "동적 int8": dynamic}
    with torch.inference_mode():
        seconds = fastest_seconds({name: (lambda way=way, x=x: way(x)) for name, way in ways.items()}, rounds=30, budget=3)
    for name, taken in seconds.items():
        n_bytes = big.numel() * {"bf16": 2, "가중치만 int4": 0.625}.get(name, 1)
        rows.append({"토큰 수": n_rows, "방식": name, "마이크로초": 1e6 * taken, "읽는 가중치 (MB)": n_bytes / 1e6, "GB/초": n_bytes / taken / 1e9})
        print(f"토큰 {n_rows:3}개, {name:8} {1e6 * taken:8.0f} us, 가중치 {n_bytes / 1e6:4.1f} MB, {n_bytes / taken / 1e9:5.1f} GB/초")
report.text(f"행렬 (4096, 1024) 하나의 곱. 기계: {device_name()}.")
report.table(rows, caption="토큰 하나(디코딩)와 128개(프리필). 모델이 작으면 가중치가 CPU 캐시에 들어가, 바이트를 줄인 만큼 다 빨라지지는 않습니다")

# %% [markdown]
# ## 7. 모델 전체
#
# 이제 블록 안의 모든 선형층을 양자화하고, 무엇을 잃고 무엇을 얻는지 봅니다. **임베딩과 출력층, 정규화는 그대로 둡니다.**
# 임베딩은 토큰마다 한 행만 읽고, 출력층의 오차는 곧바로 확률에 나타나기 때문입니다('출력층까지'라고 적은 줄만 예외).
# SmoothQuant, AWQ, GPTQ는 앞 층부터 차례로, **이미 양자화한 층들이 내놓는 입력**으로 보정합니다.
#
# 채점하는 법은 모두 같습니다. 같은 검증 글의 비트/바이트, bf16의 다음 토큰 분포에서 벗어난 정도(KL), 바이트 수를 잽니다. 속도는 **줄인 가중치를
# 그대로 읽어 계산하는 것만** 잽니다. 반올림만 흉내 내는 것(시뮬레이션)의 속도는 아무 뜻이 없어 '–'로 둡니다.

# %%
report.section("7. 모델 전체")
text = Text(evaluation, tokenizer.token_bytes(), calibration, evaluation[0][0][:1, : max(1, context // 2)])
n_tokens = sum(int((targets != -100).sum()) for _, targets in evaluation)
print(f"검증 토큰 {n_tokens:,}개, 보정 토큰 {sum(ids.numel() for ids in calibration):,}개")
results = compare(folder, model, methods, text, group_size)
by_name = {result.name: result for result in results}
report.table(
    [
        {
            "방법": result.title,
            "크기 (MB)": round(result.megabytes, 2),
            "비트/바이트": round(result.bits_per_byte, 4),
            "손실 (%)": round(result.loss_percent, 3),
            "KL (nat)": result.divergence,
            "가중치 SNR (dB)": result.weight_snr_db,
            "준비 (초)": round(result.seconds, 1),
            "프리필 (ms)": result.prefill_ms,
            "토큰/초": result.tokens_per_second,
        }
        for result in results
    ],
    caption=f"검증 토큰 {n_tokens:,}개. 프리필은 토큰 {text.prompt.shape[1]}개와 첫 토큰까지, 토큰/초는 배치 1. 속도가 없는 것은 시뮬레이션",
)
report.figure(trade_plot(results), "trade", "크기와 손실")
report.figure(speed_plot(results), "speed", "디코딩 속도")
print("\n방법                     크기      손실       KL        토큰/초")
for result in results:
    speed = "시뮬레이션" if result.tokens_per_second is None else f"{result.tokens_per_second:,.0f}"
    print(f"{result.title:22} {result.megabytes:6.2f} MB {result.loss_percent:+7.3f} % {result.divergence:.2e}  {speed}")

# %% [markdown]
# ## 8. 목표를 이루었나
#
# 두 가지를 목표로 삼았습니다. 가중치만 int8로 바꾸면 비트/바이트의 손실이 0.5 %를 넘지 않는다. 그리고 파라미터 1,400만 개쯤 되는 모델이
# bf16일 때보다 1.2배 이상 빠르게 쓴다. 속도는 가중치의 값과 상관이 없으니, 두 번째는 학습하지 않은 모델로 재도 됩니다.

# %%
report.section("8. 목표를 이루었나")
speeds = decoding_speeds(build_model(config, seed=settings.seed).to(torch.bfloat16), 32)
ratios = {name: speed / speeds[BASE] for name, speed in speeds.items()}
rows = []
if "int8" in by_name:
    loss = by_name["int8"].loss_percent
    rows.append({"목표": "int8의 손실 0.5 % 이하", "잰 값": f"{loss:+.3f} %", "이루었나": loss <= 0.5})
rows.append({"목표": "int8의 디코딩이 bf16의 1.2배 이상", "잰 값": f"{ratios['int8']:.2f}배", "이루었나": ratios["int8"] >= 1.2})
for row in rows:
    print(f"{row['목표']}: {row['잰 값']}  {'이룸' if row['이루었나'] else '못 미침 (다른 프로그램이 CPU를 쓰고 있지 않은지 보세요)'}")
print(f"같은 모델: 출력층까지 int8 {ratios[WITH_HEAD]:.2f}배, int4 {ratios['int4']:.2f}배 (bf16 {speeds[BASE]:,.0f} 토큰/초)")
report.table(rows)
report.text(
    f"파라미터 1,400만 개쯤 되는 Llama형 모델이 bf16 {speeds[BASE]:,.0f} 토큰/초일 때, int8은 {ratios['int8']:.2f}배, 출력층까지 int8은 {ratios[WITH_HEAD]:.2f}배, "
    f"int4는 {ratios['int4']:.2f}배입니다. int4는 읽을 바이트가 더 적지만, CPU에서는 4비트를 풀고 그룹마다 스케일을 곱하는 일이 그만큼 더 듭니다."
)

# %% [markdown]
# ## 9. 저장하고 다시 열기
#
# 코드와 스케일과 영점을 safetensors 파일 하나에 담고, 각 층의 비트 수와 그룹 크기를 `config.json`에 적습니다. 다시 열면 한 비트도 다르지 않아야 합니다.

# %%
report.section("9. 저장하고 다시 열기")
twin = quantize_model(model, schemes(group_size)["gptq-int4"], calibration)
started = time.perf_counter()
place = artifacts.root / "quantized"
save_quantized(twin, place)
again = load_quantized(place)
ids = evaluation[0][0][:1]
with torch.inference_mode():
    same, close = torch.equal(again(ids), twin(ids)), F.cosine_similarity(model(ids).float().flatten(), twin(ids).float().flatten(), dim=0)
size = (place / "model.safetensors").stat().st_size
print(f"{place.name}/: {size / 1e6:.2f} MB (bf16 {model_bytes(model) / 1e6:.2f} MB), {time.perf_counter() - started:.1f}초, 다시 열면 {'한 비트도 같음' if same else '다릅니다!'}")
report.text(
    f"GPTQ int4 모델은 디스크에서 {size / 1e6:.2f} MB(bf16 {model_bytes(model) / 1e6:.2f} MB)이고, 다시 열면 로짓이 "
    f"{'한 비트도 다르지 않습니다' if same else '다릅니다'}. 원래 모델의 로짓과 코사인 유사도는 {close:.4f}입니다."
)
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `make week8-quantize ARGS="quantize.group_size=128"`: 그룹을 키우면 크기와 손실이 어떻게 바뀌나요?
# - `make week8-quantize ARGS="quantize.calibration_tokens=256"`: 글을 조금만 보여 주면 GPTQ는 어떻게 되나요? 왜 그럴까요?
# - `make week8-quantize ARGS="quantize.methods=int8,int4,gptq-int4,gptq-int3"`: 몇 가지만 골라 빨리 견주어 보세요.
# - 9절의 `schemes(group_size)["gptq-int4"]` 자리에 `Scheme("gptq", n_bits=2, symmetric=False, granularity=16)`을 넣어 2비트를 해 보세요
#   (`from scratch_llm.quantization import Scheme`). 보고서의 코사인 유사도가 어디까지 떨어지나요?
