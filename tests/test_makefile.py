"""The front door: what `make` offers, decides and refuses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="GNU Make is not installed: apt install make")
NOT_STEPS = {"exercises", "solutions"}
DIALS = ("RUN", "SCALE", "DATA", "SEED", "ARGS", "FORCE", "SERVE", "PORT", "DEVICE", "TORCH", "EX", "DIR", "ARTIFACTS_DIR",
         "WORKSHOP_CONTAINER", "WORKSHOP_TRITON_ENVIRONMENT", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "DOCKER", "PYTHON_HOST")


def environment(**extra: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k not in DIALS} | {"DOCKER": "no-docker-here"} | extra


def make(folder: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess:
    return subprocess.run(["make", *arguments], cwd=folder, env=environment(**extra), capture_output=True, text=True, timeout=120)


def lab_steps(repository: Path) -> dict[str, Path]:
    """Make target -> script, from the folders of labs/ alone."""
    steps = {}
    for script in sorted(repository.glob("labs/*_*/*.py")):
        track, number = re.match(r"(week|ch)(\d\d)_", script.parent.name).groups()
        if script.stem not in NOT_STEPS and not script.stem.startswith("test_"):
            steps[f"{track}{int(number)}-{script.stem.replace('_', '-')}"] = script
    return steps


@pytest.fixture
def sandbox(tmp_path, repository) -> Path:
    """A copy of the front door over labs and a Python that only write down how they were called."""
    for name in ("Makefile", "environments", "docker"):
        source = repository / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    shutil.copy(repository / "pyproject.toml", tmp_path)
    for lab, steps in {"week03_tokenizers": ["tokenizer"], "week05_pretraining": ["pretrain", "exercises"],
                       "week10_integration": ["chat"], "ch02_text": ["bpe"]}.items():
        (tmp_path / "labs" / lab).mkdir(parents=True)
        for step in steps:
            (tmp_path / "labs" / lab / f"{step}.py").write_text(f"# # What {step} does\n")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    (tmp_path / ".venv" / ".installed").touch()
    return tmp_path


# Stands for the stages: notes its arguments, writes the manifest of the stage it is asked for.
FAKE_PYTHON = """#!/bin/sh
echo "FORCE=$FORCE $*" >> calls
case "$*" in
    *cli\\ corpus*) stage=corpus ;; *cli\\ tokenizer*) stage=tokenizer ;; *cli\\ tokens*) stage=tokens ;;
    *pretrain.py*) stage=base-model ;; *) exit 0 ;;
