"""Our recipe through NVIDIA NeMo Curator: the same rules as its modifiers and filters, over Ray.

Curator has readers, writers, modifiers, filters and executors for one machine or many, and deduplication for GPUs; what
it does not have is rules for Korean.  Here each of our rules becomes one of its modifiers, followed by one of its
filters where the rule may drop a document.  It is run by the Python of ``.envs/curate`` (``make env-curate``)::

    .envs/curate/bin/python -m llm_workshop.curation.curator --recipe korean --input raw --output curated

Core starts it by :func:`run_curator`.  Nothing of Curator is imported before it is asked to work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_workshop.curation.recipe import Recipe, load_recipe
from llm_workshop.curation.step import Drop, Step

#: The checkout of this file, where ``make env-curate`` puts the environment; elsewhere the variable says where.
ENVIRONMENT = Path(os.environ.get("WORKSHOP_CURATE_ENVIRONMENT") or Path(__file__).resolve().parents[3] / ".envs" / "curate")
EXECUTORS = ("ray_data", "xenna")
#: Stands in the text column for a document that a rule has dropped, until Curator's filter takes it out.
DROPPED = "\x00dropped:"


def curate_python() -> Path:
    """The Python that has NeMo Curator; ValueError says how to get it."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.is_file():
        raise ValueError(f"no NeMo Curator at {ENVIRONMENT}: run `make env-curate` once")
    return python


def run_curator(recipe: str | Path, shards: Sequence[Path], out: Path, *, workers: int = 2, executor: str = "ray_data") -> dict[str, Any]:
    """Run NeMo Curator over JSONL shards, in its own environment.

    Args:
        recipe: name or path, as for :func:`llm_workshop.curation.recipe.load_recipe`.
        shards: files of documents with the fields ``id`` and ``text``.
        out: folder of the kept documents (made; its JSONL files are replaced).
        workers: CPUs that Ray may use.
        executor: "ray_data" (streams, suits small machines) or "xenna" (NVIDIA's own, wants many cores).

    Returns:
        ``read``, ``kept``: documents; ``seconds``: of the pipeline without Ray's start and end; ``version``.

    Raises:
        ValueError: no environment, no such recipe, or Curator failed (with the end of what it said).
    """
    load_recipe(recipe)
    out.mkdir(parents=True, exist_ok=True)
    facts = out / "curator.json"
    facts.unlink(missing_ok=True)
    command = [
        str(curate_python()), "-m", "llm_workshop.curation.curator", "--recipe", str(recipe), "--input", *map(str, shards),
        "--output", str(out), "--cpus", str(workers), "--executor", executor,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=_variables())
    if done.returncode != 0 or not facts.is_file():
        (out / "curator.log").write_text(done.stdout + done.stderr, encoding="utf-8")
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip() and not line[0].isspace()]
        last = said[-1] if said else "it said nothing"
        raise ValueError(f"NeMo Curator ended with exit code {done.returncode}: {last} (all it said: {out / 'curator.log'})")
    return json.loads(facts.read_text(encoding="utf-8"))


def kept_texts(out: Path) -> dict[str, str]:
    """Id -> text of what Curator kept in a folder."""
    records = (json.loads(line) for path in sorted(out.glob("*.jsonl")) for line in open(path, encoding="utf-8"))
    return {record["id"]: record["text"] for record in records}


def _variables() -> dict[str, str]:
    """Curator's environment variables: our package where it is, no questions to the network."""
    source = str(Path(__file__).resolve().parents[2])
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    # Ray reports usage and looks for a cloud's metadata server unless it is told not to.
    path = os.pathsep.join([str(ENVIRONMENT / "bin"), os.environ.get("PATH", os.defpath)])  # Curator starts `ray` by name
    return os.environ | {"PATH": path, "PYTHONPATH": os.pathsep.join(paths), "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1",
                         "RAY_DISABLE_DOCKER_CPU_WARNING": "1", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}  # fmt: skip


# --- what runs in the environment ---------------------------------------------------------------------------


