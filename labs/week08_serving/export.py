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
# # 8주차. 내보내기: 우리 모델을 남의 프로그램에서
#
# 우리가 만든 모델은 우리 코드로만 돌아갈까요? 그렇다면 서비스로 쓰기 어렵습니다. 노트북에서는 llama.cpp나 Ollama로,
# NVIDIA GPU에서는 TensorRT-LLM으로 돌리고 싶습니다. 그러려면 그 프로그램이 읽는 **파일 형식**으로 옮겨야 합니다.
#
# 옮기는 일은 복사가 아닙니다. 가중치를 늘어놓는 순서가 다르고, 토크나이저의 규칙이 파일에 다 담기지 않기도 하며, 비트를 줄이면 값도 달라집니다.
# 이 실습에서는 파일을 쓰는 데서 멈추지 않고 **도로 읽어서** 원래 모델과 같은지 하나하나 확인합니다.

# %%
import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.corpora.document import read_documents
from llm_workshop.export import GGUF_TYPES, LLAMA_CPP_PATTERNS, Checkpoint, agreement, exact_pre_tokenizer
from llm_workshop.export.gguf_check import load_with_transformers
from llm_workshop.export.gguf_file import interleave_heads
from llm_workshop.export.llama_cpp import LlamaCpp, is_installed
from llm_workshop.export.modelopt import METHODS
from llm_workshop.export.modelopt_check import load_dequantized
from llm_workshop.export.stages import gguf_stage, modelopt_stage
from llm_workshop.pipeline.samples import is_chat_corpus
from llm_workshop.quantization.evaluation import bits_per_byte, text_batches
from llm_workshop.report import Report
from llm_workshop.report.plots import COLORS, new_figure
from llm_workshop.serving.tensorrt_llm.arguments import (
    llm_arguments,
    serve_command,
    serve_options,
    shell_line,
)
from llm_workshop.serving.tensorrt_llm.signatures import signatures
from llm_workshop.serving.tensorrt_llm.stamp import Stamp, StampError, check_stamp, write_stamp
from llm_workshop.serving.triton.engine_settings import EngineSettings
from llm_workshop.settings import settings_from_command_line
from scratch_llm.generation import SamplingConfig, generate_tokens
from scratch_llm.models import load_model
from scratch_llm.tokenizers import encode_chat, render_chat

settings = settings_from_command_line(uses=("quantize.eval_tokens", "quantize.calibration_tokens", "serving.max_rows", "serving.max_tokens"))
artifacts = Artifacts(settings)
report = Report(artifacts, "week08-export", "8주차: 내보내기")
checkpoint = Checkpoint.open(artifacts.require("base-model"))
tokenizer, original = checkpoint.tokenizer, checkpoint.load_model()
context = checkpoint.context_length
evaluation = text_batches(artifacts, "valid", settings.quantize.eval_tokens, context)
calibration = [inputs for inputs, _ in text_batches(artifacts, "train", settings.quantize.calibration_tokens, context)]


def measure(model) -> float:
    """검증 글에서 잰 비트/바이트."""
    return bits_per_byte(lambda ids: model(ids).logits, evaluation, tokenizer.token_bytes())


base_bits = measure(original)
n_parameters = sum(parameter.numel() for parameter in original.parameters())
print(f"{checkpoint.model_type}, 파라미터 {n_parameters:,}개, 어휘 {checkpoint.config['vocab_size']:,}, 문맥 {context}, 검증 {base_bits:.4f} 비트/바이트")

# %% [markdown]
# ## 1. 파일에 담기지 않는 것: 토크나이저의 정규식
#
# GGUF(llama.cpp가 쓰는 라이브러리 ggml의 파일 형식)에는 가중치, 모델의 모양, 어휘, 병합 규칙, 대화 템플릿이 한 파일에 들어갑니다. 그런데 하나가 빠져 있습니다.
# BPE를 하기 전에 글을 **조각으로 자르는 정규식**입니다(3주차). GGUF에는 정규식 대신 이름(`tokenizer.ggml.pre`)만 적고, 그 이름이
# 가리키는 정규식은 llama.cpp의 C++ 코드 안에 박혀 있습니다. 우리의 `korean` 패턴을 아는 이름은 없습니다.
#
# 그러면 비슷한 이름을 빌려 와야 합니다. 무엇을 빌리면 학습 때와 **같은 토큰**이 나올까요? 짐작하지 말고 검증 문서(많아야 2,000개)로 셉니다.
# 문서가 모두 같게 나오더라도 규칙이 같다는 뜻은 아닙니다. 그 문서들에 어긋날 만한 글이 없었을 뿐일 수 있으니, 일부러 고른 까다로운 글도 함께 봅니다.

