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
# # 4주차. 어텐션을 한 단계씩 쌓아 올리기
#
# 낱말 하나의 뜻은 곁에 있는 낱말이 정합니다. "배를 깎았다"와 "배를 탔다"의 "배"가 다른 것처럼요.
# **어텐션**은 토큰마다 "누구의 말을 얼마나 들을지"를 숫자로 정하고, 그 비율대로 섞는 계산입니다.
#
# 한국어 문장 하나를 놓고, 가중치가 하나도 없는 가장 단순한 꼴에서 시작해 한 단계씩 보태 갑니다.
# 마지막에는 같은 멀티헤드 어텐션을 열두 가지로 구현해 답이 같은지 확인하고, 무엇이 왜 빠른지 잽니다.
#
# 글자 T는 토큰 수, D는 벡터의 너비, H는 머리 수, d는 머리 하나의 너비입니다.

# %%
import math
from itertools import pairwise

import numpy as np
import torch

from llm_workshop.architectures import attention_plots as plots
from llm_workshop.architectures import multi_head_trial as trial
from llm_workshop.architectures.cache_kinds import built_bytes, cache_rows
from llm_workshop.architectures.examples import neighbours, plain_sentence
from llm_workshop.architectures.one_layer import OneLayer, describe_heads, fit, head_weights
from llm_workshop.artifacts import Artifacts
from llm_workshop.pipeline import build_corpus, build_tokenizer, build_tokens
from llm_workshop.pipeline.tokenizer import training_texts
from llm_workshop.report import Report
from llm_workshop.settings import settings_from_command_line
from llm_workshop.tokenization import show_pieces
from scratch_llm.analysis.token_vectors import token_vectors
from scratch_llm.data import TokenFile, Windows
from scratch_llm.layers import apply_rotary, rotary_tables
from scratch_llm.layers.self_attention import CausalSelfAttention, LinearSelfAttention, ParameterSelfAttention
from scratch_llm.tokenizers import ByteLevelBPE

settings = settings_from_command_line(uses=("corpus", "tokenizer", "model"))
smoke = settings.scale == "smoke"
torch.manual_seed(settings.seed)
artifacts = Artifacts(settings)
report = Report(artifacts, "week04-attention", "4주차: 어텐션을 한 단계씩 쌓아 올리기")

# %% [markdown]
# ## 1. 문장을 벡터로
#
# 어텐션의 입력은 벡터입니다. 아직 학습한 모델이 없으니 **세기만 해서** 벡터를 만듭니다. 어떤 토큰 곁에 어떤 토큰이 얼마나 자주
# 오는지 세고(점별 상호정보량, PMI), 그 큰 표를 특잇값 분해로 줄입니다.
#
# $$\mathrm{PMI}(i,j)=\log\frac{p(i,j)}{p(i)\,p(j)}$$
#
# 비슷한 자리에 오는 토큰은 비슷한 벡터가 됩니다. 학습은 한 번도 하지 않았지만 가까운 이웃을 보면 뜻이 꽤 담겨 있습니다.
# 모든 벡터는 평균 0, 분산 1로 맞추었습니다. 3절에서 이 분산이 중요해집니다.

# %%
report.section("1. 문장을 벡터로")
D_MODEL, N_HEADS = 128, 4
build_corpus(artifacts, force=False)
tokenizer = ByteLevelBPE.load(build_tokenizer(artifacts, force=False))
tokens_folder = build_tokens(artifacts, force=False)
train_tokens = TokenFile(tokens_folder / "train")
counted = torch.from_numpy(train_tokens.tokens[:1_000_000].astype(np.int64))
vectors = token_vectors(counted, tokenizer.vocab_size, D_MODEL)


def name_of(token: int) -> str:
    """그림에 쓸 토큰의 이름. 앞의 공백은 _로 보인다."""
    return show_pieces([tokenizer.token_of(token)])


sentence = plain_sentence(training_texts(artifacts, "valid"), tokenizer) or tokenizer.decode(train_tokens.tokens[:11].tolist())
ids = torch.tensor(tokenizer.encode(sentence))
labels = [name_of(i) for i in ids.tolist()]
x = vectors[ids]
print(f"문장: {sentence}")
print(f"토큰 {len(ids)}개: {' '.join(labels)}")
print(f"x의 모양 (T, D) = {tuple(x.shape)}")

common = torch.bincount(counted, minlength=tokenizer.vocab_size) >= 20
rows = []
for token in dict.fromkeys(ids.tolist()):
    rows.append({"토큰": name_of(token), "가까운 이웃": ", ".join(map(name_of, neighbours(vectors, token, common)))})
    print(f"  {rows[-1]['토큰']:8} 이웃: {rows[-1]['가까운 이웃']}")
