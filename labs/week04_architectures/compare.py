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
# # 4주차. 구조 비교: Transformer, LSTM, Mamba, RWKV, MoE + MLA
#
# "Mamba가 Transformer보다 빠르다"는 말은 무엇을 재었느냐에 따라 맞기도 하고 틀리기도 합니다. 그래서 직접 잽니다.
# 다섯 구조를 **파라미터 수, 말뭉치, 읽는 토큰 수, 배치, 학습률까지 똑같이** 맞추고 네 가지를 봅니다.
#
# 1. 얼마나 잘 배우나: 검증 비트/바이트
# 2. 얼마나 빨리 배우나: 초당 토큰, 최대 메모리
# 3. 글이 길어지면 토큰 하나를 더 생성하는 데 얼마나 드나: 문맥 256에서 8,192까지
# 4. 그때 기억해 두어야 하는 것(캐시)은 얼마나 큰가
#
# 터미널에서는 `make week4-compare` 한 번이면 됩니다. 모델마다 따로 저장되므로 도중에 멈추어도 이어집니다.

# %%
from llm_workshop.architectures.plots import cost_plot, decoding_plot, learning_plot
from llm_workshop.architectures.shapes import ARCHITECTURES, check_architectures, equal_config, report_name
from llm_workshop.architectures.trial import run_trials
from llm_workshop.artifacts import Artifacts
from llm_workshop.pipeline import build_corpus, build_tokenizer, build_tokens
from llm_workshop.report import Report
from llm_workshop.settings import settings_from_command_line
from scratch_llm.models import build_model
from scratch_llm.tokenizers import ByteLevelBPE

settings = settings_from_command_line(uses=("corpus", "tokenizer", "compare", "pretrain.packing", "pretrain.precision", "pretrain.eval_batches"))
artifacts = Artifacts(settings)
compare = settings.compare
check_architectures(compare.models)
# 몇 가지만 골라 비교하면 보고서도 따로 씁니다. 다섯 구조를 모두 비교한 보고서는 그대로 남습니다.
some = "" if set(compare.models) == set(ARCHITECTURES) else f" ({', '.join(ARCHITECTURES[name].title for name in compare.models)})"
report = Report(artifacts, report_name(compare.models), f"4주차: 구조 비교{some}")

# %% [markdown]
# ## 1. 공평하게 만들기
#
# 구조마다 블록 하나에 드는 파라미터가 다릅니다. 너비를 $d$라 하면 대략 이렇습니다.
#
# | 구조 | 블록 하나 | 무엇이 들었나 |
# |---|---|---|
# | Transformer | $12d^2$ | 어텐션 $4d^2$(GQA면 더 적음), 피드포워드 $8d^2$ |
# | LSTM | $8d^2$ | 게이트 네 개가 입력과 앞 상태를 각각 봄 |
# | Mamba | $6d^2$ | 들어가는 투영 $4d^2$, 나오는 투영 $2d^2$. 스캔 자체에는 행렬이 거의 없음 |
# | RWKV-4 | $13d^2$ | 시간 섞기 $4d^2$, 채널 섞기 $9d^2$ |
# | MoE + MLA | 전문가 수만큼 | 파라미터는 많아도 토큰 하나는 그중 몇 개만 지남 |
#
# 그래서 층수를 정해 두고(블록이 작은 Mamba는 그 두 배, LSTM은 많아야 두 층), 전체 파라미터가 같아지는 너비를 찾습니다.
# 모델을 `meta` 장치에 만들면 메모리를 쓰지 않고도 개수를 셀 수 있습니다.

# %%
report.section("1. 공평하게 만들기")
build_corpus(artifacts, force=False)
tokenizer = ByteLevelBPE.load(build_tokenizer(artifacts, force=False))
build_tokens(artifacts, force=False)
shared = {"vocab_size": tokenizer.vocab_size, "context_length": compare.context_length, "n_layers": compare.n_layers}
print(f"\n목표 {compare.parameters:,}개")
for name in compare.models:
    config = equal_config(name, compare.parameters, **shared)
    model = build_model(config, seed=settings.seed)
    print(f"  {ARCHITECTURES[name].title:12} {model.n_parameters():>12,}개  {config.n_layers}층, 너비 {config.d_model}")

# %% [markdown]
# ## 2. 학습
#
# 모델마다 프로세스를 따로 띄웁니다. 그래야 최대 메모리가 서로 섞이지 않습니다.
#
# - **Transformer**는 한 창의 모든 자리를 한꺼번에 계산합니다. 자리 $t$가 앞의 모든 자리를 보므로 계산량은 길이의 제곱에 비례합니다.
# $$ y_t = \sum_{s \le t} \mathrm{softmax}_s\!\left(\frac{q_t^\top k_s}{\sqrt{d}}\right) v_s $$
# - **LSTM**은 앞 자리의 상태가 나와야 다음 자리를 계산합니다. 길이 방향으로는 병렬로 돌릴 수 없습니다.
# $$ c_t = f_t \odot c_{t-1} + i_t \odot g_t, \qquad h_t = o_t \odot \tanh(c_t) $$
# - **Mamba**의 점화식은 상태에 대해 선형입니다. 그래서 시퀀스를 토막 내어 나란히 계산한 뒤 이을 수 있습니다(병렬 스캔).
#   $\Delta_t, B_t, C_t$가 입력에 따라 바뀌는 것이 '선택적'이라는 말의 뜻입니다.
# $$ h_t = e^{\Delta_t A} h_{t-1} + \Delta_t B_t x_t, \qquad y_t = C_t^\top h_t + D x_t $$
# - **RWKV**는 소프트맥스 어텐션의 $q_t^\top k_s$를 '시간에 따라 줄어드는 $k_s$'로 바꿉니다. 그러면 합을 상태 두 개로 이어 갈 수 있습니다.
# $$ wkv_t = \frac{\sum_{s<t} e^{-(t-1-s)w + k_s} v_s + e^{u + k_t} v_t}{\sum_{s<t} e^{-(t-1-s)w + k_s} + e^{u + k_t}} $$
# - **MoE**는 피드포워드를 여러 전문가로 나누고 토큰마다 몇 명에게만 보냅니다. **MLA**는 키와 밸류를 짧은 잠재 벡터 $c_s$ 하나로 줄여 캐시에 넣습니다.
# $$ y_t = \sum_{e \in \mathrm{top}\text{-}k} g_{t,e}\, \mathrm{FFN}_e(x_t), \qquad k_s = W^{UK} c_s, \quad v_s = W^{UV} c_s $$