# %%
report.section("1. 파일에 담기지 않는 것: 토크나이저의 정규식")
exact = exact_pre_tokenizer(tokenizer)
texts = [document.text for document in read_documents(artifacts.require("corpus") / "valid.jsonl")][:2000]
HARD = ("전화번호는 01012345678입니다", "그는 we'll이라고 말했다", "한글English섞기ㅋㅋㅋ가", "첫째\n\n  둘째\t셋째", "가격은1234567원!!…“네”", "비밀번호는 1010101010", "２０２４년 １１월")
agreements = {name: agreement(tokenizer, name, texts) for name in LLAMA_CPP_PATTERNS}
hard = {name: agreement(tokenizer, name, HARD) for name in LLAMA_CPP_PATTERNS}
rows = [
    {
        "llama.cpp의 이름": name, "같은 문서": f"{found.n_same:,} / {found.n_texts:,}", "토큰 수의 변화": f"{found.n_tokens_elsewhere - found.n_tokens:+,}",
        "일부러 고른 글": f"{hard[name].n_same} / {hard[name].n_texts}", "달라지는 곳의 예": (found.examples or hard[name].examples or ("–",))[0].replace("\n", "↵"),
    }
    for name, found in agreements.items()
]  # fmt: skip
for row in rows:
    print(f"{row['llama.cpp의 이름']:10} 문서 {row['같은 문서']}, 일부러 고른 글 {row['일부러 고른 글']}, 예: {row['달라지는 곳의 예']}")
report.table(rows, caption="우리 토크나이저와 같은 토큰이 나온 문서의 수")
stand_in = exact or max(agreements, key=lambda name: (agreements[name].share, hard[name].share))
if exact:
    verdict = f"우리 패턴({tokenizer.pre_tokenizer.pattern})과 규칙까지 같은 이름이 있습니다: `{exact}`."
else:
    best = agreements[stand_in]
    verdict = (
        f"규칙까지 같은 이름은 없어, 어떤 글이든 같은 토큰이 된다고 장담할 수 없습니다. 문서 {best.n_texts:,}개 가운데 {best.n_same:,}개, "
        f"까다로운 글 {hard[stand_in].n_texts}개 가운데 {hard[stand_in].n_same}개에서 같은 토큰이 나온 `{stand_in}`을(를) 대신 씁니다."
    )
print(f"\n{verdict.replace('`', '')}")
report.text(verdict)

# %% [markdown]
# 왜 패턴이 다른데도 거의 같은 토큰이 나올까요? 병합 규칙은 학습할 때 **조각 안에서만** 배웠습니다. 더 크게 잘라도 조각의 경계를 넘는 병합은
# 규칙에 거의 없으니 좀처럼 일어나지 않습니다. 어긋나는 것은 숫자처럼 **길이로** 자르던 곳과, 더 **잘게** 자르는 패턴입니다.
#
# 그래서 `write_gguf`는 똑같은 이름이 없으면 **파일을 쓰지 않고 거절합니다**. 이름을 직접 주면 쓰되, 파일의 설명에 "대신 쓴 것"이라고 적어 둡니다.
# 처음부터 호환되는 토크나이저가 필요하면 `ARGS="tokenizer.pattern=gpt2"`로 토크나이저와 모델을 학습하세요. 또 llama.cpp는 NFC로 정규화하지 않으므로,
# macOS의 파일 이름처럼 자모가 나뉜 한글(NFD)은 보내는 쪽에서 합쳐 주어야 합니다.
#
# ## 2. GGUF로 쓰고, 도로 읽기
#
# 가중치에도 함정이 있습니다. RoPE(4주차)는 머리 하나의 벡터를 두 칸씩 짝지어 돌리는데, 짝을 짓는 법이 두 가지입니다.
#
# $$ \text{transformers: } (x_i,\; x_{i+d/2}) \qquad\qquad \text{ggml: } (x_{2i},\; x_{2i+1}) $$
#
# 그래서 $W_Q$와 $W_K$의 **행 순서**를 바꾸어 적어야 합니다. 잊어도 오류는 나지 않고, 모델이 헛소리를 할 뿐입니다. 너비가 4인 머리로 보면 이렇습니다.

