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
# # 3주차. 토크나이저 겨루기: BPE, WordPiece, Unigram
#
# "한국어에는 어떤 토크나이저가 좋은가?"라는 물음에 흔히 어절당 토큰 수 하나로 답합니다. 그것만으로는 모자랍니다. 모르는 낱말을 통째로
# 버리면 토큰은 얼마든지 줄어드니까요. 그래서 같은 글로 가르친 토크나이저들을 여러 잣대로 재고, 마지막에는 **토크나이저마다 작은 모델을
# 하나씩 학습시켜** 글을 얼마나 잘 맞히는지로 판정합니다.
#
# WordPiece와 Unigram도 밑바닥부터 짰습니다. `src/scratch_llm/tokenizers/`의 `wordpiece.py`, `unigram.py`와 각각의 `_trainer.py`입니다.

# %%
import unicodedata

from llm_workshop.artifacts import Artifacts
from llm_workshop.pipeline import build_corpus
from llm_workshop.pipeline.tokenizer import training_texts
from llm_workshop.progress import progress_bar
from llm_workshop.report import Report
from llm_workshop.settings import settings_from_command_line
from llm_workshop.tokenization import compression, our_peer, show_pieces
from llm_workshop.tokenization.contenders import CONTENDERS, check_contenders, gpt2_tokenizer, sweep
from llm_workshop.tokenization.measures import (
    decomposed_factor,
    megabytes_per_second,
    morpheme_agreement,
    tokens_per_syllable,
    unknown_share,
)
from llm_workshop.tokenization.morphemes import analyse, morpheme_starts
from llm_workshop.tokenization.plots import models_plot, speed_plot, sweep_plot
from llm_workshop.tokenization.trial import run_trials
from scratch_llm.tokenizers import Unigram
from scratch_llm.tokenizers.wordpiece_trainer import SCORES, learn_pieces

settings = settings_from_command_line(uses=("corpus", "compare_tokenizers", "tokenizer.vocab_size", "pretrain.precision"))
artifacts = Artifacts(settings)
compare = settings.compare_tokenizers
check_contenders(compare.tokenizers, "compare_tokenizers.tokenizers")
check_contenders(compare.models, "compare_tokenizers.models")
report = Report(artifacts, "week03-compare", "3주차: 토크나이저 겨루기")

# %% [markdown]
# ## 1. 무엇을 합칠까: 횟수, 비율, 가능도
#
# WordPiece는 BPE처럼 두 조각을 합쳐 나갑니다. 다른 것은 **고르는 점수**입니다. 쌍이 $n$번, 왼쪽 조각이 $n_a$번, 오른쪽이 $n_b$번,
# 조각이 모두 $N$개 나왔다고 합시다.
#
# | 점수 | 식 | 뜻 |
# |---|---|---|
# | `frequency` | $n$ | BPE의 규칙. Hugging Face의 `WordPieceTrainer`도 실은 이것을 씁니다 |
# | `ratio` | $n / (n_a n_b)$ | 교재에 흔히 나오는 식. 서로만 만나는 드문 쌍을 먼저 고릅니다 |
# | `likelihood` | $n \log \frac{N n}{n_a n_b}$ | 합쳤을 때 말뭉치의 로그 가능도가 늘어나는 양 (Schuster와 Nakajima, 2012) |
#
# 아래 낱말들에서 점수마다 무엇을 먼저 합치는지 보세요. "냉면"의 두 글자는 늘 함께 다니고, "의"는 아무 데나 붙습니다.

# %%
report.section("1. 무엇을 합칠까: 횟수, 비율, 가능도")
toy_words = {"냉면": 9, "가의": 10, "나의": 10, "다의": 10, "가나": 5, "나다": 5, "다가": 5, "꿻뷁": 1}
n_letters = len(learn_pieces(toy_words, 99, alphabet_size=99, min_frequency=99))
rows = []
for score in SCORES:
    joined = learn_pieces(toy_words, n_letters + 3, alphabet_size=99, score=score, min_frequency=1)[n_letters:]
    rows.append({"점수": score, "먼저 합치는 셋": ", ".join(joined)})
    print(f"{score:10} {rows[-1]['먼저 합치는 셋']}")
