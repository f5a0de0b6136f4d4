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
# # 5주차. 같은 학습을 NeMo AutoModel로
#
# 밑바닥부터 쓴 학습 루프와 NVIDIA의 도구는 같은 일을 할까요? 말로 답하는 대신 **같은 가중치에서, 같은 토큰을, 같은 순서로** 두 루프에
# 넣고 손실을 스텝마다 견줍니다. 곡선이 겹친다면 우리가 만든 것이 맞다는 증거이고, 큰 도구로 옮겨 갈 때 무엇을 어떻게 옮겨 적어야
# 하는지도 알게 됩니다.
#
# AutoModel은 환경이 따로 있습니다(`make env-nemo`, 3 GB 남짓). NeMo Run도 그렇습니다(`make env-nemorun`, 0.5 GB). 없으면 그 절은
# 건너뛰고 레시피까지만 봅니다.

# %%
import json

import yaml

from llm_workshop.artifacts import Artifacts
from llm_workshop.automodel.launch import container_lines, find_nemo_run, script_lines
from llm_workshop.automodel.plots import curves_plot, rates_plot
from llm_workshop.automodel.recipe import recipe
from llm_workshop.automodel.runner import find_automodel, how_to_install
from llm_workshop.automodel.sent import build_nemo_run
from llm_workshop.automodel.stage import build_automodel, pretraining_job, rates
from llm_workshop.automodel.twin import differences
from llm_workshop.pipeline import build_corpus, build_tokenizer, build_tokens
from llm_workshop.report import Report
from llm_workshop.settings import settings_from_command_line
from scratch_llm.tokenizers import ByteLevelBPE
from scratch_llm.training import cosine_with_warmup

settings = settings_from_command_line(uses=("model", "automodel", "pretrain.packing"))
artifacts = Artifacts(settings)
report = Report(artifacts, "week05-automodel", "5주차: 같은 학습을 NeMo AutoModel로")
build_corpus(artifacts, force=False)
tokenizer = ByteLevelBPE.load(build_tokenizer(artifacts, force=False))
build_tokens(artifacts, force=False)
python = find_automodel()

# %% [markdown]
# ## 1. 레시피: 설정을 YAML로
#
# AutoModel은 파이썬 코드 대신 **레시피** 한 장을 읽습니다. 모델, 데이터, 옵티마이저, 학습률, 체크포인트가 저마다 한 절입니다. `_target_`은
# "이 클래스를 이 값으로 만들라"는 뜻이라, 데이터셋 자리에 우리가 쓴 클래스를 꽂을 수 있습니다. 아래 레시피의 `dataset`이 그렇습니다.
# 우리의 토큰 파일과 창을 그대로 읽습니다.
#
# | 우리 말 | 레시피에서는 | 조심할 것 |
# |---|---|---|
# | `batch_size` | `global_batch_size` | 모든 프로세스를 합한 수 |
# | `micro_batch_size` | `local_batch_size` | 프로세스 하나가 한 번에 계산하는 수 |
# | 행렬에만 감쇠 | `param_group_overrides` | 적지 않으면 벡터까지 감쇠합니다 |
# | 정답 수로 나눈 손실 | `MaskedCrossEntropy` | 스텝 전체의 정답 수로 나눕니다. 마이크로 배치 평균의 평균이 아닙니다 |
# | 한 칸 민 정답 | 데이터셋이 밀어 둔다 | 모델에게 밀라고 하면 두 번 밀립니다 |
# | 기울기 자르기 1.0 | `clip_grad_norm` | 이름만 다릅니다 |

