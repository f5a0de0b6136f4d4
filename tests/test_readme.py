"""Every command of the READMEs and lab guides exists, and both languages give the same ones."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from support.gateway import serving

from llm_workshop.corpora.catalogue import CATALOGUE
from llm_workshop.settings import SCALES, load_settings

ROOT = Path(__file__).resolve().parents[1]
GUIDES = sorted(p.relative_to(ROOT) for p in (*ROOT.glob("README*.md"), *ROOT.glob("labs/*/README.md"), ROOT / "CONTRIBUTING.md", ROOT / "workshop" / "README.md"))


def make_commands(file: Path) -> list[str]:
    """``make …`` of fenced blocks and of inline code, without comments; patterns such as weekN-NAME left out."""
    text = (ROOT / file).read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:bash|sh|console)?\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", text)
    commands = [re.split(r"\s#|\s→", line)[0].strip().removeprefix("$ ") for line in lines]
    makes = [c for c in commands if re.match(r"(\w+=\S+ )*make [a-z]", c)]
    return sorted({c for c in makes if not re.search(r"N-|…|NAME|EX=", c)})


ALL_COMMANDS = sorted({(str(f), c) for f in GUIDES for c in make_commands(f)})


def test_there_are_commands_to_check():
    assert {"make demo", "make test"} <= set(make_commands(Path("README.md")))
    assert len(ALL_COMMANDS) > 20


@pytest.mark.parametrize(("file", "command"), ALL_COMMANDS, ids=[f"{f}: {c}" for f, c in ALL_COMMANDS])
def test_make_knows_the_command(file, command, tmp_path):
    dry = command.replace("make ", "make -n ", 1)
    if "RUN=" not in dry:
        dry += " RUN=local"
    result = subprocess.run(["sh", "-c", f"ARTIFACTS_DIR={tmp_path} {dry}"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("file", "command"), [c for c in ALL_COMMANDS if "ARGS=" in c[1] and "." in c[1]])
def test_settings_in_commands_are_real(file, command):
    arguments = re.search(r'ARGS=(?:"([^"]*)"|(\S+))', command)
    overrides = [a for a in (arguments[1] or arguments[2]).split() if re.match(r"\w+\.\w+=", a)]
    load_settings("smoke", overrides=overrides)


def test_both_languages_give_the_same_commands():
    english, korean = (make_commands(Path(name)) for name in ("README.md", "README.ko.md"))
    assert english == korean


def test_dials_are_complete():
    for name in ("README.md", "README.ko.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert all(f"`{word}`" in text for word in (*SCALES, *CATALOGUE))


def test_pictures_and_links_exist():
    for file in GUIDES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / file).read_text(encoding="utf-8")):
            if not re.match(r"https?:", target):
                assert (ROOT / file.parent / target).exists(), f"{file} points to {target}"


def test_compose_commands_name_real_services():
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in ("README.md", "README.ko.md"):
        for profile, service in re.findall(r"docker compose --profile (\w+) up (\S+)", (ROOT / name).read_text()):
            assert profile in services[service]["profiles"]


def test_the_python_examples_run(tmp_path, capsys):
    """The snippets of both READMEs, on a tiny model in place of the laptop's."""
    from llm_workshop.artifacts import Artifacts
    from llm_workshop.pipeline import build_base_model, build_corpus, build_tokenizer, build_tokens
    from llm_workshop.serving.scratch_engine import ScratchEngine

    overrides = ["corpus.megabytes=0.1", "tokenizer.vocab_size=300", "model.context_length=256", "model.n_layers=1",
                 "model.d_model=32", "pretrain.steps=1", "pretrain.batch_size=2", "pretrain.eval_batches=1"]
    artifacts = Artifacts(load_settings("smoke", overrides=overrides), root=tmp_path)
    for build in (build_corpus, build_tokenizer, build_tokens, build_base_model):
        build(artifacts)
    english, korean = (re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL) for name in ("README.md", "README.ko.md"))
    assert english == korean and len(english) == 3
    with serving({"laptop": ScratchEngine.from_artifacts(artifacts)}) as url:
        for snippet in english:
            code = snippet.replace("artifacts/laptop/base-model", str(artifacts.path("base-model")))
            exec(compile(code.replace("http://127.0.0.1:8080", url), "README.md", "exec"), {})
    assert "<|assistant|>" in capsys.readouterr().out