esac
mkdir -p "$RUN_FOLDER/$stage" && test -f "$RUN_FOLDER/$stage/manifest.json" || echo made > "$RUN_FOLDER/$stage/manifest.json"
"""


def calls(folder: Path) -> list[str]:
    """What the fake Python was asked for since the last time, as `corpus`, `pretrain.py`, ..."""
    log = folder / "calls"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [re.search(r"(?:llm_workshop\.cli (\S+)|labs/\S+/(\S+\.py))", line).expand(r"\1\2") for line in lines]


def build(folder: Path, *arguments: str, run: str = "smoke", **extra: str) -> list[str]:
    done = make(folder, "SCALE=smoke", *arguments, RUN_FOLDER=f"artifacts/{run}", **extra)
    assert done.returncode == 0, done.stderr
    return calls(folder)


def test_help_lists_every_step_with_what_it_does(repository):
    text = make(repository, "help").stdout
    steps = lab_steps(repository)
    assert steps
    for target in steps:
        assert re.search(rf"^  make {target} +\S", text, re.MULTILINE), f"{target} has no line in make help"
    for week in {re.match(r"(week|ch)\d+", target)[0] for target in steps}:
        heading = week.replace("week", "Week ").replace("ch", "Chapter ")
        assert re.search(rf"^{heading}: ", text, re.MULTILINE)
    assert "RUN=local" in text and "SCALE=laptop" in text


def test_help_names_every_target_and_only_those(repository):
    text = make(repository, "help").stdout
    named = set(re.findall(r"^  make ([a-z-]+)(?= )", text, re.MULTILINE))
    known = set(re.search(r"^TARGETS := (.*?[^\\])$", (repository / "Makefile").read_text(), re.M | re.S)[1].split()) - {"\\"}
    assert named <= known
    assert known - named <= {"clean-all", "down", "logs", "lock"}  # named on another target's line, or for maintainers


def test_without_a_target_it_is_help(repository):
    assert make(repository).stdout == make(repository, "help").stdout


@pytest.mark.parametrize(("arguments", "words"), [
    (["week5-nope"], "no step 'nope' in labs/week05_pretraining: it has pretrain."),
    (["week77-x"], "no lab for 'week77-x': there are week10 week3 week5."),
    (["ch9-x"], "no lab for 'ch9-x': there are ch2."),
    (["week5-exercises"], "no step 'exercises'"),
    (["dmeo"], "no target 'dmeo': 'make help' lists what there is"),
    (["demo", "SCALE=huge"], "SCALE=huge is unknown: use smoke, laptop or gpu"),
    (["demo", "RUN=podman"], "RUN=podman is unknown: use docker or local"),
])
def test_mistakes_are_one_line_and_build_nothing(sandbox, arguments, words):
    done = make(sandbox, *arguments)
    assert done.returncode == 2
    assert words in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (sandbox / "calls").exists()


def test_the_pattern_rule_finds_every_lab(repository):
    for target, script in lab_steps(repository).items():
        done = make(repository, "--dry-run", target, "RUN=local", "SCALE=smoke", "SEED=3", "DATA=nsmc", "ARGS=pretrain.steps=7")
        assert done.returncode == 0, done.stderr
        line = next(line for line in done.stdout.splitlines() if str(script.relative_to(repository)) in line)
        assert "--scale 'smoke' --data 'nsmc' --seed '3'" in line and line.rstrip().endswith("pretrain.steps=7")


@pytest.fixture
def lessons(sandbox) -> Path:
    """The sandbox with exercises in one week and one chapter."""
    for lab in ("week03_tokenizers", "ch02_text"):
        for name in ("exercises.py", "solutions.py", "test_exercises.py"):
            (sandbox / "labs" / lab / name).touch()
    return sandbox


@pytest.mark.parametrize(("arguments", "called"), [
    (["week3-check"], "check --week 3"),
    (["week03-check", "EX=merge"], "check --week 03 --exercise merge"),
    (["ch2-check"], "check --chapter 2"),
    (["week3-solution", "EX=merge"], "solution --week 3 --exercise merge"),
    (["ch2-solution", "EX=merge"], "solution --chapter 2 --exercise merge"),
    (["week3-quiz", "ARGS=--wrong"], "quiz --week 3 --wrong"),
    (["ch2-quiz"], "quiz --chapter 2"),
    (["progress"], "progress"),
    (["class-report", "DIR=my files"], "class-report my files"),
])
def test_exercises_quizzes_and_progress_stand_on_no_artifacts(lessons, arguments, called):
    done = make(lessons, *arguments)
    assert done.returncode == 0, done.stderr
    assert (lessons / "calls").read_text().split("llm_workshop.cli ")[1].split() == called.split()
    assert not (lessons / "artifacts").exists()


def test_force_opens_a_solution(lessons):
    make(lessons, "week3-solution", "EX=merge", "FORCE=1")
    assert (lessons / "calls").read_text().startswith("FORCE=1 ")


def test_a_failed_check_is_a_failed_target_and_one_line_of_make(lessons):
    (lessons / ".venv/bin/python").write_text("#!/bin/sh\nexit 1\n")
    done = make(lessons, "week3-check")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and done.stdout == ""


@pytest.mark.parametrize(("arguments", "words"), [
    (["week5-check"], "no exercises in labs/week05_pretraining: they are in ch02_text week03_tokenizers."),
    (["week77-check"], "no lab for 'week77-check': there are week10 week3 week5."),
    (["ch9-solution"], "no lab for 'ch9-solution'"),
    (["class-report"], "make class-report DIR=folder"),
])
def test_lessons_that_are_not_there(lessons, arguments, words):
    done = make(lessons, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert not (lessons / "calls").exists()


def test_help_names_the_graders(repository):
    text = make(repository, "help").stdout
    for grader in repository.glob("labs/*/test_exercises.py"):
        track, number = re.match(r"(week|ch)(\d\d)_", grader.parent.name).groups()
        assert f"  make {track}{int(number)}-check" in text


def test_exercises_are_graded_in_the_container(lessons):
    words = docker_run(lessons, "week3-check", "EX=merge", **fake_docker(lessons))
    assert words[-2:] == ["make", "week3-check"] and f"{lessons}:/workspace" in words
    assert "EX" in {words[i + 1] for i, word in enumerate(words) if word == "--env"}


def test_a_class_report_is_written_where_the_files_are(lessons):
    (lessons / "files").mkdir()
    words = docker_run(lessons, "class-report", "DIR=files", **fake_docker(lessons))
    assert f"{lessons}/files:/data/class" in words and "DIR=/data/class" in words
    done = make(lessons, "class-report", "DIR=absent", **fake_docker(lessons))
    assert done.returncode != 0 and "DIR=absent is no folder" in done.stderr


def test_a_step_builds_what_it_stands_on(sandbox):
    assert build(sandbox, "week10-chat") == ["corpus", "tokenizer", "tokens", "pretrain.py", "chat.py"]
    assert build(sandbox, "week10-chat") == ["chat.py"]
    assert build(sandbox, "week3-tokenizer") == ["tokenizer.py"]
    assert build(sandbox, "ch2-bpe") == ["bpe.py"]


def test_a_step_that_reads_no_text_builds_none(sandbox):
    folder = shutil.copytree(sandbox / "labs/week05_pretraining", sandbox / "labs/week04_architectures")
    (folder / "pretrain.py").rename(folder / "flops.py")
    assert build(sandbox, "week4-flops") == ["flops.py"]


def test_two_steps_of_one_name_are_two_steps(sandbox):
    shutil.copytree(sandbox / "labs/week05_pretraining", sandbox / "labs/week04_architectures")
    assert build(sandbox, "week4-pretrain", "week5-pretrain")[-2:] == ["pretrain.py", "pretrain.py"]


def test_demo_ends_with_samples_report_and_page(sandbox):
    stages = ["corpus", "tokenizer", "tokens", "pretrain.py"]
    assert build(sandbox, "demo", "SERVE=0") == [*stages, "generate", "report"]
    # The port is tried first: nobody should train for minutes to hear that it is taken.
    assert build(sandbox, "demo") == ["page", "generate", "report", "page"]


@pytest.fixture
def serving(sandbox) -> Path:
    """The sandbox with week 8 and a triton environment."""
    for step in ("serve", "loadtest", "quantize", "export"):
        (sandbox / "labs" / "week08_serving").mkdir(exist_ok=True)
        (sandbox / "labs" / "week08_serving" / f"{step}.py").write_text("# # Week 8\n")
    (sandbox / ".envs" / "triton").mkdir(parents=True)
    (sandbox / ".envs" / "triton" / ".installed").touch()
    return sandbox


def test_serving_tries_the_ports_before_it_trains(serving):
    stages = ["corpus", "tokenizer", "tokens", "pretrain.py"]
    assert build(serving, "week8-serve", "SERVE=0") == ["serve", *stages, "serve.py"]
    assert build(serving, "week8-serve") == ["serve", "serve.py"]
    make(serving, "serve", "SCALE=smoke", "PORT=7999", "ARGS=serving.http_port=8100")
    check, serve = (serving / "calls").read_text().splitlines()
    settings = "--scale smoke --data sample --seed 0 chat.port=7999 serving.http_port=8100"
    assert check.endswith(f"serve --check-port {settings}") and serve.endswith(f"cli serve {settings}")


def test_in_the_container_the_stack_can_be_reached_from_outside(serving):
    (serving / "bin").mkdir()
    (serving / "bin" / "python").symlink_to(serving / ".venv" / "bin" / "python")
    build(serving, "base-model")
    done = make(serving, "week8-serve", "SCALE=smoke", WORKSHOP_CONTAINER="1", PATH=f"{serving}/bin:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert (serving / "calls").read_text().splitlines()[-1].endswith("chat.port=7860 chat.host=0.0.0.0 serving.host=0.0.0.0")


def test_what_week_8_stands_on(serving):
    stages = ["corpus", "tokenizer", "tokens", "pretrain.py"]
    assert build(serving, "week8-loadtest") == [*stages, "loadtest.py"]
    assert build(serving, "week8-quantize") == ["quantize.py"]
    shutil.rmtree(serving / "artifacts" / "smoke" / "tokens")
    assert build(serving, "week8-loadtest") == ["loadtest.py"]
    assert build(serving, "week8-quantize")[-2:] == ["tokens", "quantize.py"]
    shutil.rmtree(serving / ".envs")
    install = "environments/install.py --environment triton"
    for goal in ("week8-serve", "week8-loadtest", "serve"):
        assert install in make(serving, "-n", goal, "SCALE=smoke").stdout
        assert install not in make(serving, "-n", goal, "SCALE=smoke", WORKSHOP_TRITON_ENVIRONMENT="/opt/triton").stdout
    assert install not in make(serving, "-n", "week8-quantize", "SCALE=smoke").stdout


def test_tensorboard_without_a_recorded_run_says_how_to_record_one(sandbox):
    done = make(sandbox, "RUN=local", "SCALE=smoke", "tensorboard")
    assert done.returncode == 2 and not (sandbox / "calls").exists()
    first = done.stderr.splitlines()[0]
    assert first.startswith("error: no run under ") and """'make week5-pretrain SCALE=smoke ARGS="pretrain.tensorboard=true"'""" in first
    (sandbox / "artifacts" / "smoke" / "tensorboard").mkdir(parents=True)
    assert make(sandbox, "RUN=local", "SCALE=smoke", "tensorboard").returncode == 0
    assert "tensorboard.main --logdir" in (sandbox / "calls").read_text()


def test_changed_settings_are_checked_and_equal_ones_are_not(sandbox):
    build(sandbox, "base-model")
    assert build(sandbox, "base-model") == []
    assert build(sandbox, "base-model", "SEED=1") == ["corpus", "tokenizer", "tokens", "pretrain.py"]
    assert build(sandbox, "base-model", "SEED=1") == []
    assert build(sandbox, "base-model", "SEED=1", "ARGS=pretrain.steps=5")[0] == "corpus"


def test_each_scale_and_data_has_its_own_run(sandbox):
    build(sandbox, "corpus")
    assert build(sandbox, "corpus", "DATA=nsmc,klue-nli", run="smoke-nsmc+klue-nli") == ["corpus"]
    assert build(sandbox, "corpus", "DATA=nsmc,klue-nli", run="smoke-nsmc+klue-nli") == []


def test_force_rebuilds_what_was_asked_for_by_name(sandbox):
    build(sandbox, "base-model")
    make(sandbox, "SCALE=smoke", "tokens", "FORCE=1", RUN_FOLDER="artifacts/smoke")
    assert (sandbox / "calls").read_text().startswith("FORCE=1 -m llm_workshop.cli tokens ")
    (sandbox / "calls").unlink()
    make(sandbox, "SCALE=smoke", "demo", "SERVE=0", "FORCE=1", RUN_FOLDER="artifacts/smoke")
    forced = [line for line in (sandbox / "calls").read_text().splitlines() if line.startswith("FORCE=1")]
    assert len(forced) >= 4


def test_a_failed_stage_stops_the_chain(sandbox):
    (sandbox / ".venv/bin/python").write_text(FAKE_PYTHON.replace('echo "FORCE', 'case "$*" in *tokens*) exit 1;; esac; echo "FORCE'))
    done = make(sandbox, "SCALE=smoke", "demo", "SERVE=0", RUN_FOLDER="artifacts/smoke")
    assert done.returncode != 0
    assert calls(sandbox) == ["corpus", "tokenizer"]


def test_with_nothing_to_do_it_starts_at_once(sandbox):
    build(sandbox, "base-model")
    started = time.perf_counter()
    assert build(sandbox, "base-model") == []
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("data", ["nsmc", "nsmc,klue-nli", "../texts/나의 글.txt", "a/b/,c d.txt", "..hidden..", "NSMC_2.v-1"])
def test_run_names_are_spelt_as_the_settings_spell_them(repository, data):
    from llm_workshop.settings import Settings

    expected = Settings(scale="smoke", data=tuple(data.split(","))).run_name.removeprefix("smoke-")
    done = subprocess.run([repository / "environments/run-name.sh"], env=environment(DATA=data), capture_output=True, text=True)
    assert done.stdout.strip() == expected


# --- docker or local ------------------------------------------------------------------------------------------

# Stands for the client: an engine of the given version answers, and every call is written down.
FAKE_DOCKER = """#!/bin/sh
echo "$*" >> "$DOCKER_CALLS"
case "$*" in
    version*Client*Server*) echo "{client} 27.0.1" ;;
    buildx*) exit {buildx} ;;
    *SecurityOptions*) echo "[{security}]" ;;
    "image inspect"*) exit 1 ;;
