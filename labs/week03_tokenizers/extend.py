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
# # 3주차. 토크나이저 넓히기: 영어 모델에 한국어 토큰 더하기
#
# 잘 배운 영어 모델이 있는데 한국어를 시키면 느리고 서툽니다. 한글 한 글자를 토큰 두세 개로 적으니 같은 문맥에 글이 덜 들어가고, 글자 하나를
# 쓰는 데 모델을 두세 번 돌려야 합니다. 처음부터 다시 가르치는 대신 **토큰만 더하고 이어서 학습**하는 길이 있습니다.
#
# 두 가지를 정해야 합니다. 토큰을 **어떻게 더할까**, 그리고 새 토큰의 **임베딩을 무엇으로 시작할까**. 둘 다 재서 정합니다.

# %%
import re
import tempfile
import unicodedata
from pathlib import Path

from tokenizers import Tokenizer as HuggingFaceTokenizer

from llm_workshop.artifacts import Artifacts, make_command
from llm_workshop.pipeline import build_corpus
from llm_workshop.pipeline.tokenizer import training_texts
from llm_workshop.report import Report
from llm_workshop.settings import settings_from_command_line
from llm_workshop.tokenization import compression, is_text, our_peer, show_pieces
from llm_workshop.tokenization.contenders import gpt2_tokenizer
from llm_workshop.tokenization.extension import (
    STARTS,
    Reading,
    adapt_all,
    base_model,
    english_unchanged,
    old_pieces,
    started,
    used_share,
)
from llm_workshop.tokenization.plots import extension_plot
from scratch_llm.tokenizers import END_OF_TEXT, ByteLevelBPE, continue_training

settings = settings_from_command_line(uses=("corpus", "extend_tokenizer", "compare_tokenizers", "pretrain.precision"))
artifacts = Artifacts(settings)
extend, compare = settings.extend_tokenizer, settings.compare_tokenizers
report = Report(artifacts, "week03-extend", "3주차: 토크나이저 넓히기")

# %% [markdown]
# ## 1. 영어 토크나이저로 한국어를 적으면
#
# GPT-2의 어휘 50,257개는 영어 글에서 배운 것입니다. BPE의 작은 어휘는 큰 어휘의 앞부분이므로, 노트북에서 돌 만하게 앞부분만 씁니다
# (`extend_tokenizer.base_vocab_size`). GPT-2의 파일이 없으면 한국어를 조금만 배운 우리 토크나이저로 대신합니다.
#
# 어휘가 아무리 커도 **쓰이는 것**은 따로 있습니다. 한국어 글이 그 가운데 몇 개나 쓰는지 세어 보세요.

# %%
report.section("1. 영어 토크나이저로 한국어를 적으면")
build_corpus(artifacts, force=False)


def lines_of(split: str, n_bytes: float) -> list[str]:
    """말뭉치의 줄(빈 줄 제외)을 n_bytes까지, NFC로."""
    lines, size = [], 0
    for text in training_texts(artifacts, split):
        for line in unicodedata.normalize("NFC", text).splitlines():
            if line.strip() and size < n_bytes:
                lines.append(line)
                size += len(line.encode())
    return lines


lines = {"train": lines_of("train", extend.megabytes * 1e6), "valid": lines_of("valid", compare.valid_kilobytes * 1e3)}
gpt2 = gpt2_tokenizer()
if gpt2:
    old = gpt2.shrink(min(extend.base_vocab_size, gpt2.vocab_size))
    old_name = "GPT-2" if old.vocab_size == gpt2.vocab_size else f"GPT-2의 앞 {old.vocab_size:,}개"
else:
    old, old_name = ByteLevelBPE.train(lines["train"], 320, [END_OF_TEXT], pattern="gpt2", normalization=None), "한국어를 조금만 배운 BPE"
    print("GPT-2의 encoder.json과 vocab.bpe가 없어(data/gpt2_bpe/) 우리 토크나이저의 앞부분으로 대신합니다")