# %%
report.section("1. 레시피: 설정을 YAML로")
name = settings.automodel.architectures[0]
job = pretraining_job(artifacts, name, tokenizer, artifacts.root / ".work" / f"automodel-recipe-{name}")
values = recipe(job, artifacts.root / "automodel-checkpoint")
shown = yaml.safe_dump({key: values[key] for key in ("model", "step_scheduler", "dataset", "optimizer", "lr_scheduler")}, sort_keys=False)
shown = shown.replace(str(artifacts.root.resolve()), "artifacts/" + settings.run_name)
print("\n".join("  " + line for line in shown.splitlines()))
report.text(f"{name} 모양을 학습하는 레시피의 주요한 절입니다.").output(shown, "yaml")

# %% [markdown]
# ## 2. 학습률 옮겨 적기
#
# 이름이 같은 설정이 같은 뜻이라는 보장은 없습니다. 학습률이 좋은 보기입니다. 우리는 스텝을 1부터 세고 첫 스텝의 학습률을 최댓값/워밍업으로
# 둡니다(0이면 첫 배치를 버리는 셈이니까요). AutoModel은 0부터 세고 `init_lr`에서 시작해 `lr_warmup_steps`에서 최댓값에 닿습니다.
# 그래서 `warmup_steps`를 그대로 베끼면 **한 스텝씩 어긋납니다**. 워밍업은 하나 빼고, 끝도 하나 당기고, 시작값을 적어 주어야 같은 곡선이 됩니다.

# %%
report.section("2. 학습률 옮겨 적기")
config = job.training
ours = [
    cosine_with_warmup(step, learning_rate=config.learning_rate, min_learning_rate=config.min_learning_rate, warmup_steps=config.warmup_steps, steps=config.steps)
    for step in range(config.steps)
]
theirs = rates(config)
gap = max(abs(a - b) for a, b in zip(ours, theirs))
print(f"  우리 설정: warmup_steps={config.warmup_steps}, steps={config.steps}")
print(f"  레시피: {values['lr_scheduler']}")
print(f"  {config.steps}스텝에서 가장 큰 차이 {gap:.1e} {'같음' if gap < 1e-9 else '다름!'}")
report.text(f"옮겨 적은 학습률의 가장 큰 차이는 {gap:.1e}입니다.")
report.figure(rates_plot(ours, theirs), "rates", "우리 식의 학습률과 레시피대로 계산한 학습률")

# %% [markdown]
# ## 3. 같은 곡선인가
#
# 이제 정말로 돌립니다. 같은 시작 가중치를 파일로 적어 AutoModel에게 주고, 우리 루프도 그 파일을 엽니다. 둘 다 float32로, 마이크로 배치 둘로
# 나누어 계산합니다. 모든 스텝에서 손실의 차이가 **0.001**보다 작아야 합니다. 0이 아닌 까닭은 덧셈의 순서입니다. 학습은 앞 스텝의
# 오차를 물려받으므로, 긴 학습에서는 이 작은 차이가 쌓이기도 합니다.

# %%
report.section("3. 같은 곡선인가")
ALLOWED = 1e-3
facts = {}
if python is None:
    print("  " + how_to_install("nemo"))
    report.text(f"AutoModel과 견주지 못했습니다. {how_to_install('nemo')}")
else:
    print("  NeMo AutoModel을 부르는 중입니다 (부르는 데만 10초 남짓)", flush=True)
    folder = build_automodel(artifacts, python)
    facts = artifacts.read_manifest("automodel")["metrics"]
    curves = {name: json.loads((folder / name / "curves.json").read_text()) for name in facts}
    rows = []
    for name, fact in facts.items():
        fits = fact["loss_difference"] < ALLOWED
        rows.append({"학습": name, "AutoModel의 클래스": fact["class"].rpartition(".")[2], "배우는 파라미터": f"{fact['trainable']:,}", "스텝": fact["steps"],
                     "손실": f"{fact['first_loss']:.3f} → {fact['last_loss']:.3f}", "가장 큰 차이": f"{fact['loss_difference']:.1e}", "같은 곡선인가": fits})  # fmt: skip
        print(f"  {name:6} 손실 {fact['first_loss']:.3f} → {fact['last_loss']:.3f}, 가장 큰 차이 {fact['loss_difference']:.1e} {'같음' if fits else '다름!'}")
    report.table(rows, caption="lora는 6절의 어댑터입니다")
    report.figure(curves_plot(curves, ALLOWED), "curves", "같은 가중치와 토큰에서 출발한 두 루프의 손실, 그리고 그 차이")

