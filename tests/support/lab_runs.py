"""How the labs are run in tests: the sizes, and what must have been run before."""

from __future__ import annotations

import shutil
from pathlib import Path

import jupytext
import nbclient
import pytest
from nbclient.exceptions import CellExecutionError

from llm_workshop.serving.triton.installation import find_installation

SMALL = ("corpus.megabytes=0.4", "tokenizer.vocab_size=600")
RAW = ("curation.megabytes=0.2", "curation.shard_megabytes=0.06")
RUNS = {
    "labs/week01_environment/setup.py": (),
    "labs/week01_environment/hello.py": (),
    "labs/week01_environment/lifecycle.py": (),
    "labs/week01_environment/tools.py": (),
    "labs/week02_curation/collect.py": RAW,
    "labs/week02_curation/clean.py": RAW,
    "labs/week02_curation/quality.py": RAW,
    "labs/week02_curation/dedup.py": RAW,
    "labs/week02_curation/report.py": RAW,
    "labs/week03_tokenizers/tokenizer.py": SMALL,
    "labs/week03_tokenizers/compare.py": (
        "corpus.megabytes=0.2", "compare_tokenizers.vocab_sizes=400,600", "compare_tokenizers.train_megabytes=0.05",
        "compare_tokenizers.model_megabytes=0.02", "compare_tokenizers.valid_kilobytes=8", "compare_tokenizers.d_model=32",
    ),
    "labs/week03_tokenizers/extend.py": (
        "corpus.megabytes=0.2", "extend_tokenizer.base_vocab_size=512", "extend_tokenizer.new_tokens=64", "extend_tokenizer.megabytes=0.05",
        "extend_tokenizer.steps=4",
    ),
    "labs/week04_architectures/attention.py": SMALL,
    "labs/week04_architectures/flops.py": ("model.d_model=32", "model.n_layers=1"),
    "labs/week05_pretraining/pretrain.py": (
        *SMALL, "model.d_model=32", "model.n_layers=1", "pretrain.steps=20", "pretrain.compile=off", "trials.steps=20",
        "generate.max_new_tokens=12",
    ),
    "labs/week05_pretraining/scaling.py": (
        *SMALL, "scaling.tokens=1500", "scaling.larger_width=160", "search.tokens=1200", "search.batch_sizes=4,8", "scaling.isoflops=1e10",
        "scaling.isoflop_widths=32,64,96", "scaling.bootstrap=50",
    ),
    "labs/week05_pretraining/speed.py": (
        *SMALL, "model.d_model=32", "model.n_layers=1", "model.context_length=64", "speed.rungs=naive,adamw,packing", "speed.batch_size=4",
        "speed.steps=2", "speed.compare_steps=2",
    ),
    "labs/week05_pretraining/distributed.py": (
        *SMALL, "model.d_model=32", "model.n_layers=1", "pretrain.batch_size=4", "distributed.steps=8",
    ),
    "labs/week05_pretraining/automodel.py": (
        *SMALL, "model.d_model=32", "model.n_layers=1", "automodel.steps=12", "automodel.lora_steps=6", "automodel.batch_size=4",
    ),
    "labs/week05_pretraining/parallel.py": ("model.d_model=32", "model.n_layers=1", "tokenizer.vocab_size=600"),
    "labs/week04_architectures/compare.py": (
        *SMALL, "compare.models=transformer,rwkv,mamba", "compare.parameters=60000", "compare.context_length=32", "compare.batch_size=4",
        "compare.tokens=1500", "compare.decode_contexts=32,128",
    ),
    "labs/week06_finetuning/finetune.py": (
        "finetune.examples=48", "finetune.epochs=0.7", "finetune.trial_examples=24", "finetune.label_counts=16,32", "finetune.layers=last-1",
    ),
    "labs/week06_finetuning/instruct.py": (
        *SMALL, "model.d_model=32", "model.n_layers=1", "pretrain.steps=20", "pretrain.compile=off", "generate.max_new_tokens=12",
        "instruct.megabytes=0.08", "instruct.questions=5", "instruct.max_new_tokens=8",
    ),
    "labs/week06_finetuning/classifier_page.py": ("finetune.examples=32", "finetune.epochs=1", "chat.serve=false"),
    "labs/week06_finetuning/adapters.py": (
        "peft.examples=24", "peft.held_out=16", "peft.steps=2", "peft.batch_size=8", "peft.max_length=24", "peft.methods=head,lora,dora,qlora,prefix",
        "peft.rank=2", "peft.ranks=1,2", "peft.targets=query-value,all,upper-half", "peft.prefix_tokens=2", "peft.peer_steps=2",
    ),
    "labs/week08_serving/export.py": ("quantize.eval_tokens=600", "quantize.calibration_tokens=300"),
    "labs/week08_serving/quantize.py": (
        "quantize.eval_tokens=600", "quantize.calibration_tokens=300", "quantize.group_size=16",
        "quantize.methods=int8,int8-head,smoothquant,int4,awq-int4,gptq-int3,bnb-nf4,torchao-int8",
    ),
    "labs/week08_serving/loadtest.py": (
        "loadtest.clients=1,3", "loadtest.requests=8", "loadtest.prompt_tokens=12", "loadtest.max_new_tokens=8", "loadtest.soak_seconds=0",
    ),
}
PRETRAIN = "labs/week05_pretraining/pretrain.py"
#: Labs that take up the model of week 5.
TAKE_THE_MODEL = (
    "labs/week06_finetuning/finetune.py", "labs/week06_finetuning/classifier_page.py", "labs/week06_finetuning/instruct.py",
    "labs/week06_finetuning/adapters.py",
    "labs/week08_serving/loadtest.py", "labs/week08_serving/quantize.py", "labs/week08_serving/export.py", "labs/week10_integration/chat.py",
)  # fmt: skip
#: Labs that start processes of their own, which a notebook does in another way: the notebook begins from nothing.  Others go on
#: from what the script has left, as a participant's second run would.
FRESH_NOTEBOOK = (
    "labs/week05_pretraining/distributed.py", "labs/week05_pretraining/automodel.py", "labs/week05_pretraining/parallel.py",
    "labs/week02_curation/collect.py",
)  # fmt: skip
NEEDS_TRITON = ("labs/week08_serving/loadtest.py",)


def take_the_model(lab: str, trained: Path, folder: Path) -> None:
    """Put what week 5 left into ``folder``, for a lab that needs it."""
    if lab in TAKE_THE_MODEL:
        shutil.copytree(trained / "smoke", folder / "smoke", ignore=shutil.ignore_patterns("reports"))


def skip_without_triton() -> None:
    """Skip the test, with the reason, where there is no Triton server."""
    try:
        find_installation()
    except ValueError as problem:
        pytest.skip(str(problem))


def run_notebook(lab: str, settings: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the notebook that `make notebooks` makes of a lab, from top to bottom, with its artifacts in ``folder``."""
    for name, value in {"ARTIFACTS_DIR": str(folder), "HF_HUB_OFFLINE": "1", "SCALE": "smoke", "DATA": "sample", "SEED": "0",
                        "ARGS": " ".join(settings)}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    path = Path(__file__).resolve().parents[2] / lab
    notebook = jupytext.read(path)
    client = nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}})
    try:
        client.execute()
    except CellExecutionError as error:
        raise AssertionError(f"{lab} as a notebook:\n{str(error)[-3000:]}") from None
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code), "a cell was not run"
    assert any(cell.outputs for cell in code), "the notebook shows nothing"