# %%
report.section("2. GGUF로 쓰고, 도로 읽기")
example = torch.arange(4).reshape(4, 1).numpy()
print("머리 하나의 행 0 1 2 3을 ggml의 순서로:", interleave_heads(example, 1).ravel().tolist())
gguf_folder, facts = gguf_stage(artifacts, stand_in)
results = {"원본 (float32)": (n_parameters * 4, base_bits)}
rows = []
for weights, fact in facts.items():
    model = load_with_transformers(gguf_folder / f"model-{weights}.gguf")
    with torch.inference_mode():
        ids = evaluation[0][0]
        ours, theirs = original(ids).logits, model(ids).logits
    bits = measure(model)
    results[f"GGUF {weights}"] = (fact["bytes"], bits)
    same = (ours.argmax(-1) == theirs.argmax(-1)).float().mean().item()
    rows.append({
        "형식": weights, "비트/가중치": GGUF_TYPES[weights], "크기 (MB)": round(fact["bytes"] / 1e6, 2), "가중치의 최대 오차": fact["largest_error"],
        "로짓의 최대 차이": (ours - theirs).abs().max().item(), "같은 다음 토큰": f"{same:.1%}", "비트/바이트": round(bits, 4),
    })  # fmt: skip
    print(f"{weights:5} {fact['bytes'] / 1e6:8.2f} MB, 같은 다음 토큰 {same:.1%}, {bits:.4f} 비트/바이트")
report.table(rows, caption="transformers의 GGUF 로더로 도로 읽어 잰 것. 오차는 스케일을 나누어 쓰는 블록에서 가장 큰 값에 견준 것입니다")

# %% [markdown]
# F16에서 다음 토큰이 거의 다 같다면 순서를 옳게 옮긴 것입니다. Q8_0은 이웃한 32개가 스케일 하나를 나누어 쓰는 8비트이고, Q4_0은 같은 방법의 4비트입니다.
# 양자화 실습(`make week8-quantize`)의 그룹 양자화와 같은 생각이지요. 4비트에서 얼마나 나빠지는지 표에서 확인하세요.
#
# ## 3. llama.cpp에게 직접 물어보기
#
# transformers로 도로 읽은 것은 아직 남의 말을 전해 들은 것입니다. 파일의 주인인 llama.cpp가 읽어야 진짜입니다.
# 패키지 `xllamacpp`에 진짜 llama.cpp가 들어 있습니다. 바로 돌려서 우리 엔진과 **토큰 하나하나**를 견줍니다.

