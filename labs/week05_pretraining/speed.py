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
# # 5주차. 속도 사다리: 학습 한 스텝을 빠르게
#
# 같은 모델, 같은 데이터, 같은 수식인데 코드에 따라 몇 배나 빠르고 느립니다. 처음 쓴 그대로의 학습 스텝에서 출발해 **한 번에 하나씩** 고치면서
# 초당 토큰과 메모리를 잽니다. 빨라졌다는 말에는 늘 증거가 따라야 합니다. 그래서 계단마다 **손실이 그대로인지** 확인합니다.
#
# 계단마다 프로세스를 따로 띄웁니다. 그래야 최대 메모리가 섞이지 않고, 도중에 멈추어도 잰 계단은 남습니다.

# %%
from llm_workshop.artifacts import Artifacts
from llm_workshop.pipeline import build_corpus, build_tokenizer, build_tokens
from llm_workshop.report import Report
from llm_workshop.report.columns import print_table
from llm_workshop.scaling.ladder import choose_rungs
from llm_workshop.scaling.ladder_run import climb, device_type
from llm_workshop.scaling.plots import difference_plot, ladder_plot
from llm_workshop.settings import settings_from_command_line
from scratch_llm.data import TokenFile, Windows
from scratch_llm.training import choose_dtype, matmul_peak

settings = settings_from_command_line(uses=("corpus", "tokenizer", "model", "speed"))
artifacts = Artifacts(settings)
speed, device = settings.speed, device_type()
rungs, left_out = choose_rungs(speed.rungs, device)
report = Report(artifacts, "week05-speed", "5주차: 속도 사다리")

# %% [markdown]
# ## 1. 무엇을 같게 두나
#
# 한 스텝에 배우는 글의 양과 가중치의 처음 값, 학습률은 모든 계단이 같습니다. 초당 토큰은 **실제로 배운 토큰**, 곧 정답이 있는 자리만 셉니다.
# 패딩까지 세면 빈자리를 많이 계산하는 코드가 빨라 보입니다.

# %%
report.section("1. 무엇을 같게 두나")
build_corpus(artifacts, force=False)
build_tokenizer(artifacts, force=False)
tokens = TokenFile(build_tokens(artifacts, force=False) / "train")
windows = Windows(tokens, settings.model.context_length, speed.batch_size, seed=settings.seed, packing="documents")
mean_length = tokens.n_tokens / tokens.n_documents
print(f"글 {tokens.n_documents:,}개, 평균 {mean_length:.0f}토큰. 한 줄은 {settings.model.context_length}자리")
print(f"글 하나를 한 줄에 넣으면 {min(1, mean_length / settings.model.context_length):.0%}쯤 차고, 여러 글을 채우면 {windows.fill:.0%} 찹니다")
for title, reason in left_out.items():
    print(f"  건너뛰는 계단: {title} ({reason})")

# %% [markdown]
# ## 2. 사다리 오르기
#
# | 계단 | 무엇이 바뀌나 | 왜 빨라지나 |
# |---|---|---|
# | SDPA | 어텐션 점수 $T \times T$를 저장하지 않음 | 메모리를 덜 오갑니다. 계산보다 메모리가 느립니다 |
# | 블록 어텐션 | 가려질 절반을 건너뛰고, 블록마다 행렬 곱 | CPU의 행렬 곱 장치를 제 속도로 씁니다 |
# | 로짓을 다 만들지 않는 손실 | 어휘 전체의 로짓을 조각조각 계산하고 버림 | $B \times T \times V$짜리 배열 서너 개가 사라집니다 |
# | fused AdamW | 가중치를 한 번만 훑음 | 수식의 줄마다 메모리를 한 바퀴씩 돌던 것을 한 바퀴로 |
# | packing | 한 줄에 글을 여럿 채움 | 빈자리를 계산하지 않습니다 |
# | 배치 전체 | 나누어 돌리던 것을 한 번에 | 행렬이 커야 곱셈 장치가 쉬지 않습니다. 대신 메모리를 씁니다 |
# | 64의 배수 | 어휘에 쓰지 않는 자리를 더함 | 행렬의 모서리 처리가 없어집니다. GPU의 텐서 코어에서 특히 |
# | 메모리 되쓰기 | 놓아준 메모리를 운영체제에 돌려주지 않음 | 다음 스텝이 같은 크기를 또 달라고 하니까요 |
# | bfloat16 | 곱셈을 16비트로, 가중치는 32비트로 | 장치가 있으면 두 배 넘게 빠릅니다 |
# | compile | 원소별 계산을 이어 붙임 | 중간 결과가 메모리에 나가지 않습니다 |
#
# GPU에서는 여기에 TF32 행렬 곱과 고정 메모리가 더해지고, SDPA가 FlashAttention 커널을 고릅니다.