before = compression(our_peer("", old), lines["valid"])
used = used_share(old, lines["valid"])
print(f"{old_name} (어휘 {old.vocab_size:,}): 어절당 {before['tokens_per_word']:.2f}토큰, 글자 조각 {before['broken_share']:.0%}")
print(f"검증 글이 쓰는 토큰은 {used['used']:,}개, 어휘의 {used['used'] / used['vocab_size']:.1%}")
print("예:", show_pieces(old.pieces("나는 밥을 먹었다.")))

# %% [markdown]
# ## 2. 더하는 두 가지 길
#
# **이름으로 더하기** (`add_tokens`; 우리 것은 `extend`). 더한 이름은 글의 어디에 있든, 자르거나 합치기 **전에** 오려 냅니다. 쉽지만 거칩니다.
# "이"를 더하면 "고양이", "이야기", "사이" 어디서든 "이"가 떨어져 나가고, 남은 것끼리는 합쳐질 기회를 잃습니다.
#
# **병합을 이어서 배우기** (`continue_training`). 옛 병합을 다 한 다음, 그래도 조각으로 남은 것들 가운데 자주 이웃하는 쌍을 새 병합으로
# 이어 배웁니다. 한글이 든 낱말만 보여 주므로 새 병합에는 한글의 바이트가 꼭 들어가고, 그래서 영어의 번호는 하나도 바뀌지 않습니다.
# (숫자와 기호까지 보여 주면 "2024" 같은 새 병합이 생겨 옛 글의 번호가 바뀝니다.) 읽을 코드는 `scratch_llm/tokenizers/continued.py`입니다.

# %%
report.section("2. 더하는 두 가지 길")
korean_words = (word for line in lines["train"] for word in re.findall(" ?[가-힣ㄱ-ㆎ]+", line))
merged = continue_training(old, korean_words, extend.new_tokens)
n_new = merged.vocab_size - old.vocab_size
names = [merged.token_of(number).decode() for number in range(old.vocab_size, merged.vocab_size) if is_text(merged.token_of(number))]
named = old.extend([name for name in names if len(name) > 1 or not name.isascii()], special=False)
rows = []
for title, tokenizer in ((f"{old_name} 그대로", old), ("이름으로 더하기", named), ("병합을 이어서 배우기", merged)):
    figures = compression(our_peer("", tokenizer), lines["valid"])
    rows.append({"방법": title, "어휘": tokenizer.vocab_size, "어절당 토큰": round(figures["tokens_per_word"], 3),
                 "글자 조각": f"{figures['broken_share']:.1%}", "예": show_pieces(tokenizer.pieces("고양이 사이의 이야기를 들었다."))})  # fmt: skip
    print(f"{title:16} 어휘 {tokenizer.vocab_size:6,}  어절당 {figures['tokens_per_word']:.3f}  {rows[-1]['예']}")
report.table(rows, caption="두 방법에 같은 토큰을 주었습니다 (이름으로는 글자가 온전한 것만 더할 수 있습니다)")

english = ["The cat sat on the mat, didn't it?", "def f(x):\n    return x ** 2", "Tokenizers are fun. 1,234.5"]
unchanged = english_unchanged(old, merged, english)
print(f"영어의 번호: {'그대로' if unchanged else '다름!'}")
with tempfile.TemporaryDirectory() as folder:
    merged.save(folder)
    theirs = HuggingFaceTokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    same = all(theirs.encode(line, add_special_tokens=False).ids == merged.encode(line) for line in [*english, *lines["valid"][:500]])
print(f"저장한 tokenizer.json을 Hugging Face로 열어 나눈 번호: {'모두 같음' if same else '다름!'}")
print("새 토큰 가운데 먼저 배운 것:", show_pieces((merged.token_of(old.vocab_size + n) for n in range(min(16, n_new))), " "))
report.text(f"새 토큰 {n_new:,}개. 영어 예문의 번호는 {'그대로입니다' if unchanged else '다름!'}. "
            f"Hugging Face로 열어도 번호가 {'모두 같습니다' if same else '다름!'}.")  # fmt: skip