report.text(f"**{sentence}**\n\n토큰 벡터는 말뭉치에서 이웃을 세어 만들었습니다. 학습은 하지 않았습니다.").table(rows)

# %% [markdown]
# ## 2. 가중치 없는 어텐션
#
# 세 걸음입니다. **점수**는 두 벡터의 내적입니다. 같은 쪽을 볼수록 큽니다. **소프트맥스**는 점수를 합이 1인 무게(어텐션 가중치)로 바꿉니다.
# **문맥 벡터**는 그 무게로 낸 평균입니다.
#
# $$s_{ij}=x_i\cdot x_j,\qquad a_{ij}=\frac{e^{s_{ij}}}{\sum_k e^{s_{ik}}},\qquad c_i=\sum_j a_{ij}\,x_j$$
#
# 왼쪽 그림을 보세요. 대각선만 짙습니다. 자기 자신과 가장 닮은 것은 자기 자신이라 내적이 D = 128이나 되고, 소프트맥스가
# 무게를 거기에 다 줘 버렸습니다. 자기를 빼고 점수를 √D로 나누면(오른쪽) 그다음으로 닮은 토큰이 보입니다.
# 여기서 두 가지를 알 수 있습니다. 점수가 크면 소프트맥스가 **하나에 몰립니다**(3절). 그리고 물을 때와 답할 때 같은 벡터를 쓰면
# **자기 자신밖에 못 찾습니다**(4절).

# %%
report.section("2. 가중치 없는 어텐션")
scores = x @ x.T  # (T, T): 모든 짝의 내적
weights = torch.softmax(scores, dim=-1)  # 줄마다 합이 1
contexts = weights @ x  # (T, D): 무게로 낸 평균

itself = torch.eye(len(x), dtype=torch.bool)
scaled = (scores / D_MODEL**0.5).masked_fill(itself, float("-inf"))  # 자기 자신의 점수는 지운다
other_weights = torch.softmax(scaled, dim=-1)
print(f"점수 {tuple(scores.shape)} → 무게 {tuple(weights.shape)} → 문맥 벡터 {tuple(contexts.shape)}")
print(f"점수 s(0, 0) = {scores[0, 0]:.1f}, s(0, 1) = {scores[0, 1]:.1f}; 무게의 합 = {weights[0].sum():.4f}")
print(f"자기 자신에게 주는 무게의 평균: {weights.diagonal().mean():.4f}")
for row, name in zip(other_weights, labels):
    print(f"  {name:8} 자기를 빼면 가장 닮은 토큰은 {labels[int(row.argmax())]} (무게 {row.max():.2f})")
figure = plots.weights_plot(
    {"점수 그대로": weights, "자기를 빼고, 점수를 √D로 나누면": other_weights}, labels, common_scale=("점수 그대로",)
)
report.figure(figure, "without-weights", "가중치 없는 어텐션의 무게. 한 줄의 합은 1입니다")

# %% [markdown]
# ## 3. 왜 √d로 나눌까
#
# q와 k의 성분이 서로 독립이고 평균 0, 분산 1이라면, 내적은 그런 곱 d개의 합이므로 분산이 d입니다.
#
# $$\mathrm{Var}(q\cdot k)=\sum_{n=1}^{d}\mathrm{Var}(q_n k_n)=d,\qquad \mathrm{Var}\!\left(\frac{q\cdot k}{\sqrt d}\right)=1$$
#
# 나누지 않으면 d가 클수록 점수가 벌어지고, 소프트맥스는 1등 하나에 몰립니다. 몰리면 기울기도 사라집니다.
# 소프트맥스의 미분은 $\partial a_i/\partial s_i=a_i(1-a_i)$라서 a가 0이나 1에 붙으면 0이기 때문입니다.
# 말로만 듣지 말고 재 봅시다. 키 64개를 놓고 무작위로 뽑은 q에 대해 분산, 1등의 무게, 기울기의 크기를 잽니다.

# %%
report.section("3. 왜 √d로 나눌까")
N_KEYS, rows = 64, []
for width in (4, 16, 64, 256, 1024):
    q, k = torch.randn(512, width), torch.randn(N_KEYS, width)
    row = {"d": width}
    for name, scores in (("그대로", q @ k.T), ("√d로 나누어", q @ k.T / width**0.5)):
        a = torch.softmax(scores, dim=-1)
        row |= {f"분산, {name}": scores.var().item(), f"1등의 무게, {name}": a.max(dim=-1).values.mean().item(),
                f"기울기, {name}": (a * (1 - a)).sum(dim=-1).mean().item()}  # fmt: skip
    rows.append(row)
    print(f"d={width:5}: " + ", ".join(f"{what} {row[f'{what}, 그대로']:8.3f} → {row[f'{what}, √d로 나누어']:.3f}" for what in ("분산", "1등의 무게", "기울기")))