report.table(rows, caption=f"낱말과 횟수: {toy_words}")

# %% [markdown]
# `ratio`가 고른 첫째는 한 번밖에 나오지 않은 "꿻뷁"입니다. $1/(1 \cdot 1) = 1$이 가장 큰 점수이니까요. 그래서 이 식을 그대로 쓰면 어휘가
# 드문 낱말로 찹니다. 가능도에는 $n$이 곱해져 있어 "자주, 그리고 뜻밖에 함께" 나오는 쌍이 이깁니다.
#
# ## 2. 어떻게 나눌까: 탐욕법과 비터비
#
# 어휘가 같아도 나누는 법이 다르면 결과가 다릅니다.
#
# - **BPE**는 배운 순서대로 합칩니다.
# - **WordPiece**는 앞에서부터 어휘에 있는 **가장 긴** 조각을 뗍니다(탐욕법, greedy). 뒤에서 막히면 낱말 전체가 `[UNK]`입니다.
# - **Unigram**은 조각마다 확률이 있고, 곱이 가장 큰 나누기를 **동적 계획법**(비터비)으로 찾습니다.
# $$ x^{*} = \arg\max_{x_1 \cdots x_m} \sum_{i=1}^{m} \log p(x_i) $$
#
# 표의 확률로 "먹었다"를 나누면 어느 것이 이길까요? 종이에 먼저 더해 보세요.

# %%
report.section("2. 어떻게 나눌까: 탐욕법과 비터비")
toy_scores = {"먹": -3.0, "었": -3.0, "다": -2.0, "먹었": -4.4, "었다": -3.5, "먹었다": -7.0}
toy = Unigram([("<unk>", 0.0), *toy_scores.items()], {"<unk>": 0}, byte_fallback=False)
chosen = [piece for piece, _ in toy.cut_word("먹었다")]
rows = []
for cut in (["먹", "었", "다"], ["먹었", "다"], ["먹", "었다"], ["먹었다"]):
    total = sum(toy_scores[piece] for piece in cut)
    rows.append({"나누기": " + ".join(cut), "로그 확률의 합": total, "비터비가 고른 것": cut == chosen})
    print(f"{rows[-1]['나누기']:12} {total:6.1f} {'← 가장 그럴듯함' if cut == chosen else ''}")
report.table(rows)

# %% [markdown]
# Unigram의 학습은 거꾸로 갑니다. 자주 나오는 부분 문자열을 모두 담은 큰 어휘에서 시작해, EM으로 확률을 다듬고(E: 모든 나누기에 걸친 기대
# 횟수, M: 그 횟수를 확률로), 없앴을 때 가능도가 가장 덜 줄어드는 조각을 4분의 1씩 덜어 냅니다.
#
# ## 3. 겨루는 글
#
# 모두 같은 줄들로 가르치고, 가르칠 때 쓰지 않은 같은 줄들로 잽니다. 형태소 + BPE는 Kiwi로 형태소 경계를 먼저 자르고 그 안에서만 BPE를
# 합니다. GPT-2는 파일이 있을 때만 끼워 줍니다(영어로 배운 것이라 학습 글이 같지 않습니다).

# %%
report.section("3. 겨루는 글")
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