def stages_of(recipe: Recipe) -> list[Any]:
    """Curator's stages for a recipe: a ``Modify`` for each rule, and a ``ScoreFilter`` after it.

    Raises ValueError for a rule that reads what earlier rules have noted: Curator's modifiers see the text alone.
    """
    for step in recipe.steps:
        if step.reads_tags:
            raise ValueError(f"rule '{step.name}' reads the notes of earlier rules, which NeMo Curator does not pass on: leave it out")
    from nemo_curator.stages.text.filters import ScoreFilter
    from nemo_curator.stages.text.modifiers import Modify

    stages = []
    for step in recipe.steps:
        stages += [Modify(_modifier(step)), ScoreFilter(_filter(step), text_field="text")]
    return stages


def _modifier(step: Step) -> Any:
    from nemo_curator.stages.text.modifiers import DocumentModifier

    class RuleModifier(DocumentModifier):
        """One of our rules; a dropped text becomes a mark."""

        def __init__(self) -> None:
            super().__init__()
            self._name = step.name
            self._started = False

        def modify_document(self, text: str) -> str:
            if not self._started:  # once in each of Ray's processes
                step.start()
                self._started = True
            outcome = step(text, {})
            return DROPPED + outcome.reason if isinstance(outcome, Drop) else outcome

    return RuleModifier()


def _filter(step: Step) -> Any:
    from nemo_curator.stages.text.filters import DocumentFilter

    class NotDropped(DocumentFilter):
        """Takes out what the rule before it has marked."""

        def __init__(self) -> None:
            super().__init__()
            self._name = f"{step.name}_keeps"

        def score_document(self, text: str) -> float:
            return float(not text.startswith(DROPPED))

        def keep_document(self, score: float) -> bool:
            return score > 0

    return NotDropped()


def main(argv: Sequence[str] | None = None) -> int:
    """Read shards, apply the recipe, write what is kept and ``curator.json`` with the figures."""
    parser = argparse.ArgumentParser(description="A recipe of the workshop through NeMo Curator on Ray.")
    parser.add_argument("--recipe", default="korean", help="name of a built-in recipe, or a YAML file")
    parser.add_argument("--input", nargs="+", required=True, help="JSONL files with the fields id and text")
    parser.add_argument("--output", type=Path, required=True, help="folder of the kept documents")
    parser.add_argument("--executor", choices=EXECUTORS, default="ray_data")
    parser.add_argument("--cpus", type=int, default=2, help="CPUs that Ray may use")
    options = parser.parse_args(argv)
    print(json.dumps(_run(load_recipe(options.recipe), options)), flush=True)
    return 0


def _run(recipe: Recipe, options: argparse.Namespace) -> dict[str, Any]:
    from importlib.metadata import version

    from nemo_curator.core.client import RayClient
    from nemo_curator.pipeline import Pipeline
    from nemo_curator.stages.text.io.reader import JsonlReader
    from nemo_curator.stages.text.io.writer import JsonlWriter

    # By pandas: the faster reader infers one type for every field, and fails where a document's `truth` differs.
    read = {"engine": "pandas", "dtype": False, "convert_dates": False}
    reader = JsonlReader(file_paths=options.input, files_per_partition=1, fields=["id", "text"], read_kwargs=read)
    writer = JsonlWriter(path=str(options.output), mode="overwrite")
    pipeline = Pipeline(name="workshop", stages=[reader, *stages_of(recipe), writer])
    client = RayClient(num_cpus=options.cpus, num_gpus=0, include_dashboard=False)
    client.start()
    try:
        started = time.perf_counter()
        pipeline.run(_executor(options.executor))
        seconds = time.perf_counter() - started
    finally:
        client.stop()
    facts = {
        "read": sum(_lines(Path(path)) for path in options.input),
        "kept": sum(_lines(path) for path in options.output.glob("*.jsonl")),
        "seconds": round(seconds, 2),
        "version": version("nemo-curator"),
    }
    (options.output / "curator.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
    return facts


def _executor(name: str) -> Any:
    if name == "xenna":
        from nemo_curator.backends.xenna import XennaExecutor

        # Its streaming mode wants more cores than a laptop has.
        return XennaExecutor(config={"execution_mode": "batch"})
    from nemo_curator.backends.ray_data import RayDataExecutor

    return RayDataExecutor()


def _lines(path: Path) -> int:
    with open(path, "rb") as stream:
        return sum(1 for line in stream if line.strip())


if __name__ == "__main__":
    sys.exit(main())