# %% [markdown]
# ## 3. 옛 토크나이저로 배운 모델
#
# 견줄 바탕이 필요합니다. 작은 Llama를 옛 토크나이저로 한국어를 읽혀 학습시킵니다. 이 모델은 한글을 바이트로 배웁니다.
# 창은 **바이트로** 맞춥니다. 토크나이저가 달라져도 한 창에 든 글의 양이 같습니다(`compare.py` 9절과 같은 규칙).

# %%
report.section("3. 옛 토크나이저로 배운 모델")
scratch = tempfile.TemporaryDirectory(prefix="extend-")  # 프로그램이 끝나면 지워진다
work = Path(scratch.name)
old_reading = Reading(old, lines, settings, work / "old")
new_reading = Reading(merged, lines, settings, work / "new")
model, base_curve = base_model(old_reading, settings, work / "base")
print(f"파라미터 {model.n_parameters():,}개 (임베딩 {model.embedding.weight.numel():,}), 검증 비트/바이트 {base_curve[0][1]:.3f} → {base_curve[-1][1]:.3f}")
print(f"{compare.window_bytes}바이트 창에 드는 토큰: 옛 것 {old_reading.context}개, 새 것 {new_reading.context}개")

# %% [markdown]
# ## 4. 임베딩을 무엇으로 시작할까
#
# 토큰이 늘면 임베딩(과 출력층)에 행이 늘어야 합니다. 새 행에 무엇을 넣을까요?
#
# - **무작위**: 옛 행들과 같은 크기의 난수. 뜻이 없는 방향입니다.
# - **모든 토큰의 평균**(Hewitt, 2021): 어느 쪽으로도 치우치지 않은 자리. 새 토큰의 로짓이 옛 로짓들의 평균이 되어, 모델의 확률을 거의 빼앗지 않습니다.
# - **옛 조각들의 평균**: "먹었"이 옛 토큰 여섯 개로 적혔다면 그 여섯 행의 평균. 모델이 그 조각들에 대해 아는 것을 물려받습니다.
#
# 학습하기 **전**(0스텝)의 비트/바이트가 시작의 좋고 나쁨을 말해 줍니다. 이어서 같은 글을 같은 스텝만큼 읽혀 따라잡는 모습을 봅니다.

# %%
report.section("4. 임베딩을 무엇으로 시작할까")
example = max(range(old.vocab_size, merged.vocab_size), key=lambda number: (is_text(merged.token_of(number)), len(merged.token_of(number))))
print(f"가장 긴 새 토큰 {show_pieces([merged.token_of(example)])}의 옛 조각:", show_pieces(old.token_of(piece) for piece in old_pieces(old, merged, example)))
kept = started(model, old, merged, "mean")
print(f"임베딩 {tuple(model.embedding.weight.shape)} → {tuple(kept.embedding.weight.shape)}, "
      f"옛 행은 {'그대로' if (kept.embedding.weight[: old.vocab_size] == model.embedding.weight).all() else '다름!'}")  # fmt: skip

# %%
curves = adapt_all(model, old_reading, new_reading, settings, work / "adapt")
rows = []
for name, points in curves.items():
    rows.append({"시작": name, "0스텝": round(points[0][1], 3), f"{points[1][0]}스텝": round(points[1][1], 3), f"{points[-1][0]}스텝": round(points[-1][1], 3)})
    print(f"{name:18}", "  ".join(f"{step}:{bits:.3f}" for step, bits in points))