figure = plots.scaling_plot(rows)
report.table(rows).figure(figure, "scaling", f"키 {N_KEYS}개를 놓고 잰 값. 나누지 않으면 무게가 하나에 몰리고 기울기가 사라집니다")

# %% [markdown]
# ## 4. 쿼리, 키, 밸류
#
# 지금까지는 벡터 하나가 세 가지 일을 했습니다. 물을 때도, 물음에 맞춰 볼 때도, 내용을 건넬 때도 같은 x였습니다.
# 그래서 자기와 가장 비슷한 것, 곧 자기 자신만 찾습니다. 행렬 세 개로 일을 나눕니다.
#
# $$q_i=W_Q\,x_i\quad(\text{묻는 것}),\qquad k_j=W_K\,x_j\quad(\text{답할 수 있는 것}),\qquad v_j=W_V\,x_j\quad(\text{건네는 것})$$
# $$c_i=\sum_j \mathrm{softmax}_j\!\left(\frac{q_i\cdot k_j}{\sqrt d}\right)v_j$$
#
# 서술어는 "내 주어가 어디 있지?"라고 묻고, "할머니께서"는 "나는 높임을 받는 주어야"라고 답하는 식입니다. 무엇을 묻고 답할지는 학습이 정합니다.
# 맨 행렬(`nn.Parameter`)로 쓴 것과 `nn.Linear`로 쓴 것은 같은 함수입니다. `nn.Linear`는 가중치를 **전치해서** 들고 있다는 것만 다릅니다.

# %%
report.section("4. 쿼리, 키, 밸류")
HEAD_DIM = D_MODEL // N_HEADS
W_query, W_key, W_value = (torch.randn(D_MODEL, HEAD_DIM) / D_MODEL**0.5 for _ in range(3))
q, k, v = x @ W_query, x @ W_key, x @ W_value
weights = torch.softmax(q @ k.T / HEAD_DIM**0.5, dim=-1)
contexts = weights @ v
print(f"x {tuple(x.shape)} → q, k, v {tuple(q.shape)} → 무게 {tuple(weights.shape)} → 문맥 벡터 {tuple(contexts.shape)}")

# 같은 계산을 nn.Parameter로 담은 모듈과 nn.Linear로 담은 모듈
bare, linear = ParameterSelfAttention(D_MODEL, HEAD_DIM), LinearSelfAttention(D_MODEL, HEAD_DIM)
with torch.no_grad():
    for matrix, parameter, layer in (
        (W_query, bare.W_query, linear.query), (W_key, bare.W_key, linear.key), (W_value, bare.W_value, linear.value),
    ):  # fmt: skip
        parameter.copy_(matrix)
        layer.weight.copy_(matrix.T)
    print(f"위의 네 줄과의 차이: nn.Parameter {(bare(x) - contexts).abs().max():.1e}, nn.Linear {(linear(x) - contexts).abs().max():.1e}")

# %% [markdown]
# ## 5. 미래 가리기
#
# 다음 토큰을 맞히는 모델이 다음 토큰을 보면 안 됩니다. i번째 토큰은 j ≤ i인 것만 들어야 합니다. 두 가지 방법이 있습니다.
#
# 1. **0을 곱하기**: 소프트맥스를 한 다음 미래의 무게에 0을 곱하고, 줄의 합이 1이 되도록 다시 나눕니다.
# 2. **−∞를 넣기**: 소프트맥스를 하기 전에 미래의 점수를 −∞로 바꿉니다. $e^{-\infty}=0$이니 저절로 빠집니다.
#
# 종이 위에서는 같습니다. 분모에 섞였던 미래의 몫이 다시 나눌 때 약분되니까요. 그러나 컴퓨터에서는 다릅니다.
# 미래의 점수가 훨씬 크면 과거의 무게는 **0으로 반올림되고**, 다시 나누면 0 ÷ 0이 됩니다. 그래서 모두 −∞를 씁니다.

# %%
report.section("5. 미래 가리기")


def by_multiplication(scores: torch.Tensor) -> torch.Tensor:
    past = torch.softmax(scores, dim=-1) * ~future
    return past / past.sum(dim=-1, keepdim=True)  # 줄의 합을 다시 1로


def by_infinity(scores: torch.Tensor) -> torch.Tensor:
    return torch.softmax(scores.masked_fill(future, float("-inf")), dim=-1)