train_lines = lines_of("train", compare.train_megabytes * 1e6)
valid_lines = lines_of("valid", compare.valid_kilobytes * 1e3)
model_lines = lines_of("train", compare.model_megabytes * 1e6)
vocab_size = settings.tokenizer.vocab_size
sizes_text = f"배우는 글 {sum(len(line.encode()) for line in train_lines) / 1e6:.2f} MB, 재는 글 {sum(len(line.encode()) for line in valid_lines) / 1e3:.0f} kB"
print(f"{sizes_text}, 어휘 {vocab_size:,}")
# 형태소 분석은 가장 비싼 일이라 줄마다 한 번만 하고, 아래의 모든 절이 그 결과를 씁니다.
grammatical = "morpheme-bpe" in (*compare.tokenizers, *compare.models)
with progress_bar("형태소 분석", None) as update:
    analyse([*valid_lines, *(train_lines if grammatical else []), *(model_lines if "morpheme-bpe" in compare.models else [])], update)
valid_morphemes = list(morpheme_starts(valid_lines))
peers = {}
for name in compare.tokenizers:
    print(f"{CONTENDERS[name].title}: 배우는 중", flush=True)
    try:
        peers[name] = CONTENDERS[name].make(train_lines, vocab_size)
    except ValueError as error:  # 어휘가 작으면 글자표조차 다 담지 못하는 것이 있다
        print(f"{CONTENDERS[name].title}: 뺍니다. {error}")
gpt2 = gpt2_tokenizer()
if gpt2:
    peers["gpt2"] = our_peer("GPT-2 (영어)", gpt2)
print("참가:", ", ".join(f"{peer.name} {peer.vocab_size:,}" for peer in peers.values()))
report.text(sizes_text)

# %% [markdown]
# ## 4. 어휘 크기를 바꾸어 가며
#
# 왼쪽은 어절당 토큰 수, 오른쪽은 토큰의 경계가 형태소의 경계와 얼마나 맞는지(F1)입니다. BPE는 어휘가 커지면 어절이 통째로 토큰이 되어
# 토큰은 줄지만, 형태소의 경계는 그만큼 지나쳐 버립니다. 촘촘함과 형태소의 경계는 함께 좋아지기 어렵습니다. 거꾸로 형태소 + BPE는 어휘가 클수록 형태소와 잘
# 맞지만, 형태소를 넘어 합칠 수 없으니 토큰이 덜 줄어듭니다. 선이 도중에 끝난 것은 배울 조각이 바닥나 더 큰 어휘를 채우지 못한 것입니다.

# %%
report.section("4. 어휘 크기를 바꾸어 가며")
SWEPT = [name for name in compare.tokenizers if not name.startswith("hf-")]  # HF의 것은 우리 것과 거의 겹친다
swept, bpe_by_size = {}, list(sweep("bpe", train_lines, compare.vocab_sizes))
for name in SWEPT:
    rows = [
        {"vocab_size": peer.vocab_size, **compression(peer, valid_lines), **morpheme_agreement(peer, valid_lines, valid_morphemes)}
        for peer in (bpe_by_size if name == "bpe" else sweep(name, train_lines, compare.vocab_sizes))
    ]
    if rows:
        swept[CONTENDERS[name].title + ("" if CONTENDERS[name].lossless else " *")] = rows
        print(f"{CONTENDERS[name].title:24}", "  ".join(f"{row['vocab_size']:,}: {row['tokens_per_word']:.2f}" for row in rows))
report.table(
    [{"토크나이저": name} | {f"어휘 {row['vocab_size']:,}": round(row["tokens_per_word"], 3) for row in rows} for name, rows in swept.items()],
    header=["토크나이저", *(f"어휘 {size:,}" for size in sorted({row["vocab_size"] for rows in swept.values() for row in rows}))],
    caption="어절당 토큰 수 (* 모르는 낱말을 통째로 한 토큰으로 치므로 작아 보입니다)",
)
report.figure(sweep_plot(swept), "sweep", "어휘 크기에 따른 어절당 토큰 수와 형태소 경계의 일치")