esac
"""


def fake_docker(folder: Path, client: str = "27.0.1", buildx: int = 0, security: str = "name=seccomp") -> dict[str, str]:
    program = folder / "fake-docker"
    program.write_text(FAKE_DOCKER.format(client=client, buildx=buildx, security=security))
    program.chmod(0o755)
    return {"DOCKER": str(program), "DOCKER_CALLS": str(folder / "docker-calls")}


def test_a_reachable_engine_wins_and_is_named(sandbox):
    def lines(*arguments, **extra):
        return re.sub(" +", " ", make(sandbox, "help", *arguments, **extra).stdout)

    assert "RUN=local docker | local (no Docker engine" in lines()
    assert "RUN=docker docker | local (a Docker engine answers)" in lines(**fake_docker(sandbox))
    assert "RUN=local docker | local (chosen by you)" in lines("RUN=local", **fake_docker(sandbox))


def test_an_engine_whose_client_cannot_build_does_not_win(sandbox):
    assert "RUN=local" in make(sandbox, "help", **fake_docker(sandbox, client="28.2.2", buildx=1)).stdout
    assert "RUN=docker" in make(sandbox, "help", **fake_docker(sandbox, client="20.10.24", buildx=1)).stdout


def test_inside_the_container_everything_is_local(sandbox):
    assert "(inside the container)" in make(sandbox, "help", WORKSHOP_CONTAINER="1", **fake_docker(sandbox)).stdout


def docker_run(sandbox: Path, *arguments: str, **extra: str) -> list[str]:
    (sandbox / "Dockerfile").touch()
    (sandbox / ".dockerignore").touch()
    log = sandbox / "docker-calls"
    done = make(sandbox, *arguments, **extra)
    assert done.returncode == 0, done.stderr
    assert not (sandbox / "calls").exists(), "nothing runs outside the container"
    lines = log.read_text().splitlines()
    assert any(line.startswith("build --target workshop") for line in lines)
    return next(line for line in lines if line.startswith("run ")).split()


def test_goals_run_in_the_container_as_the_present_user(sandbox):
    words = docker_run(sandbox, "week10-chat", "SEED=4", "PORT=7999", **fake_docker(sandbox))
    assert words[-2:] == ["make", "week10-chat"]
    assert words[words.index("--user") + 1] == f"{os.getuid()}:{os.getgid()}"
    assert words[words.index("--publish") + 1] == "127.0.0.1:7999:7999"
    assert f"{sandbox}:/workspace" in words
    passed = {words[i + 1] for i, word in enumerate(words) if word == "--env"}
    assert {"SCALE", "DATA", "SEED", "PORT", "WORKSHOP_HOST_DOCKER=27.0.1"} <= passed


def test_nothing_is_published_that_does_not_serve(sandbox):
    assert "--publish" not in docker_run(sandbox, "demo", "SERVE=0", **fake_docker(sandbox))


def test_a_rootless_engine_maps_root_to_the_present_user(sandbox):
    words = docker_run(sandbox, "test", **fake_docker(sandbox, security="name=rootless"))
    assert words[words.index("--user") + 1] == "0:0"


def test_serving_in_containers_is_compose(serving):
    (serving / "Dockerfile").touch()
    (serving / ".dockerignore").touch()
    log = serving / "docker-calls"

    def called(*arguments, **extra):
        done = make(serving, *arguments, "SCALE=smoke", **fake_docker(serving), **extra)
        assert done.returncode == 0, done.stderr
        lines = log.read_text().splitlines()
        log.unlink()
        return [line for line in lines if line.startswith(("run ", "compose --"))]

    trained, up = called("serve")
    assert trained.endswith("make base-model") and up == "compose --profile serving up --build"
    (serving / "artifacts" / "smoke" / "base-model").mkdir(parents=True)
    (serving / "artifacts" / "smoke" / "base-model" / "manifest.json").touch()
    assert called("serve") == [up], "a model that is there is used"
    assert called("serve", DEVICE="gpu") == ["compose --profile serving-gpu up --build"]
    assert called("up", PROFILES="serving monitoring") == ["compose --profile serving --profile monitoring up --detach --build"]
    assert called("up") == ["compose --profile cpu up --detach --build"]
    assert called("down") == ["compose --profile cpu --profile serving --profile serving-gpu --profile monitoring down"]


def test_the_lab_that_serves_has_its_image_and_ports(serving):
    (serving / "Dockerfile").touch()
    (serving / ".dockerignore").touch()
    done = make(serving, "week8-serve", "SCALE=smoke", "PORT=7999", **fake_docker(serving))
    assert done.returncode == 0, done.stderr
    lines = (serving / "docker-calls").read_text().splitlines()
    assert any(line.startswith("build --target triton --tag llm-workshop:triton") for line in lines)
    words = next(line for line in lines if line.startswith("run ")).split()
    published = [words[i + 1] for i, word in enumerate(words) if word == "--publish"]
    assert published == [f"127.0.0.1:{port}:{port}" for port in (7999, 8000, 8001, 8002, 8080)]


def test_real_data_is_mounted_read_only(sandbox):
    (sandbox / "real").mkdir()
    words = docker_run(sandbox, "corpus", DATA_DIR="real", **fake_docker(sandbox))
    assert f"{sandbox}/real:/data/data_dir:ro" in words and "DATA_DIR=/data/data_dir" in words
    done = make(sandbox, "corpus", DATA_DIR="absent", **fake_docker(sandbox))
    assert done.returncode != 0 and "DATA_DIR=absent is no folder" in done.stderr


def test_data_given_on_the_command_line_names_the_run(repository):
    done = make(repository, "--dry-run", "corpus", "SCALE=smoke", "DATA=nsmc,./my text.txt", "RUN=local")
    assert done.returncode == 0 and done.stderr == ""
    assert "artifacts/smoke-nsmc+my_text.txt/" in done.stdout


def test_a_trained_model_is_used_as_it_is(sandbox):
    build(sandbox, "base-model")
    assert build(sandbox, "generate", "ARGS=pretrain.tokens=9") == ["generate"]
    assert build(sandbox, "week10-chat", "ARGS=pretrain.tokens=9") == ["chat.py"]
    assert "pretrain.py" in build(sandbox, "demo", "ARGS=pretrain.tokens=9", "SERVE=0")