# %%
report.section("2. 사다리 오르기")
rows, left_out = climb(artifacts)

# %% [markdown]
# ## 3. 손실은 그대로인가
#
# 같은 시드로 처음 몇 스텝의 손실을 '처음 쓴 그대로'와 견줍니다. 더하는 차례가 바뀌면 float32의 끝자리가 달라지므로 0은 아닙니다.
# 얼마까지가 반올림이고 어디부터가 버그인지 **허용값을 먼저** 정해 둡니다. float32는 5e-5, bfloat16은 유효 숫자가 8비트이니 0.02내트입니다.
#
# 두 계단은 조금 다릅니다. packing부터는 한 스텝에 읽는 글이 달라지므로, 채운 글을 '처음 쓴 그대로'의 방법으로 계산한 손실과 견줍니다.
# 어휘를 늘린 계단에서는 쓰지 않는 낱말이 확률을 조금 가져갑니다. 그 몫은 많아야 $\ln(V'/V)$이고, 학습하면 곧 0에 가까워집니다.

# %%
report.section("3. 손실은 그대로인가")
print_table([
    {"계단": row["title"], "차이 (내트)": f"{row['difference']:.1e}", "허용": f"{row['allowed']:.1e}", "판정": "같음" if row["equal"] else "다름!"}
    for row in rows
])  # fmt: skip
report.table([
    {"계단": row["title"], "첫 손실": f"{row['losses'][0]:.5f}", "마지막 손실": f"{row['losses'][-1]:.5f}", "차이": f"{row['difference']:.1e}",
     "허용": f"{row['allowed']:.1e}", "판정": "같음" if row["equal"] else "다름"}
    for row in rows
])  # fmt: skip
report.figure(difference_plot(rows), "losses", "처음 쓴 그대로와의 손실 차이")

# %% [markdown]
# ## 4. 무엇이 얼마나 빨라졌나
#
# 마지막 열의 MFU는 이 기계가 낼 수 있는 행렬 곱 최고 속도 가운데 쓸모 있는 계산에 쓴 비율입니다. 계단의 효과는 **순서에 따라 다릅니다**.
# 어텐션이 병목일 때는 손실을 고쳐도 티가 안 나고, 큰 병목을 없애고 나면 작던 것이 새 병목이 됩니다(암달의 법칙).
# 빨라지지 않은 계단도 지우지 않았습니다. 다른 기계, 다른 크기에서는 다를 수 있으니까요.

# %%
report.section("4. 무엇이 얼마나 빨라졌나")
dtype, _ = choose_dtype("auto", device)
peak = matmul_peak(device, dtype)
table = [
    {"계단": row["title"], "배운 토큰/초": round(row["tokens_per_second"]), "앞 계단의": f"{row['gain']:.2f}배" if row["gain"] else "–",
     "처음의": f"{row['total']:.2f}배", "최대 메모리 (MiB)": round(row["peak_bytes"] / 2**20),
     "MFU": f"{row['tokens_per_second'] * row['flops_per_token'] / peak:.0%}"}
    for row in rows
]  # fmt: skip
print_table(table)
report.text(
    f"파라미터 {rows[0]['parameters']:,}개, 한 스텝에 {speed.batch_size}줄 × {settings.model.context_length}자리, 장치 {device}. "
    f"행렬 곱 최고 속도는 {str(dtype).removeprefix('torch.')}에서 {peak / 1e9:,.0f} GFLOP/s를 재었습니다."
)
report.table(table)
report.figure(ladder_plot(rows), "ladder", "계단마다 배운 토큰/초와 최대 메모리")
compiled = next((row for row in rows if row["name"] == "compile"), None)
if compiled:
    before = rows[-2]["step_seconds"] - compiled["step_seconds"]
    wins = f"{compiled['warm_up_seconds'] / before:,.0f}스텝 뒤에 본전입니다" if before > 0 else "이 기계에서는 본전을 찾지 못합니다"
    print(f"컴파일과 첫 스텝들에 {compiled['warm_up_seconds']:.0f}초가 들었습니다. {wins}.")
    report.text(f"컴파일과 첫 스텝들에 {compiled['warm_up_seconds']:.0f}초가 들었습니다. {wins}.")
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `make week5-speed ARGS="speed.rungs=naive,bfloat16,sdpa,loss"`: 계단 몇 개만 골라 오르면 각각의 몫이 달라지나요? 차례는 늘 사다리를 따릅니다.
# - `make week5-speed ARGS="speed.small_batch=8"`: 처음부터 조금 큰 배치로 시작하면 '배치 전체' 계단의 몫은 얼마나 줄어드나요?
# - `make week5-speed ARGS="model.context_length=512 speed.batch_size=8 speed.small_batch=1"`: 글이 길면 어떤 계단이 커지나요?