# %% [markdown]
# ## 5. 같은 어휘 크기에서 나란히
#
# - **모름**: `[UNK]`나 `<unk>`가 된 토큰의 몫. 0이 아니면 그 글은 되돌릴 수 없습니다. 어절당 토큰 수가 작아 보여도 속지 마세요.
# - **되돌림**: 토큰을 이어 붙이면 원래 글이 되는 줄의 몫. WordPiece는 공백을 버리므로 모르는 낱말이 없어도 되돌리지 못합니다.
# - **NFD**: 같은 글을 자모로 풀어 넣었을 때 토큰이 몇 배가 되는가. 먼저 NFC로 맞추는 토크나이저는 1배입니다.

# %%
report.section("5. 같은 어휘 크기에서 나란히")
table = []
for peer in peers.values():
    figures = compression(peer, valid_lines)
    restored = sum(b"".join(peer.pieces(line)) == line.encode() for line in valid_lines) / len(valid_lines)
    table.append({
        "토크나이저": peer.name, "어휘": peer.vocab_size, "토큰당 바이트": round(figures["bytes_per_token"], 3),
        "어절당 토큰": round(figures["tokens_per_word"], 3), "음절당 토큰": round(tokens_per_syllable(peer, valid_lines), 3),
        "글자 조각": f"{figures['broken_share']:.1%}", "모름": f"{unknown_share(peer, valid_lines):.1%}",
        "되돌림": f"{restored:.0%}", "NFD": f"{decomposed_factor(peer, valid_lines[:200]):.1f}배",
    })  # fmt: skip
    row = table[-1]
    print(f"{peer.name:24} 어절당 {row['어절당 토큰']:.3f}  음절당 {row['음절당 토큰']:.3f}  모름 {row['모름']:>6}  되돌림 {row['되돌림']:>5}  NFD {row['NFD']}")
report.table(table)

# %% [markdown]
# ## 6. 형태소의 경계
#
# 기준은 형태소 분석기 Kiwi입니다. 어절 **안**의 경계만 봅니다(공백은 모두 맞히니까요). "갔다"처럼 한 음절에 두 형태소가 겹치면 글자
# 사이로는 나눌 수 없어 세지 않습니다. 정밀도는 토큰 경계 가운데 형태소 경계인 것의 몫, 재현율은 형태소 경계 가운데 토큰 경계인 것의 몫입니다.
# 형태소 + BPE의 재현율은 처음부터 거기서 자르므로 1에 가깝습니다. 토크나이저가 스스로 얼마나 찾아내는지는 나머지에서 보세요.

# %%
report.section("6. 형태소의 경계")
agreement = []
for peer in peers.values():
    found = morpheme_agreement(peer, valid_lines, valid_morphemes)
    agreement.append({"토크나이저": peer.name, "정밀도": round(found["precision"], 3), "재현율": round(found["recall"], 3), "F1": round(found["f1"], 3)})
    print(f"{peer.name:24} 정밀도 {found['precision']:.3f}  재현율 {found['recall']:.3f}  F1 {found['f1']:.3f}")
report.table(agreement)

# %% [markdown]
# ## 7. 처음 보는 글자
#
# 글자표에 없는 글자를 만났을 때 바이트로 풀 수 있으면(바이트 BPE, byte fallback) 길어질 뿐 잃지 않습니다. 그렇지 않으면 그 글자는, WordPiece라면
# 그 **낱말 전체가** 사라집니다. ⟨?⟩가 그런 자리입니다.

# %%
report.section("7. 처음 보는 글자")
strange = "쀍쀍! 李白이 👍를 눌렀다"
rows = []
for peer in peers.values():
    pieces = peer.pieces(strange)
    rows.append({"토크나이저": peer.name, "토큰": len(pieces), "나누기": show_pieces(pieces)})
    print(f"{peer.name:24} {len(pieces):3d}  {rows[-1]['나누기']}")
report.text(f"예문: {strange}").table(rows)