# %%
report.section("2. 학습")
results = run_trials(artifacts)

# %% [markdown]
# ## 3. 얼마나 잘, 얼마나 빨리 배웠나
#
# 왼쪽 그림은 같은 토큰을 읽었을 때, 오른쪽은 같은 시간을 썼을 때입니다. 두 그림에서 순서가 바뀌는 구조를 찾아보세요.
# 학습률을 하나로 통일했으니 구조마다 가장 좋은 값은 아닐 수 있고, 이 크기에서의 순서가 큰 모델에서도 그대로라는 보장도 없습니다.
# 비교 실험의 결론은 늘 **실험한 범위 안에서만** 성립합니다.

# %%
report.section("3. 얼마나 잘, 얼마나 빨리 배웠나")
rows = [
    {
        "구조": result["title"],
        "파라미터": result["parameters"],
        "토큰당 지나는 파라미터": result["active_parameters"],
        "층": result["n_layers"],
        "너비": result["d_model"],
        "비트/바이트": result["bits_per_byte"],
        "토큰/초": round(result["tokens_per_second"]),
        "최대 메모리 (MiB)": round(result["peak_bytes"] / 2**20),
        "MFLOP/토큰": round(result["flops_per_token"] / 1e6, 1),
    }
    for result in results.values()
]
print("\n구조          비트/바이트   토큰/초   최대 메모리")
for row in rows:
    print(f"{row['구조']:12}  {row['비트/바이트']:10.4f}  {row['토큰/초']:8,}  {row['최대 메모리 (MiB)']:7,} MiB")
report.text(
    f"파라미터 {compare.parameters:,}개, 토큰 {compare.tokens:,}개, 배치 {compare.batch_size}, 문맥 {compare.context_length}, "
    f"최대 학습률 {compare.learning_rate:g}까지 똑같이 맞추었습니다. "
    "토큰/초는 스텝의 중앙값이고, 그림의 시간에는 평가와 다른 프로그램 때문에 기다린 시간까지 들어 있습니다."
)
report.table(rows)
metrics = {name: artifacts.path(f"architecture-{name}") / "metrics.jsonl" for name in results}
report.figure(
    learning_plot(metrics, results, compare.batch_size * compare.context_length), "learning", "읽은 토큰과 걸린 시간에 따른 검증 비트/바이트"
)
report.figure(cost_plot(results), "cost", "학습 속도와 최대 메모리")

# %% [markdown]
# ## 4. 문맥이 길어지면
#
# 이미 $n$개를 읽은 모델이 토큰 하나를 더 생성하는 시간입니다. Transformer는 캐시에 든 $n$개의 키와 모두 곱해야 하니 $O(n)$,
# 순환 구조는 상태 하나만 고치면 되니 $O(1)$입니다. 다만 문맥이 짧을 때는 그 차이가 다른 계산에 묻혀 보이지 않습니다.
# 몇 토큰부터 갈라지는지 그림에서 읽어 보세요. MLA가 줄이는 것은 계산이 아니라 **메모리**라는 것도 보입니다.

# %%
report.section("4. 문맥이 길어지면")
first, last = min(compare.decode_contexts), max(compare.decode_contexts)
costs = []
for result in results.values():
    by_context = {row["context"]: row for row in result["decoding"]}
    costs.append(
        {
            "구조": result["title"],
            f"문맥 {first:,} (ms)": round(by_context[first]["milliseconds"], 3),
            f"문맥 {last:,} (ms)": round(by_context[last]["milliseconds"], 3),
            "배": round(by_context[last]["milliseconds"] / by_context[first]["milliseconds"], 2),
            f"캐시 {last:,} (KiB)": round(by_context[last]["cache_bytes"] / 1024),
        }
    )
print(f"\n구조          문맥 {first:,} → {last:,}에서 토큰 하나의 시간")
for row in costs:
    values = list(row.values())
    print(f"{values[0]:12}  {values[1]:.3f} ms → {values[2]:.3f} ms ({values[3]:.2f}배), 캐시 {values[4]:,} KiB")
report.table(costs)
report.figure(decoding_plot(results), "decoding", "토큰 하나를 더 생성하는 시간과 캐시 크기")
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `make week4-compare ARGS="compare.learning_rate=1e-3"`: 학습률을 바꾸면 순서가 바뀌나요? 구조마다 알맞은 학습률이 다를까요?
# - `make week4-compare ARGS="compare.context_length=64"`: 문맥이 짧으면 LSTM이 따라오나요?
# - `make week4-compare ARGS="compare.models=transformer,mamba compare.decode_contexts=256,16384"`: 더 긴 문맥에서는 몇 배 차이가 나나요?
# - `make week4-compare DATA=nsmc`: 짧은 영화평만 읽히면 결과가 어떻게 달라지나요?
