"""The same recipe sent to work by NeMo Run: here, on a Slurm cluster, in a container; by the Python of ``.envs/nemorun``.

    python -m llm_workshop.automodel.nemo_run_job local|slurm|docker JOB.json

``JOB.json``: {"arguments": of ``python -m llm_workshop.automodel.job``, "processes": a node's, "nodes", "environment":
variables of the job, "home": where NeMo Run keeps its books, "image", "mounts", "account", "partition", "time"}.  ``local`` starts
the job by torchrun and waits for it; the others print what would be sent (a dry run).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

MODULE = "llm_workshop.automodel.job"


def executor_of(kind: str, job: dict[str, Any]) -> Any:
    """Where the job runs: all that differs between a laptop and a cluster."""
    import nemo_run as run

    shared = {"launcher": "torchrun", "env_vars": job["environment"]}
    if kind == "local":
        return run.LocalExecutor(ntasks_per_node=job["processes"], **shared)
    if kind == "slurm":
        return run.SlurmExecutor(
            account=job["account"], partition=job["partition"], time=job["time"], nodes=job["nodes"], ntasks_per_node=job["processes"],
            gpus_per_node=job["processes"], container_image=job["image"], container_mounts=list(job["mounts"]), tunnel=run.LocalTunnel(job_dir=job["home"] + "/slurm"),
            packager=run.Packager(), **shared,
        )  # fmt: skip
    if kind == "docker":
        return run.DockerExecutor(
            container_image=job["image"], volumes=list(job["mounts"]), num_gpus=-1, runtime="nvidia", ipc_mode="host", shm_size="16g", ntasks_per_node=job["processes"],
            packager=run.Packager(), **shared,
        )  # fmt: skip
    raise ValueError(f"executor {kind!r} is unknown; use local, slurm or docker")


def start(kind: str, job: dict[str, Any]) -> int:
    """Run the job, or print what would be sent; the exit code."""
    os.environ["NEMORUN_HOME"] = job["home"]
    import nemo_run as run

    task = run.Script(path=MODULE, entrypoint="python", m=True, args=job["arguments"])
    with run.Experiment(f"workshop-{kind}", base_dir=job["home"]) as experiment:
        experiment.add(task, executor=executor_of(kind, job), name="train", tail_logs=kind == "local")
        if kind != "local":
            experiment.dryrun()
            return 0
        experiment.run(detach=False)
    # Only the end of the ``with`` waits for the job.
    states = {job.id: job.state.name for job in experiment.jobs}
    print(json.dumps(states))
    return 0 if set(states.values()) == {"SUCCEEDED"} else 1


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m llm_workshop.automodel.nemo_run_job local|slurm|docker JOB.json")
    sys.exit(start(sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))))