# %% [markdown]
# ## 8. 부호화 속도
#
# 코어 하나로(Kiwi만 모두 씁니다), 기억해 둔 것 없이 시작해서, 배운 글의 앞부분을 부호화하는 데 걸린 시간을 잽니다. 형태소 분석은
# 토크나이저보다 수십 배 비쌉니다. 학습 전에 한 번 하는 일이라면 견딜 만하지만(이 실습도 줄마다 한 번만 분석해 두고 씁니다),
# 서비스에서 요청마다 해야 한다면 이야기가 다릅니다. 게다가 분석기의 버전이 바뀌면 토큰도 바뀝니다.

# %%
report.section("8. 부호화 속도")
speed_lines = lines_of("train", min(1.0, compare.train_megabytes) * 1e6)
speeds = {peer.name: megabytes_per_second(peer.count, speed_lines, rounds=2) for peer in peers.values() if peer.count}
for name, speed in speeds.items():
    print(f"{name:24} {speed:7.2f} MB/초")
report.figure(speed_plot(speeds), "speed", "부호화 속도 (글의 크기로 잰 MB/초, 로그 눈금)")

# %% [markdown]
# ## 9. 판정: 작은 모델의 비트/바이트
#
# 토큰당 손실은 토크나이저가 다르면 견줄 수 없습니다. 어휘가 바이트 256개뿐이면 다음 토큰 맞히기가 쉽고, 3만 개면 어려우니까요.
# 그래서 손실을 **글 1바이트에 드는 비트**로 바꿉니다.
#
# $$ \text{비트/바이트} = \frac{\text{토큰당 손실(nat)}}{\ln 2} \cdot \frac{\text{토큰 수}}{\text{바이트 수}} $$
#
# 공평하게 하려고 이렇게 맞춥니다.
#
# | 같게 한 것 | 토크나이저를 따라가는 것 |
# |---|---|
# | 글과 그 순서, 한 번만 읽음 | 창에 든 토큰 수 (창은 바이트로 같게) |
# | 창의 바이트, 스텝의 바이트, 스텝 수, 학습률 | 임베딩 (어휘 × 너비) |
# | 임베딩을 뺀 파라미터 | 걸린 시간 |
#
# 문맥을 토큰으로 같게 하면 촘촘한 토크나이저가 더 긴 글을 보게 되어 처음부터 유리합니다. 창을 바이트로 맞춘 까닭입니다.
# 모르는 낱말은 `[UNK]` 하나만 맞히면 그만이라 공짜가 됩니다. 그래서 삼킨 바이트마다 8비트씩(글을 그대로 보내는 값) 물립니다.
# 그래도 WordPiece에는 별표를 붙입니다. 버린 공백까지는 물리지 않았으니 **시험 문제를 덜 푼** 점수입니다.

# %%
report.section("9. 판정: 작은 모델의 비트/바이트")
contestants = []
for name in compare.models:
    try:
        contestants.append((name, peers.get(name) or CONTENDERS[name].make(train_lines, vocab_size)))
    except ValueError as error:
        print(f"{CONTENDERS[name].title}: 뺍니다. {error}")
trained_sizes = {peer.vocab_size for name, peer in contestants if name == "bpe"}  # 둘째 표에도 나오지만 학습은 한 번
runs = contestants + [("bpe", peer) for peer in bpe_by_size if peer.vocab_size not in trained_sizes]
rows = []
for (name, peer), figures in zip(runs, run_trials(artifacts, runs, model_lines, valid_lines)):
    rows.append({"토크나이저": CONTENDERS[name].title + ("" if CONTENDERS[name].lossless else " *"), "어휘": peer.vocab_size,
                 "비트/바이트": round(figures["bits_per_byte"], 4), "토큰당 손실": round(figures["loss"], 3), "삼킨 글": f"{figures['lost_share']:.1%}",
                 "창 (토큰)": figures["context"], "임베딩": figures["embedding"], "나머지 파라미터": figures["body"], "초": round(figures["seconds"], 1)})  # fmt: skip
    print(f"  → 비트/바이트 {rows[-1]['비트/바이트']:.4f}, 토큰당 손실 {rows[-1]['토큰당 손실']:.3f}, {rows[-1]['초']:.0f}초", flush=True)
