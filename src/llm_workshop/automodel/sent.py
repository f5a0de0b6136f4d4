"""The stage ``nemo-run``: one recipe sent by NeMo Run to this machine, to a cluster and into a container.

    nemo-run/recipe.yaml, curves.json     the run here, in several processes
    nemo-run/local.txt, slurm.txt, docker.txt     what NeMo Run printed; the last two are dry runs
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

from llm_workshop.artifacts import Artifacts
from llm_workshop.automodel.launch import nemo_run
from llm_workshop.automodel.recipe import recipe, write_recipe
from llm_workshop.automodel.runner import read_result
from llm_workshop.automodel.stage import INPUTS, pretraining_job
from scratch_llm.tokenizers import ByteLevelBPE

RECIPE_THERE = "/workspace/recipe.yaml"


def build_nemo_run(artifacts: Artifacts, python: Path, job_python: Path, force: bool | None = None) -> Path:
    """Run the first architecture's recipe by NeMo Run and print what other executors would be sent.

    Args:
        python: of the environment ``nemorun``.
        job_python: of ``nemo``, whose torchrun starts the job.
    """
    settings = artifacts.settings
    used = {"automodel": settings.automodel, "model": settings.model, "packing": settings.pretrain.packing, "seed": settings.seed}
    if artifacts.skip_if_current("nemo-run", used, INPUTS, force=force):
        return artifacts.path("nemo-run")
    tokenizer = ByteLevelBPE.load(artifacts.require("tokenizer"))
    work = artifacts.work("nemo-run", used, INPUTS).resolve()
    shutil.rmtree(work, ignore_errors=True)
    job = pretraining_job(artifacts, settings.automodel.architectures[0], tokenizer, work)
    job = dataclasses.replace(job, processes=settings.automodel.processes)
    with artifacts.write_stage("nemo-run", used, INPUTS) as stage:
        file = write_recipe(recipe(job, work / "checkpoint"), stage.folder / "recipe.yaml")
        shutil.copyfile(file, work / "recipe.yaml")
        here = [str(work / "recipe.yaml"), str(work / "result")]
        books = work / "books"
        for kind in ("local", "slurm", "docker"):
            arguments = here if kind == "local" else [RECIPE_THERE, "/workspace/result"]
            output = nemo_run(
                python, kind, arguments, books, job_python=job_python, image=settings.automodel.image,
                processes=job.processes if kind == "local" else 8, nodes=2 if kind == "slurm" else 1,
            )  # fmt: skip
            (stage.folder / f"{kind}.txt").write_text(output, encoding="utf-8")
        done = read_result(work)
        (stage.folder / "curves.json").write_text(json.dumps({"automodel": done.losses}), encoding="utf-8")
        stage.metrics |= {"processes": done.facts["processes"], "last_loss": done.losses[-1], "training_seconds": done.facts["training_seconds"]}
    artifacts.clear_work("nemo-run")
    return artifacts.path("nemo-run")