scores = q @ k.T / HEAD_DIM**0.5
future = torch.ones_like(scores, dtype=torch.bool).triu(1)  # 대각선 위쪽이 미래
masked = by_infinity(scores)
print(f"보통의 점수에서 두 방법의 차이: {(by_multiplication(scores) - masked).abs().max():.1e}")
extreme = scores.clone()
extreme[0, -1] = 200.0  # 첫 토큰이 마지막 토큰에게 아주 큰 점수를 주면
print(f"미래의 점수 하나가 200일 때 첫 줄: 0 곱하기 {by_multiplication(extreme)[0, 0]:.2f}, −∞ {by_infinity(extreme)[0, 0]:.2f}")

# 이 계산을 모듈로 만든 것. 마지막 토큰을 바꾸어도 앞 토큰들의 출력은 그대로여야 한다.
head = CausalSelfAttention(D_MODEL, HEAD_DIM, context_length=64)
changed = x.clone()
changed[-1] = 0
with torch.no_grad():
    before, after = head(x), head(changed)
print(f"마지막 토큰을 바꾸었을 때 앞 토큰들의 출력 변화: {(before - after)[:-1].abs().max():.1e} (마지막 토큰은 {(before - after)[-1].abs().max():.1e})")
figure = plots.weights_plot(
    {"가리기 전 (무작위 q, k)": torch.softmax(scores, dim=-1), "−∞로 가린 다음": masked}, labels, common_scale=("−∞로 가린 다음",)
)
report.figure(figure, "causal", "가리면 위쪽 삼각형이 비고, 줄의 합은 여전히 1입니다. 첫 토큰은 자기 자신만 볼 수 있습니다")

# %% [markdown]
# ## 6. 드롭아웃과 버퍼
#
# **드롭아웃**은 학습할 때 무게의 일부를 무작위로 0으로 만듭니다. 한 토큰에만 기대지 못하게 하려는 것입니다.
# 남은 무게는 1/(1−p)배로 키워 평균을 지킵니다. `eval()`에서는 아무것도 하지 않습니다.
#
# **버퍼**는 모듈에 딸렸지만 학습하지 않는 텐서입니다. 마스크가 그렇습니다. 파라미터로 두면 옵티마이저가 바꿔 버리고,
# 그냥 속성으로 두면 `model.to("cuda")`를 해도 CPU에 남아 다음 순전파에서 오류가 납니다.
# 길이만 알면 다시 만들 수 있는 것이라 `persistent=False`로 저장에서 뺐습니다.

# %%
report.section("6. 드롭아웃과 버퍼")
dropping = CausalSelfAttention(D_MODEL, HEAD_DIM, context_length=64, dropout=0.5)
with torch.no_grad():
    last = -1
    print("eval  마지막 줄:", " ".join(f"{w:.2f}" for w in dropping.eval().weights(x)[last].tolist()))
    print("train 마지막 줄:", " ".join(f"{w:.2f}" for w in dropping.train().weights(x)[last].tolist()))
print("파라미터:", [name for name, _ in dropping.named_parameters()])
print("버퍼:    ", [name for name, _ in dropping.named_buffers()], "/ 저장되는 것:", list(dropping.state_dict()))
print("meta 장치로 옮기면 마스크도 함께:", dropping.to("meta").future_TT.device)

# %% [markdown]
# ## 7. 멀티헤드
#
# 한 토큰이 알고 싶은 것은 여럿입니다. 무게 한 벌로는 "주어는 누구"와 "바로 앞은 무엇"을 함께 물을 수 없습니다.
# 그래서 너비 D를 H개로 나누어 저마다 묻게 하고, 답을 이어 붙인 뒤 $W_O$로 섞습니다.
#
# $$\mathrm{head}_h=\mathrm{softmax}\!\left(\frac{Q_hK_h^{\top}}{\sqrt{d}}+M\right)V_h,\qquad y=W_O\,[\mathrm{head}_1;\dots;\mathrm{head}_H],\qquad d=D/H$$
#
# 파라미터는 머리 수와 상관없이 $4D^2$입니다(편향은 빼고). 나누어 쓸 뿐 늘어나지 않습니다.
#
# 무작위 머리는 볼 것이 없습니다. 그래서 잠깐 **학습**시켜 봅니다. 어텐션 한 층뿐인 아주 작은 언어 모델에게 다음 토큰을 맞히게 합니다.
# 위치를 알려 주려고 사인파를 더했습니다(Vaswani 외, 2017, 3.5절). 12절에서 더 나은 방법을 봅니다.
# 모델과 학습 코드는 `src/llm_workshop/architectures/one_layer.py`에 있습니다. 70줄 남짓이니 한번 읽어 보세요.
#
# 멀티헤드를 코드로 쓰면 이렇습니다. (T, D)를 (H, T, d)로 나누고, 머리마다 5절의 계산을 하고, 다시 이어 붙입니다.

# %%
report.section("7. 멀티헤드")
WINDOW, BATCH = 64, 8
STEPS = 100 if smoke else 200