results = rows[: len(contestants)]
by_size = sorted((row for row in rows if row["토크나이저"] == CONTENDERS["bpe"].title), key=lambda row: row["어휘"])
print()
for row in (*results, *by_size):
    print(f"{row['토크나이저']:18} 어휘 {row['어휘']:6,}  비트/바이트 {row['비트/바이트']:.4f}  토큰당 손실 {row['토큰당 손실']:.3f}  {row['초']:.0f}초")
bodies = {row["나머지 파라미터"] for row in results + by_size}
print(f"임베딩을 뺀 파라미터: {', '.join(f'{body:,}' for body in bodies)} ({'모두 같음' if len(bodies) == 1 else '다름!'})")
report.table(results, caption="* 공백을 잃으므로 다른 것과 곧바로 견줄 수 없습니다")
report.table(by_size, caption="우리 BPE의 어휘 크기를 바꾸어")
report.figure(models_plot(results, by_size), "models", "토크나이저마다 학습시킨 작은 모델의 검증 비트/바이트")

# %% [markdown]
# 먼저 **토큰당 손실**과 **비트/바이트**의 순서를 견주어 보세요. 노트북 규모에서 토큰당 손실이 가장 작은 것은
# 바이트 모델이지만 비트/바이트는 가장 나쁩니다. 맞히기 쉬운 문제를 여러 번 풀었을 뿐이고, 그만큼 오래 걸립니다.
# 형태소 + BPE의 토큰당 손실은 우리 BPE보다 훨씬 작은데(3.9와 5.2), 비트/바이트는 조금 나을 뿐입니다(1.29와 1.35).
# 토크나이저 사이의 작은 차이는 `SEED`를 바꾸어 다시 재 보기 전에는 순위라고 부르지 마세요.
#
# 오른쪽 그림에서 어휘를 키우면 어떻게 되나요? 합성 말뭉치는 같은 어절이 되풀이되어, 어휘가 클수록 어절을 통째로 맞히는 쪽이 이깁니다. 그 대신
# 임베딩이 자랍니다. 표에서 임베딩이 나머지 파라미터의 몇 배인지 보세요. 드문 낱말이 많은 진짜 글에서는 큰 어휘의 토큰이 배울 기회를 얻지 못해
# 어느 크기에서 멈추거나 되돌아설 수 있습니다. 그 자리는 **글의 양과 모델의 크기**에 달렸으니, 여기서 잰 것을 큰 모델에 그대로 옮기지 마세요.
#
# ## 10. 예문
#
# 숫자로 본 것을 눈으로 확인합니다. 조사와 어미가 어디서 잘리는지 보세요.

# %%
report.section("10. 예문")
for example in ("할머니께서 시장에서 사과를 사 오셨습니다.", "먹었다, 먹었고, 먹었지만 또 먹고 싶어요!", "GPU가 없어도 3주차 실습은 할 수 있어요."):
    rows = []
    print(f"\n{example}")
    for peer in peers.values():
        pieces = peer.pieces(example)
        rows.append({"토크나이저": peer.name, "토큰": len(pieces), "나누기": show_pieces(pieces)})
        print(f"  {peer.name:24} {len(pieces):3d}  {rows[-1]['나누기']}")
    report.text(f"### {example}").table(rows)
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `make week3-compare DATA=nsmc`: 띄어쓰기와 맞춤법이 제멋대로인 글에서는 순위가 어떻게 바뀌나요?
# - `make week3-compare ARGS="compare_tokenizers.d_model=256"`: 모델이 커지면 가장 좋은 어휘 크기가 어느 쪽으로 움직이나요?
# - `make week3-compare ARGS="compare_tokenizers.models=bpe,sp-unigram,hf-bpe"`: 라이브러리의 토크나이저로도 모델을 학습시켜 보세요.