# %% [markdown]
# ## 4. 체크포인트는 오가는가
#
# 곡선이 같아도 파일이 오가지 못하면 갈아탈 수 없습니다. 두 방향을 다 봅니다. **우리가 저장한 것**을 AutoModel이 열었을 때, 그리고 **AutoModel이
# 저장한 것**을 우리가 열었을 때 같은 토큰에 같은 로짓이 나오는지요. Llama는 AutoModel이 스스로 쓴 클래스로, GPT-2는 Transformers의 클래스로
# 엽니다. 둘 다 Hugging Face 형식이 공용어이기 때문에 됩니다.

# %%
report.section("4. 체크포인트는 오가는가")
rows = []
for name, fact in facts.items():
    fits = max(fact["ours_opened_there"], fact["theirs_opened_here"]) < 1e-4
    rows.append({"학습": name, "우리 것을 AutoModel이": f"{fact['ours_opened_there']:.1e}", "AutoModel의 것을 우리가": f"{fact['theirs_opened_here']:.1e}", "같은 함수인가": fits})
    print(f"  {name:6} 우리→AutoModel {fact['ours_opened_there']:.1e}, AutoModel→우리 {fact['theirs_opened_here']:.1e} {'같음' if fits else '다름!'}")
if rows:
    report.table(rows, caption="로짓의 가장 큰 차이")
else:
    print("  3절을 건너뛰어 볼 것이 없습니다.")

# %% [markdown]
# ## 5. 여러 GPU라면 무엇이 바뀌나
#
# 레시피에서 바뀌는 것은 몇 줄뿐입니다. `dist_env.backend`가 `gloo`에서 `nccl`로(GPU가 있으면 저절로 그렇게 적습니다), `distributed.strategy`가
# `ddp`(모델을 통째로 복제) 또는 `fsdp2`(가중치, 기울기, 옵티마이저 상태를 나눠 가짐)로. 데이터와 학습률, 손실은 그대로입니다.
# `fsdp2`에는 함정이 하나 있습니다. 모델을 float32로 열어도 **곱셈은 bfloat16으로** 합니다. 우리 레시피는 `mp_policy`에 정밀도를 적어 그것을 막습니다.
# 전체 배치가 같다면 손실 곡선도 그대로여야 합니다. 7절에서 프로세스 둘로 확인합니다.

# %%
report.section("5. 여러 GPU라면 무엇이 바뀌나")
on_gpus = recipe(job, artifacts.root / "automodel-checkpoint", gpu=True)
changed = {key: on_gpus[key] for key in on_gpus if on_gpus[key] != values[key]}
print(f"  GPU에서 달라지는 절: {changed}")
report.text("GPU가 있을 때 레시피에서 달라지는 절입니다. 나머지는 한 글자도 바뀌지 않습니다.").output(yaml.safe_dump(changed, sort_keys=False), "yaml")

# %% [markdown]
# ## 6. LoRA도 같은가
#
# 레시피에 `peft` 절을 더하면 가중치는 얼고 어댑터만 배웁니다. 우리 루프가 3절에서 길러 낸 모델에 상품평만 더 읽혀 봅니다. LoRA의 A는
# 무작위로 시작하므로, AutoModel이 뽑은 첫 A를 파일로 받아 우리도 거기서 시작합니다. 그러면 이 곡선도 겹쳐야 하고, 다 배운 어댑터 파일은
# `scratch_llm.peft`가 그대로 열어 같은 로짓을 내야 합니다.