def split(rows: torch.Tensor) -> torch.Tensor:
    """(T, D) → (H, T, d)."""
    return rows.view(len(rows), N_HEADS, -1).transpose(0, 1)


W_query, W_key, W_value, W_out = (torch.randn(D_MODEL, D_MODEL) / D_MODEL**0.5 for _ in range(4))
q, k, v = split(x @ W_query), split(x @ W_key), split(x @ W_value)
scores = (q @ k.transpose(-1, -2) / HEAD_DIM**0.5).masked_fill(future, float("-inf"))  # (H, T, T)
per_head = torch.softmax(scores, dim=-1) @ v  # (H, T, d)
y = per_head.transpose(0, 1).flatten(1) @ W_out  # 머리를 이어 붙여 (T, D), 그리고 섞기
print(f"x {tuple(x.shape)} → q {tuple(q.shape)} → 점수 {tuple(scores.shape)} → 머리마다 {tuple(per_head.shape)} → y {tuple(y.shape)}")

# %%
model = OneLayer(vectors, N_HEADS, WINDOW)
windows = Windows(train_tokens, WINDOW, BATCH, seed=settings.seed, packing="stream")
probe, _ = Windows(TokenFile(tokens_folder / "valid"), WINDOW, BATCH, seed=settings.seed, packing="stream").batch(0)
untrained_heads = describe_heads(model, probe)
losses = fit(model, windows, STEPS)
for step in (1, STEPS // 2, STEPS):
    print(f"  스텝 {step:4}: 손실 {losses[step - 1]:.3f}")
trained_heads = describe_heads(model, probe)
for before, after in zip(untrained_heads, trained_heads):
    print(f"  머리 {after['머리']}: 바로 앞 {before['바로 앞']:.2f} → {after['바로 앞']:.2f}, 평균 거리 {before['평균 거리']:.1f} → {after['평균 거리']:.1f}, "
          f"실질 개수 {before['실질 개수']:.1f} → {after['실질 개수']:.1f}")  # fmt: skip

# %% [markdown]
# 학습하기 전에는 모든 머리가 앞의 토큰을 거의 고르게 봅니다. 몇백 스텝 배우고 나면 저마다 달라집니다. 가까운 곳만 보는 머리,
# 멀리까지 두루 보는 머리가 생깁니다. 아무도 그렇게 하라고 시키지 않았습니다.

# %%
panels = {f"머리 {number}": weights[0] for number, weights in enumerate(head_weights(model, ids[None]), 1)}
figure = plots.weights_plot(panels, labels, width=3.7, height=4.0, common_scale=tuple(panels), numbers=False)
report.text(f"어텐션 한 층뿐인 모델을 {STEPS}스텝 학습한 다음입니다. 처음에는 모든 머리의 평균 거리가 "
            f"{min(r['평균 거리'] for r in untrained_heads):.0f} 안팎으로 앞의 토큰을 고르게 보았습니다.")  # fmt: skip
report.table(trained_heads).figure(figure, "heads", "학습한 머리들의 무게. 짙을수록 많이 듣습니다")

# %% [markdown]
# ## 8. 같은 함수, 열두 가지 구현
#
# 수식은 하나인데 코드는 여럿입니다. `src/scratch_llm/layers/multi_head.py`에 읽기 쉬운 것부터, `multi_head_kernels.py`에 PyTorch의
# 커널을 부르는 것까지 있습니다. 모두 (B, T, D) → (B, T, D)이고 `copy_weights`로 가중치를 주고받습니다.
# 정말 같은 함수인지 출력과 **기울기**의 차이로 확인합니다. 머리 수는 일부러 홀수(5)로 했습니다.

# %%
report.section("8. 같은 함수, 열두 가지 구현")
SKIP = ("FlexAttention",) if smoke else ()
for name in SKIP:
    print(f"{trial.KOREAN[name]}: 커널을 컴파일하는 데 10초 남짓 걸려 smoke에서는 뺍니다")
rows, largest = [], 0.0
for name, found in trial.differences(trial.family(40, 5, 33, SKIP), torch.randn(2, 33, 40)).items():
    largest = max(largest, found.output, found.gradient or 0.0)
    rows.append({"구현": trial.KOREAN[name], "이름": name, "출력의 최대 차이": found.output, "기울기의 최대 차이 (비율)": found.gradient})
    shown = "없음 (CPU에서 역전파를 하지 못합니다)" if found.gradient is None else f"{found.gradient:.1e}"
    print(f"  출력 {found.output:.1e}  기울기 {shown}  {trial.KOREAN[name]}")
print(f"가장 큰 차이: {largest:.1e} (float32의 반올림 크기입니다)")
if largest > 1e-5:
    raise RuntimeError(f"구현 사이의 차이가 {largest:.1e}입니다: 같은 함수가 아닙니다")
report.table(rows, caption=f"머리를 하나씩 쌓은 구현과의 차이. 가장 큰 것이 {largest:.1e}")

# %% [markdown]
# ## 9. 얼마나 빠르고, 얼마나 기억하나
#
# 계산량은 거의 같습니다(가려진 쪽 절반을 건너뛰는 구현이 몇 있을 뿐입니다). 크게 다른 것은 **메모리를 오가는 횟수**입니다.
# 점수표는 (B, H, T, T)라서 T가 두 배면 네 배가 됩니다.
# 나누고, 가리고, 소프트맥스를 하고, 드롭아웃을 할 때마다 이 큰 표를 읽고 쓰면 그 시간이 곱셈보다 길어집니다.
#
# SDPA의 빠른 커널(FlashAttention, Dao 외, 2022)은 표를 통째로 만들지 않고 **조각마다** 소프트맥스를 이어 갑니다.
# 역전파를 위해 간직하는 메모리도 $O(T^2)$이 아니라 $O(T)$입니다. 오른쪽 그림이 그 차이입니다.
#
# CPU에서 잰 절대 시간은 기계와 그때그때의 형편에 따라 다릅니다. 비율을 보세요. 구현들은 번갈아 가며 재고 가장 빠른 것을 적었습니다.

# %%
report.section("9. 얼마나 빠르고, 얼마나 기억하나")
LENGTHS = (64, 256) if smoke else (256, 1024)
TIME_BATCH, TIME_WIDTH, TIME_HEADS, BUDGET = 2, 256, 4, 0.8 if smoke else 4.0
measured = {
    T: trial.costs(trial.family(TIME_WIDTH, TIME_HEADS, T, SKIP), torch.randn(TIME_BATCH, T, TIME_WIDTH), BUDGET) for T in LENGTHS
}
short, long = LENGTHS
rows = trial.cost_rows(measured)
for row in rows:
    print(f"  T={long}: 순전파 {row[f'순전파 ms (T={long})']:8.1f} ms, 학습 {row[f'학습 ms (T={long})'] or '–':>8} ms, "
          f"간직 {row[f'간직 MB (T={long})'] or '–':>6} MB  {row['구현']}")  # fmt: skip
report.text(f"배치 {TIME_BATCH}, 너비 {TIME_WIDTH}, 머리 {TIME_HEADS}개, float32, CPU 스레드 {torch.get_num_threads()}개").table(rows)
figure = plots.implementations_plot(measured[long], long)
report.figure(figure, "speed", "같은 함수의 시간과 메모리. 초록색이 가장 작은 것입니다")

# %% [markdown]
# ## 10. 길이가 두 배면 시간은 몇 배?
#
# 점수의 개수는 $T^2$입니다. 투영 네 번은 $8TD^2$, 점수와 평균은 $4T^2D$번의 연산이므로 $T$가 $2D$를 넘으면 어텐션의 제곱 항이 더 커집니다.
# 앞 절의 두 길이에서 시간과 메모리가 몇 배가 되었는지 봅니다.

# %%
report.section("10. 길이가 두 배면 시간은 몇 배?")
times = long // short
arithmetic = (8 * long * TIME_WIDTH**2 + 4 * long**2 * TIME_WIDTH) / (8 * short * TIME_WIDTH**2 + 4 * short**2 * TIME_WIDTH)
rows = trial.growth_rows(measured[short], measured[long])
for row in rows:
    print(f"  T {times}배: 학습 시간 {row['학습 시간']:>6}, 메모리 {row['간직하는 메모리']:>6}  {row['구현']}")
print(f"연산 수는 {arithmetic:.1f}배, T는 {times}배, T²은 {times**2}배")
report.text(f"길이 T가 {short}일 때와 {long}일 때({times}배)의 비율입니다. 연산 수는 {arithmetic:.1f}배가 됩니다.").table(rows)

# %% [markdown]
# ## 11. 기억의 비용: KV 캐시
#
# 글을 쓸 때는 토큰을 하나씩 냅니다. 앞 토큰들의 k와 v는 바뀌지 않으므로 간직해 두면 다시 계산하지 않아도 됩니다.
# 그 대신 메모리를 씁니다. 층이 L개, 수 하나가 b바이트일 때 토큰 하나에 드는 양은 이렇습니다.
#
# | 방식 | 토큰 하나에 | 설명 |
# |---|---|---|
# | 멀티헤드(MHA) | $2LHdb$ | 머리마다 k와 v |
# | 그룹 쿼리(GQA; Ainslie 외, 2023) | $2LKdb$ | 쿼리 머리 H/K개가 k·v 하나를 나누어 씀 |
# | 멀티 쿼리(MQA; Shazeer, 2019) | $2Ldb$ | k·v가 단 하나 |
# | 슬라이딩 윈도(창; Beltagy 외, 2020) | $2LKdb$, 다만 최근 W개만 | 오래된 것은 잊음 |
# | 잠재 어텐션(MLA; DeepSeek-V2, 2024) | $L(c+r)b$ | 모든 머리의 k·v를 짧은 벡터 하나로 눌러 담음 |
#
# Llama 3 8B의 모양(L=32, H=32, K=8, d=128, bfloat16)으로 계산합니다. 창은 Mistral 7B의 4,096, 잠재 벡터는 DeepSeek-V2의 c=512, r=64입니다.
# 식이 맞는지, 우리 캐시 클래스를 실제로 만들어 바이트 수를 견주어 봅니다(메모리를 쓰지 않는 meta 장치에서).

# %%
report.section("11. 기억의 비용: KV 캐시")
L, H, K, d, W, c, r, b = 32, 32, 8, 128, 4096, 512, 64, 2
PER_TOKEN = {
    "멀티헤드 (MHA)": 2 * L * H * d * b,
    "그룹 쿼리 (GQA, K=8)": 2 * L * K * d * b,
    "멀티 쿼리 (MQA)": 2 * L * d * b,
    "GQA + 창 4,096": 2 * L * K * d * b,
    "잠재 어텐션 (MLA)": L * (c + r) * b,
}


def cache_bytes(kind: str, n_tokens: int) -> int:
    """n_tokens를 보았을 때 캐시의 바이트 수."""
    return PER_TOKEN[kind] * (min(n_tokens, W) if "창" in kind else n_tokens)


N_CHECKED = 16_384
rows = cache_rows(PER_TOKEN, cache_bytes, built_bytes(L, H, K, d, W, c, r, N_CHECKED), N_CHECKED)
for row in rows:
    print(f"  토큰 하나 {row['토큰 하나 (KiB)']:6.0f} KiB, 8천 토큰 {row['8천 토큰 (GiB)']:6.2f} GiB, 12만 8천 토큰 "
          f"{row['12만 8천 토큰 (GiB)']:6.2f} GiB, 우리 캐시는 식의 {row['우리 캐시 / 식']:.2f}배  {row['방식']}")  # fmt: skip
ours = settings.model
print(f"우리 모델(층 {ours.n_layers}개, 쿼리 머리 {ours.n_heads}개, k·v 머리 {ours.n_kv_heads}개)은 토큰 하나에 "
      f"{2 * ours.n_layers * ours.n_kv_heads * (ours.d_model // ours.n_heads) * b / 1024:.1f} KiB (bfloat16)")  # fmt: skip
lengths = [2**n for n in range(8, 18)]
room = (24e9 - 16e9) / 2**30
figure = plots.cache_plot(
    lengths, {kind: [cache_bytes(kind, n) / 2**30 for n in lengths] for kind in PER_TOKEN},
    room, "24 GB GPU에서 가중치 16 GB를 빼고 남는 자리",
)  # fmt: skip
report.text("“우리 캐시 / 식”은 이 저장소의 캐시 클래스가 16,384토큰 자리에 실제로 잡는 바이트 수를 식의 값으로 나눈 것입니다. "
            "창은 한 칸씩 옮기지 않으려고 여유를 두므로 1보다 큽니다.").table(rows)  # fmt: skip
report.figure(figure, "kv-cache", "길이에 따른 KV 캐시. 창은 4,096토큰부터 더 늘지 않습니다")

# %% [markdown]
# ## 12. 회전으로 위치를 알리기: RoPE
#
# 마스크만 빼면 어텐션은 **순서를 모릅니다**. 토큰을 뒤섞으면 출력도 그대로 뒤섞일 뿐입니다. 그래서 위치를 알려 주어야 합니다.
# RoPE(Su 외, 2021)는 벡터를 두 칸씩 짝지어 위치 m에 비례하는 각도로 **돌립니다**. 짝 i의 각속도는 $\theta^{-2i/d}$입니다.
#
# $$R_m\begin{pmatrix}a\\b\end{pmatrix}=\begin{pmatrix}\cos m\omega_i&-\sin m\omega_i\\ \sin m\omega_i&\cos m\omega_i\end{pmatrix}\begin{pmatrix}a\\b\end{pmatrix},
# \qquad \omega_i=\theta^{-2i/d}$$
#
# 둘 다 돌리면 내적에는 **각도의 차이**만 남습니다. $(R_m q)\cdot(R_n k)=q\cdot R_{n-m}\,k$. 곧 점수는 절대 위치가 아니라 거리에만 달려 있습니다.
# 길이는 바뀌지 않으니 벡터의 크기도 그대로입니다.

# %%
report.section("12. 회전으로 위치를 알리기: RoPE")
ROTARY_DIM, N_POSITIONS = 64, 2048
cos, sin = rotary_tables(ROTARY_DIM, N_POSITIONS)
q, k = torch.randn(ROTARY_DIM), torch.randn(ROTARY_DIM)
turned_q, turned_k = apply_rotary(q.expand(N_POSITIONS, -1), cos, sin), apply_rotary(k.expand(N_POSITIONS, -1), cos, sin)
near, far = turned_q[10] @ turned_k[3], turned_q[1510] @ turned_k[1503]
print(f"거리 7인 두 쌍의 점수: 자리 (10, 3) {near:.5f}, 자리 (1510, 1503) {far:.5f}, 차이 {abs(near - far):.1e}")
print(f"크기: 돌리기 전 {q.norm():.4f}, 1,500번째 자리에서 {turned_q[1500].norm():.4f}")

shuffled = torch.randperm(len(x))
with torch.no_grad():
    free = linear(x)[shuffled] - linear(x[shuffled])
print(f"가리지 않은 어텐션에서 토큰을 뒤섞으면 출력도 그대로 뒤섞임: 차이 {free.abs().max():.1e}")

# %% [markdown]
# 먼저 도는 모습을 봅니다. 짝마다 빠르기가 다릅니다. 짝 0은 한 자리에 1라디안(57°)씩 돌아 여섯 자리면 거의 한 바퀴이고,
# 짝 8은 같은 여섯 자리에 반의 반 바퀴도 못 돕니다. 빠른 짝은 바로 앞뒤를, 느린 짝은 먼 거리를 가려냅니다. 시계의 초침과 시침처럼요.

# %%
speeds = {pair: 10_000.0 ** (-2 * pair / ROTARY_DIM) for pair in (0, 4, 8)}
for pair, speed in speeds.items():
    print(f"짝 {pair}: 한 자리에 {math.degrees(speed):.0f}°, 한 바퀴에 {2 * math.pi / speed:.0f}자리")
figure = plots.turning_plot({f"짝 {pair}: 한 자리에 {math.degrees(speed):.0f}°": speed for pair, speed in speeds.items()})
report.figure(figure, "rope-turning", "자리 0부터 5까지 짝이 가리키는 방향. 숫자가 자리입니다")

# %% [markdown]
# 다음은 점수입니다. q와 k를 같은 벡터(모두 1)로 두고 거리만 바꿉니다. 왼쪽 그림의 옅은 선은 잰 값 그대로이고, 짙은 선은 비슷한 거리끼리
# 평균한 것입니다. 멀수록 점수가 낮아지고, **θ가 클수록 천천히** 낮아집니다. 긴 글을 읽는 모델이 θ를 키우는 까닭입니다.
# 오른쪽은 무작위 q와 k의 점수표입니다. 점수가 거리에만 달려 있으니 대각선을 따라 같은 색입니다.

# %%
ones, by_theta = torch.ones(ROTARY_DIM), {}
for theta in (10_000.0, 500_000.0):
    turned = apply_rotary(ones.expand(N_POSITIONS, -1), *rotary_tables(ROTARY_DIM, N_POSITIONS, theta))
    by_theta[f"θ = {theta:,.0f}"] = turned @ ones / ROTARY_DIM
N_SHOWN = 40
table = turned_q[:N_SHOWN] @ turned_k[:N_SHOWN].T
uneven = max((a - b).abs().item() for offset in range(-9, 10) for a, b in pairwise(table.diagonal(offset)))
print(f"점수표에서 같은 대각선 위의 값이 가장 많이 다른 것: {uneven:.1e}")
figure = plots.distance_plot(by_theta, table)
report.figure(figure, "rope-scores", "왼쪽: 거리에 따른 점수(짙은 선은 비슷한 거리끼리의 평균). 오른쪽: 점수표는 대각선을 따라 같습니다")
report.facts({
    "거리 7인 두 쌍의 점수 차이 (자리 10과 1510)": abs(near - far).item(),
    "구현들의 가장 큰 차이": largest,
})  # fmt: skip
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `src/scratch_llm/layers/self_attention.py`를 덮어 두고 `CausalSelfAttention`을 처음부터 써 보세요. 스무 줄이면 됩니다.
# - 1절의 `N_HEADS`를 1과 16으로 바꾸면 손실과 머리들의 모습이 어떻게 달라지나요?
# - 9절의 `TIME_BATCH`를 8로, 길이를 2,048로 키우면 점수표를 만드는 구현은 몇 배로 느려지나요? 그때 점수표는 몇 MB인가요?
# - `python benchmarks/run.py attention`은 같은 비교를 더 큰 모양으로, 더 오래 잽니다.