report.table(rows, caption="검증 비트/바이트")
best, random_start = curves[STARTS["pieces"]][-1][1], curves[STARTS["random"]][-1][1]
if random_start < best + 0.05:
    if settings.scale == "smoke":
        larger = make_command(settings.model_copy(update={"scale": "laptop"}), "week3-extend")
    else:
        larger = make_command(settings, "week3-extend", args=f"extend_tokenizer.megabytes={4 * extend.megabytes:g}")
    why = (
        f"무작위({random_start:.3f})가 옛 조각들의 평균({best:.3f})보다 뚜렷이 나쁘지 않습니다. 바탕 모델이 {base_curve[-1][0]}스텝밖에 배우지 "
        f"못해(검증 비트/바이트 {base_curve[-1][1]:.2f}) 옛 조각의 행에 물려줄 것이 적기 때문입니다. 더 배운 바탕에서 견주려면: {larger}"
    )
    print(why)
    report.text(why)
report.figure(extension_plot(curves), "adapt", "토큰을 더한 뒤 이어서 학습할 때의 검증 비트/바이트")

# %% [markdown]
# 그림을 읽는 법입니다. **0스텝**의 높이는 시작값이 정합니다. 모든 토큰의 평균은 새 토큰에게 확률을 조금만 주므로, 옛 토큰이 대부분인 글에서는
# 안전하지만 글의 대부분이 새 토큰이 되는 여기서는 그만큼 손해입니다. 옛 조각들의 평균은 어느 조각이었는지를 알고 시작합니다.
# 그다음은 **기울기**입니다. 시작이 나빠도 배우면 확장하지 않은 모델을 곧 앞지릅니다. 그러나 시작값끼리의 차이는 쉽게 없어지지 않습니다. 노트북
# 규모에서는 120스텝 뒤에도 무작위가 2.16, 옛 조각들의 평균이 1.92입니다. 같은 높이에 이르는 데 드는 스텝의 차이가 곧 시작값의 값어치입니다.
#
# 확장하지 않은 모델과도 견주세요. 이 실습의 바탕 모델은 작고 덜 배웠기 때문에, 토큰을 더하는 쪽이 금세(때로는 처음부터) 앞섭니다. 충분히
# 배운 모델일수록 0스텝에서는 확장한 쪽이 나쁘게 시작하고, 회복할 만큼 이어서 학습해야 이득을 봅니다. 시작값의 차이도 그때 뚜렷해집니다
# (맛보기 규모의 바탕 모델은 거의 배우지 못해 셋이 엇비슷합니다).
#
# ## 5. 값과 이득

# %%
report.section("5. 값과 이득")
after = compression(our_peer("", merged), lines["valid"])
faster = before["tokens_per_word"] / after["tokens_per_word"]
rows_added = kept.n_parameters() - model.n_parameters()
print(f"어절당 토큰 {before['tokens_per_word']:.2f} → {after['tokens_per_word']:.2f}: 같은 글을 생성할 때 모델을 돌리는 횟수가 {1 / faster:.0%}로 줄어듭니다")
print(f"늘어난 파라미터 {rows_added:,}개 (전체의 {rows_added / kept.n_parameters():.0%})")
report.facts({
    "옛 어휘 → 새 어휘": f"{old.vocab_size:,} → {merged.vocab_size:,}",
    "어절당 토큰": f"{before['tokens_per_word']:.2f} → {after['tokens_per_word']:.2f} ({faster:.1f}배 촘촘함)",
    "늘어난 파라미터": rows_added,
    "옛 모델의 비트/바이트": round(base_curve[-1][1], 3),
})  # fmt: skip
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `make week3-extend ARGS="extend_tokenizer.new_tokens=8000"`: 토큰을 더 늘리면 0스텝의 손실은 어떻게 되고, 따라잡는 데는 얼마나 걸리나요?
# - `make week3-extend ARGS="extend_tokenizer.steps=1000"`: 시작값의 차이는 끝까지 남나요?
# - 새 행만 학습하고 나머지는 얼려 두면(`requires_grad_(False)`) 어떻게 될까요? `extension.py`의 `train_on`을 고쳐 보세요.