# %%
report.section("6. LoRA도 같은가")
if "lora" in facts:
    fact = facts["lora"]
    share = fact["trainable"] / fact["parameters"]
    print(f"  파라미터의 {share:.1%}만 배웁니다. 손실 {fact['first_loss']:.3f} → {fact['last_loss']:.3f}")
    print(f"  곡선의 차이 {fact['loss_difference']:.1e}, AutoModel의 어댑터를 우리가 열었을 때 로짓의 차이 {fact['theirs_opened_here']:.1e}")
    report.text(f"파라미터 {fact['parameters']:,}개 가운데 {fact['trainable']:,}개({share:.1%})만 배웠습니다. 어댑터 파일은 `scratch_llm.peft.load_adapter`로 열립니다.")
else:
    print("  AutoModel이 없거나 llama를 학습하지 않아 건너뜁니다.")

# %% [markdown]
# ## 7. NeMo Run: 같은 레시피를 다른 곳으로
#
# NeMo Run은 학습하지 않습니다. **어디서 어떻게 시작할지**만 맡습니다. 할 일(`Script`)과 보낼 곳(`Executor`)을 따로 적으므로, 노트북에서 되던
# 것을 한 줄 바꾸어 Slurm 클러스터나 컨테이너로 보냅니다.
#
# 여기서는 진짜로 한 번(`LocalExecutor`가 torchrun으로 프로세스 둘을 시작), 보내지 않고 찍기만(dry run) 두 번(`SlurmExecutor`,
# `DockerExecutor`) 해 봅니다. 프로세스 둘로 나눈 손실이 3절의 하나짜리와 같은지도 봅니다.

# %%
report.section("7. NeMo Run: 같은 레시피를 다른 곳으로")
sender = find_nemo_run()
if python is None or sender is None:
    missing = how_to_install("nemorun" if sender is None else "nemo")
    print("  " + missing)
    report.text(f"NeMo Run은 건너뛰었습니다. {missing}")
else:
    print("  NeMo Run을 부르는 중입니다", flush=True)
    folder = build_nemo_run(artifacts, sender, python)
    sent = artifacts.read_manifest("nemo-run")["metrics"]
    name = settings.automodel.architectures[0]
    one = json.loads((artifacts.path("automodel") / name / "curves.json").read_text())["automodel"]
    gap = max(differences(one, json.loads((folder / "curves.json").read_text())["automodel"]))
    print(f"  프로세스 {sent['processes']}개로 {name} 모양을 학습한 손실과 하나로 한 손실의 가장 큰 차이 {gap:.1e} {'같음' if gap < ALLOWED else '다름!'}")
    report.text(f"`LocalExecutor`로 프로세스 {sent['processes']}개에 나누어 학습했습니다. 하나로 한 것과 손실의 가장 큰 차이는 {gap:.1e}입니다.")
    for kind, title in (("slurm", "Slurm 클러스터로 보낸다면 (노드 2개, GPU 8장씩)"), ("docker", "컨테이너로 보낸다면")):
        script = script_lines((folder / f"{kind}.txt").read_text(encoding="utf-8"))
        shown = [line for line in script if line.startswith(("#SBATCH", "srun"))] if kind == "slurm" else container_lines(script)
        print(f"\n  {title}:")
        for line in shown:
            print("    " + (line if len(line) < 120 else line[:60] + " ... " + line[-60:]))
        report.text(f"{title} (보내지 않고 찍기만)").output("\n".join(script if kind == "slurm" else shown), "bash")
report.save()

# %% [markdown]
# ## 스스로 해 보기
#
# - `recipe.py`의 `param_group_overrides` 줄을 빼고 `FORCE=1`로 다시 돌려 보세요. 손실의 차이는 몇 배가 되나요?
# - `lr_warmup_steps`에서 1을 빼지 않으면 첫 몇 스텝의 손실 차이는 얼마나 되나요?
# - `make week5-automodel ARGS="automodel.steps=200"`: 손실의 차이는 스텝이 갈수록 자라나요, 그대로인가요?