# %%
report.section("3. llama.cpp에게 직접 물어보기")
question = [{"role": "user", "content": "김치찌개는 어떻게 끓여요?"}]
chat = is_chat_corpus(artifacts)
if is_installed():
    program = LlamaCpp(gguf_folder / "model-F16.gguf", context)
    cut_alike = sum(program.tokenize(text) == tokenizer.encode(text, allow_special=False) for text in texts[:300])
    prompts = [encode_chat(tokenizer, question, add_generation_prompt=True)[0]] if chat else []
    prompts += [tokenizer.encode(text, allow_special=False)[:12] for text in texts[:9]]
    scratch, alike = load_model(checkpoint.folder).eval(), 0
    for prompt in prompts:
        prompt = [tokenizer.eos_id, *prompt]
        [ours] = generate_tokens(scratch, [prompt], SamplingConfig(max_new_tokens=24, temperature=0), stop_ids=tokenizer.special_tokens.ids)
        theirs = program.continue_greedily(prompt, 24)
        alike += theirs[: len(ours)] == ours
    print(f"글을 자른 토큰이 같은 문서: {cut_alike} / {min(300, len(texts))}")
    print(f"탐욕 생성 24토큰이 끝까지 같은 프롬프트: {alike} / {len(prompts)}")
    if chat:
        print("대화 템플릿:", "같음" if program.render(question) == render_chat(question, add_generation_prompt=True) else "다름!")
        answer = program.continue_greedily([tokenizer.eos_id, *prompts[0]], min(settings.generate.max_new_tokens, context // 2))
        print(f"  {question[0]['content']} → {tokenizer.decode(answer, skip_special=True).strip()}")
    report.facts({"글을 자른 토큰이 같은 문서": f"{cut_alike} / {min(300, len(texts))}", "24토큰이 끝까지 같은 프롬프트": f"{alike} / {len(prompts)}"})
    program.close()
else:
    print("llama.cpp가 없어 이 절은 건너뜁니다. 해 보려면 make shell 안에서: pip install xllamacpp")
    report.text("llama.cpp(xllamacpp)가 설치되어 있지 않아 건너뛰었습니다.")
print(f"""
다른 컴퓨터에서는 폴더 {gguf_folder.name}/ 를 복사해 이렇게 씁니다.
  llama-cli -m model-Q8_0.gguf -cnv --jinja
  ollama create our-model -f Modelfile && ollama run our-model""")
if chat:
    report.output((gguf_folder / "Modelfile").read_text(encoding="utf-8"))

# %% [markdown]
# float16으로 계산하면 점수가 거의 같은 두 토큰의 순서가 바뀔 수 있습니다. 하나라도 어긋났다면 그 자리의 점수 차이를 들여다볼 만합니다.
#
# `Modelfile`은 Ollama에 주는 설명서입니다(대화를 배운 모델에만 만듭니다). 우리의 대화 템플릿을 Go 템플릿으로 다시 적고, 특수 토큰을 만나면 답을 끝내라고 알려 줍니다.
#
# ## 4. TensorRT-LLM을 위한 체크포인트: ModelOpt
#
# NVIDIA GPU에는 FP8끼리 **그대로** 곱하는 커널, 4비트 가중치를 곱하기 직전에 푸는 커널이 있습니다. 그 커널이 읽는 체크포인트를 만드는 도구가
# ModelOpt입니다. 만드는 일은 CPU에서도 됩니다.
#
# | 방법 | 가중치 | 활성값 | 생각 |
# |---|---|---|---|
# | FP8 | 8비트 부동소수점(e4m3) | 8비트 부동소수점 | 지수가 있어 큰 값과 작은 값을 함께 담는다 |
# | AWQ | 4비트 정수, 그룹마다 스케일 | 그대로 | 활성값이 큰 채널의 가중치를 키워 두고 반올림한다 |
# | SmoothQuant | 8비트 정수, 행마다 스케일 | 8비트 정수 | 활성값의 이상치를 가중치로 옮긴다 |
#
# 여기의 SmoothQuant는 TensorRT-LLM의 옛 TensorRT 백엔드가 쓰던 형식이고, 지금의 PyTorch 백엔드는 읽지 않습니다. 원리를 보려고 함께 만듭니다.
# 아래 결과에서 GPU 이름 뒤의 괄호는 계산 능력(compute capability)의 하한입니다.
#
# 활성값의 크기는 글을 읽혀 보아야 압니다. 그래서 **우리 학습 글**을 잠깐 읽힙니다(보정, calibration). 내보낸 뒤에는 정수와 스케일로 가중치를 되살려
# 원본과 견줍니다. AWQ와 SmoothQuant는 가중치의 채널마다 곱한 스케일의 역수를 앞의 정규화 층에 합쳐 두므로, 둘을 곱해서 견주어야 합니다.

# %%
report.section("4. TensorRT-LLM을 위한 체크포인트: ModelOpt")
rows, exported = [], {}
GPU = {"fp8": "Ada, Hopper 이후 (8.9)", "awq": "Ampere 이후 (8.0)", "smoothquant": "PyTorch 백엔드에는 없음"}
for method in METHODS:
    try:
        folder, fact = modelopt_stage(artifacts, method, calibration)
    except ValueError as problem:  # GPT-2, 또는 AWQ의 그룹으로 나누어떨어지지 않는 너비
        print(f"{method}: 내보낼 수 없습니다. {problem}")
        rows.append({"방법": method, "quant_algo": f"내보낼 수 없음: {problem}"})
        continue
    exported[method] = folder
    bits = measure(load_dequantized(folder))
    results[f"ModelOpt {method}"] = (fact["bytes"], bits)
    rows.append({
        "방법": method, "quant_algo": fact["quant_algo"], "크기 (MB)": round(fact["bytes"] / 1e6, 2), "행렬의 최대 오차": f"{fact['largest_error']:.1%}",
        "비트/바이트": round(bits, 4), "필요한 GPU": GPU[method],
    })  # fmt: skip
    print(f"{method:12} {fact['bytes'] / 1e6:8.2f} MB, 행렬의 오차 {fact['largest_error']:.1%} 이내, {bits:.4f} 비트/바이트, GPU: {GPU[method]}")
report.table(rows, caption="가중치를 되살려 잰 것(활성값의 반올림은 빠져 있습니다). 임베딩과 출력층은 bfloat16 그대로입니다")

# %% [markdown]
# 작은 모델은 기대만큼 줄지 않습니다. 양자화하지 않은 임베딩의 몫이 크기 때문입니다(4주차). 크기와 품질을 한 그림에 놓아 봅시다.

# %%
figure, axes = new_figure(width=7.0, height=3.8)
for number, (name, (n_bytes, bits)) in enumerate(results.items()):
    marker = "s" if name.startswith("ModelOpt") else "o" if name.startswith("GGUF") else "*"
    # F16과 BF16은 크기가 같고 품질도 거의 같습니다. 앞의 것을 크게, 속을 비워 그려야 둘 다 보입니다.
    hollow = name == "GGUF F16"
    axes.scatter(
        n_bytes / 1e6, bits, facecolors="none" if hollow else COLORS[number % len(COLORS)], edgecolors=COLORS[number % len(COLORS)],
        marker=marker, s=130 if hollow or marker == "*" else 46, linewidths=1.6 if hollow else 0, label=name, zorder=3,
    )  # fmt: skip
axes.axhline(base_bits, color=COLORS[-1], linewidth=0.8, linestyle=":")
axes.set_xlabel("파일 크기 (MB)")
axes.set_ylabel("비트/바이트 (검증, 낮을수록 좋음)")
axes.set_xlim(left=0)
axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
report.figure(figure, "size-quality", "내보낸 형식의 크기와 품질. 점선은 원본입니다")

# %% [markdown]
# ## 5. GPU에서 서비스하기: 인자, 명령, 도장
#
# GPU 이미지에서는 같은 Triton 모델 저장소의 엔진만 `tensorrt_llm`으로 바꿉니다. 우리 설정은 이렇게 `LLM(...)`의 인자가 됩니다.
# 인자의 이름은 TensorRT-LLM이 유지하겠다고 약속한 목록과 대조합니다. 그래서 GPU가 없는 컴퓨터에서도 틀린 이름을 잡아냅니다.
#
# 체크포인트는 아무 데서나 돌지 않습니다. FP8은 Ada 이후의 GPU가 있어야 하고, 버전이 다르면 결과를 장담할 수 없습니다. 그래서 **서비스할 이미지 안에서**
# 버전과 GPU, 체크포인트의 다이제스트를 적은 **도장**(stamp)을 찍고, 엔진은 도장이 맞지 않으면 시작하지 않습니다. 여기에는 GPU가 없어도 되도록
# 지어낸 도장을 찍어, 환경이 같을 때와 버전과 GPU가 다를 때를 시험해 봅시다.

# %%
report.section("5. GPU에서 서비스하기: 인자, 명령, 도장")
served = exported.get("fp8", checkpoint.folder)
engine = EngineSettings(
    model=served, engine="tensorrt_llm", device="cuda", max_rows=settings.serving.max_rows, max_tokens=settings.serving.max_tokens
)
version = signatures()["version"]
arguments = llm_arguments(engine, context, version)
print(f"TensorRT-LLM {version}의 LLM(...):")
for name, value in arguments.items():
    print(f"  {name} = {value if name != 'model' else served.name}")
report.facts({name: str(value if name != "model" else served.name) for name, value in arguments.items()})
print("\nTriton 없이 OpenAI 호환 서버만 띄우려면:")
print(" ", shell_line(serve_command(engine, context, served.parent / "trtllm-options.yaml", "0.0.0.0", 8000)).replace(str(served.parent) + "/", ""))
print("  trtllm-options.yaml:", serve_options(engine, context).strip().replace("\n", ", "))
here = Stamp("1.2.1", "2.9.1", "13.1", "NVIDIA H200", "9.0", checkpoint.digest())
stamps = artifacts.root / ".work" / "stamp-lesson"
stamps.mkdir(parents=True, exist_ok=True)
write_stamp(stamps, here)
check_stamp(stamps, here)
print("\n같은 환경: 시작합니다.")
try:
    check_stamp(stamps, Stamp("1.3.0", "2.9.1", "13.1", "NVIDIA L4", "8.9", checkpoint.digest()))
    print("다른 환경인데도 시작했습니다. 다릅니다!")
except StampError as refusal:
    print(f"다른 환경: 거절합니다. {str(refusal).replace(str(stamps), '폴더')}")
report.save()

# %% [markdown]
# **ONNX는 왜 없나요?** PyTorch에서 ONNX로 내보내면 순전파 한 번은 옮겨지지만 KV 캐시와 생성 루프는 따로 만들어야 합니다. 여기서는 그것까지 확인할 수 없어 뺐습니다.
#
# ## 스스로 해 보기
#
# - `make base-model week8-export SCALE=smoke ARGS="tokenizer.pattern=gpt2"`(토크나이저와 모델을 다시 학습합니다): 똑같이 자르는 이름이 생기면
#   1절의 표와 3절의 결과가 어떻게 달라지나요?
# - `make week8-export ARGS="quantize.calibration_tokens=512"`: 보정에 쓰는 글을 줄이면 어느 방법이 가장 먼저 나빠지나요?
# - 1절의 `HARD`에 여러분이 자주 쓰는 글을 넣어 보세요. 토큰이 달라지는 글을 찾을 수 있나요?
# - `Q8_0` 파일을 휴대전화나 다른 노트북의 Ollama로 옮겨 대화해 보세요.
