"""The pins, the table in the documentation and what installs them agree, and installing picks the right torch."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet


@pytest.fixture(scope="module")
def install():
    """environments/install.py, which is a script and no package."""
    path = Path(__file__).parents[1] / "environments" / "install.py"
    spec = importlib.util.spec_from_file_location("workshop_install", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pins(install):
    return install.pinned(install.REPOSITORY / "environments" / "core.txt")


@pytest.fixture(scope="module")
def wanted(install):
    return [Requirement(text) for text in install.requirements(install.REPOSITORY / "pyproject.toml")]


# --- pins ----------------------------------------------------------------------------------------------------


def test_every_requirement_is_pinned_within_its_bounds(install, pins, wanted):
    for requirement in wanted:
        version = pins.get(install.canonical(requirement.name))
        assert version, f"{requirement.name} has no pin in environments/core.txt: run make lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} but pinned {version}"


def test_pins_cover_what_the_requirements_need_in_turn(install, pins, wanted):
    import importlib.metadata

    queue, seen = list(wanted), set()
    while queue:
        requirement = queue.pop()
        name = install.canonical(requirement.name)
        if name in seen or name.startswith(("nvidia-", "cuda-")) or name == "triton":
            continue
        seen.add(name)
        assert name in pins, f"{name} is needed but not pinned: run make lock"
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in requirement.extras or {""}):
                queue.append(needed)
    assert len(seen) > 100


@pytest.mark.parametrize("environment", ["core", "triton", "curate", "nemo", "nemorun"])
def test_pins_are_exact_and_of_no_particular_build(install, environment):
    for line in install.pins_of(environment).read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            assert re.fullmatch(r"==[0-9][^+*]*", str(requirement.specifier)), line
            assert not requirement.url and not requirement.extras, line


def test_triton_is_pinned_apart_from_what_contradicts_it(install, pins):
    triton = install.pinned(install.pins_of("triton"))
    wanted = [Requirement(text) for text in install.requirements(install.REPOSITORY / "pyproject.toml", "triton")]
    for requirement in wanted:
        assert requirement.specifier.contains(triton[install.canonical(requirement.name)]), requirement
    assert triton["numpy"].startswith("1."), "the Python backend corrupts the tensors of NumPy 2"
    assert not {"pyarrow", "datasets"} & set(triton), "they need NumPy 2"
    assert "nvidia-pytriton" not in pins
    # What both have is the same package, or a model saved by one would be read by another version in the other.
    assert {name: triton[name] for name in ("torch", "safetensors", "tokenizers", "tritonclient")}.items() <= pins.items()


@pytest.mark.parametrize(("python", "system", "libc", "words"), [
    ((3, 13), "Linux", ("glibc", "2.36"), "Python 3.13, which has no NumPy 1.26"),
    ((3, 11), "Linux", ("glibc", "2.31"), "Linux with glibc 2.31"),
    ((3, 11), "Darwin", ("", ""), "does not run on Darwin"),
])
def test_where_triton_cannot_run_it_says_so(install, python, system, libc, words):
    install.check_triton((3, 11), "Linux", ("glibc", "2.36"))
    with pytest.raises(install.InstallError, match=words) as error:
        install.check_triton(python, system, libc)
    assert "use " in str(error.value) and "\n" not in str(error.value)


def test_the_documentation_shows_the_versions(repository, install, pins):
    rows = re.findall(r"^\| ([A-Za-z0-9_.-]+) \| ([^|]*) \| ([0-9][^|]*) \| ([^|]*) \|$",
                      (repository / "environments/README.md").read_text().partition("## Versions of core")[2], re.MULTILINE)
    shown = {name: (asked.strip(), version.strip()) for name, asked, version, _ in rows}
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(t for group in project["optional-dependencies"].values() for t in group)]
    expected = {}
    for text in asked:
        name = re.match(r"[A-Za-z0-9_.-]+", text)[0]
        expected[name] = (text[len(name):] or "any", pins[install.canonical(name)])
    assert shown == expected


def test_supported_pythons_agree(repository, install):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    python = SpecifierSet(project["requires-python"])
    assert python.contains(".".join(map(str, install.OLDEST_PYTHON)))
    assert not python.contains(f"3.{install.OLDEST_PYTHON[1] - 1}")
    from llm_workshop import doctor

    assert (doctor.OLDEST_PYTHON, doctor.NEWEST_TESTED_PYTHON) == (install.OLDEST_PYTHON, install.NEWEST_TESTED_PYTHON)


# --- installing ------------------------------------------------------------------------------------------------


class FakePip:
    """Answers for pip: `report` is what a dry run would install."""

    def __init__(self, *names: str):
        self.report = {"install": [{"metadata": {"name": name, "version": "1"}} for name in names]}
        self.calls = []

    def pip(self, *arguments, capture=False):
        self.calls.append(arguments)
        if "--report" in arguments:
            Path(arguments[arguments.index("--report") + 1]).write_text(json.dumps(self.report))
        return ""


def test_without_a_gpu_a_cpu_build_of_the_index_is_taken(install):
    assert install.torch_arguments(FakePip("torch", "sympy"), "torch==2.13.0", "cpu") == ["torch==2.13.0"]


@pytest.mark.parametrize("name", ["nvidia-cublas", "NVIDIA_cudnn_cu13", "cuda-toolkit"])
def test_without_a_gpu_cuda_is_never_downloaded(install, name, capsys):
    pip = FakePip("torch", name)
    arguments = install.torch_arguments(pip, "torch==2.13.0", "cpu")
    assert arguments[arguments.index("--index-url") + 1] == "https://download.pytorch.org/whl/cpu"
    assert all("--dry-run" in call for call in pip.calls)
    assert "no NVIDIA GPU" in capsys.readouterr().out


def test_with_a_gpu_the_index_decides_unasked(install):
    pip = FakePip("torch", "nvidia-cublas")
    assert install.torch_arguments(pip, "torch==2.13.0", "cuda") == ["torch==2.13.0"]
    assert pip.calls == []


def test_a_base_with_its_own_torch_keeps_it(install):
    installed = {"torch": "2.14.0a0+nv", "numpy": "2.1.0", "packaging": "24.0"}
    text = install.constraints_beside("# pins\nnumpy==2.4.6\npackaging==26.3\ntorch==2.13.0\ntransformers==5.23.0\n", installed)
    assert set(text.splitlines()) == {"# pins", "transformers==5.23.0", "torch==2.14.0a0+nv", "numpy==2.1.0"}


def test_an_old_python_is_refused_in_one_line(install):
    with pytest.raises(install.InstallError, match=r"Python 3\.10 at /usr/bin/python3 is too old.*apt install") as error:
        install.check_python((3, 10), "/usr/bin/python3")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_python_without_venv_is_refused_in_one_line(install, monkeypatch, missing):
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(install.InstallError, match=r"has no module .*apt install python3\.11-venv"):
        install.check_python((3, 11), "/usr/bin/python3")


@pytest.fixture
def options(install, tmp_path, monkeypatch):
    """An installation into tmp_path whose pip is only written down."""
    calls = []
    monkeypatch.setattr(install.Environment, "pip", lambda self, *a, capture=False: calls.append(a) or "[]")
    monkeypatch.setattr(install, "torch_arguments", lambda environment, pin, build: [pin])
    monkeypatch.setattr(install.Environment, "create", lambda self, system_site_packages: self.folder.mkdir(exist_ok=True))
    monkeypatch.setattr(install.Environment, "works", lambda self: True)
    options = argparse.Namespace(environment="core", venv=tmp_path / "venv", torch="cpu", keep_base_torch=False,
                                 dependencies_only=False, project_only=False)
    return options, calls


def test_a_finished_environment_is_left_alone(install, options):
    options, calls = options
    install.install(options)
    assert any("-e" in call for call in calls)
    calls.clear()
    install.install(options)
    assert calls == []
    options.torch = "cuda"  # another build is another environment
    install.install(options)
    assert calls


def test_an_interrupted_installation_is_not_taken_for_finished(install, options, monkeypatch):
    options, _calls = options

    def killed(self, *arguments, capture=False):
        if "-r" in arguments:
            raise KeyboardInterrupt
        return ""

    with monkeypatch.context() as patch:
        patch.setattr(install.Environment, "pip", killed)
        with pytest.raises(KeyboardInterrupt):
            install.install(options)
    environment = install.Environment(options.venv)
    assert not environment.stamp.exists() and environment.unfinished.exists()
    install.install(options)
    assert environment.stamp.exists() and not environment.unfinished.exists()


def test_a_half_made_environment_is_made_anew(install, tmp_path):
    """What a killed pip left behind is gone, also where python and pip themselves still work."""
    environment = install.Environment(tmp_path / "venv")
    environment.create(system_site_packages=False)
    leftover = environment.folder / "leftover"
    leftover.touch()
    environment.create(system_site_packages=False)
    assert leftover.exists(), "a sound environment is kept"
    environment.unfinished.touch()
    environment.create(system_site_packages=False)
    assert environment.works() and not leftover.exists()


def test_a_failing_pip_is_one_line(install, tmp_path, capfd):
    environment = install.Environment(tmp_path)
    environment.python = Path(sys.executable)
    with pytest.raises(install.InstallError, match="pip install failed with exit code") as error:
        environment.pip("install", "--quiet", "--no-index", "no-such-package-of-ours")
    assert "\n" not in str(error.value)


def test_without_any_cpu_build_the_cure_is_named(install, options, monkeypatch):
    options, _ = options

    def offline(self, *arguments, capture=False):
        if install.TORCH_CPU_INDEX in arguments:
            raise install.InstallError("pip install failed with exit code 1")
        return ""

    monkeypatch.setattr(install, "torch_arguments", lambda environment, pin, build: [pin, "--index-url", install.TORCH_CPU_INDEX])
    monkeypatch.setattr(install.Environment, "pip", offline)
    with pytest.raises(install.InstallError, match=r"no CPU build of torch==.*PIP_FIND_LINKS.*TORCH=cuda"):
        install.install(options)


def fake_python(folder: Path, name: str, version: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)


@pytest.mark.parametrize(("pythons", "chosen"), [
    ({"python3": "3 12"}, "python3"),
    ({"python3": "3 9", "python3.11": "3 11", "python3.12": "3 12"}, "python3.12"),
    ({"python3": "3 15", "python3.13": "3 13"}, "python3.13"),
    ({"python3": "3 15"}, "python3"),
    ({"python": "3 11"}, "python"),
])
def test_the_right_python_is_found(repository, tmp_path, pythons, chosen):
    for name, version in pythons.items():
        fake_python(tmp_path, name, version)
    done = subprocess.run(["/bin/sh", repository / "environments/find-python.sh"], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, chosen)


def test_no_python_is_one_line_with_the_cure(repository, tmp_path):
    fake_python(tmp_path, "python3", "3 9")
    done = subprocess.run(["/bin/sh", repository / "environments/find-python.sh"], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert "python3 is 3.9" in done.stderr and "install one" in done.stderr and len(done.stderr.splitlines()) == 1


# --- container files, as far as they can be checked without an engine -----------------------------------------------


def test_compose_services_and_their_ports(repository):
    compose = yaml.safe_load((repository / "docker-compose.yml").read_text())
    services = compose["services"]
    shells, serving = ("workshop", "jupyter", "chat"), ("triton", "gateway", "page")
    assert set(services) == {f"{name}{device}" for name in (*shells, *serving) for device in ("", "-gpu")} | {"prometheus", "grafana"}
    for name, service in services.items():
        assert service["healthcheck"]["test"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        if not name.startswith("workshop"):
            assert service["ports"]
    for name in shells:
        for device in ("cpu", "gpu"):
            service = services[name if device == "cpu" else f"{name}-gpu"]
            assert service["profiles"] == [device] and service["image"].endswith(f":{device}")
            assert ("nvcr.io" in service["build"]["args"]["BASE_IMAGE"]) == (device == "gpu")
    for name in ("triton-gpu", *(f"{name}-gpu" for name in shells)):
        assert services[name]["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"
        assert services[name]["ipc"] == "host" and services[name]["ulimits"] == {"memlock": -1, "stack": 67108864}


def test_compose_services_that_serve(repository):
    services = yaml.safe_load((repository / "docker-compose.yml").read_text())["services"]
    stages = re.findall(r"^FROM \S+ AS (\S+)", (repository / "Dockerfile").read_text(), re.MULTILINE)
    for device in ("", "-gpu"):
        triton = services[f"triton{device}"]
        assert triton["build"]["target"] in stages and triton["image"].endswith(triton["build"]["target"])
        assert "serving.host=0.0.0.0" in triton["command"][-1] and "/v2/health/ready" in triton["healthcheck"]["test"][-1]
        for name in ("gateway", "page"):
            assert services[f"{name}{device}"]["depends_on"] == {f"triton{device}": {"condition": "service_healthy"}}
            assert f"--only {name}" in services[f"{name}{device}"]["command"][-1]
        for name in ("triton", "gateway", "page"):
            service = services[f"{name}{device}"]
            assert service["profiles"] == [f"serving{device}"] and service["restart"] == "unless-stopped"
            assert service["environment"]["WORKSHOP_API_KEY"] == "${WORKSHOP_API_KEY:-}"
    assert services["triton-gpu"]["networks"]["default"]["aliases"] == ["triton"], "the others and Prometheus ask this name"
    for name in ("prometheus", "grafana"):
        assert services[name]["profiles"] == ["monitoring"]
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", services[name]["image"]), "pinned"
        sources = [volume.split(":")[0] for volume in services[name]["volumes"] if volume.startswith("./")]
        assert sources and all((repository / source).exists() for source in sources)


def test_env_example_has_the_variables_of_compose(repository):
    used = set(re.findall(r"\$\{([A-Z_]+)", (repository / "docker-compose.yml").read_text()))
    shown = set(re.findall(r"^#? ?([A-Z_]+)=", (repository / ".env.example").read_text(), re.MULTILINE))
    assert shown <= used
    assert used - shown <= {"ARGS", "IMAGE"}


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_dev_containers_use_the_dockerfile(repository, device):
    folder = repository / ".devcontainer" / device
    configuration = json.loads((folder / "devcontainer.json").read_text())
    dockerfile = (folder / configuration["build"]["dockerfile"]).resolve()
    assert dockerfile == repository / "Dockerfile"
    assert f"AS {configuration['build']['target']}" in dockerfile.read_text()
    assert configuration["remoteUser"] == "workshop" and configuration["updateRemoteUserUID"]
    assert {"ms-python.python", "ms-toolsai.jupyter", "charliermarsh.ruff"} <= set(configuration["customizations"]["vscode"]["extensions"])
    assert ("--gpus=all" in configuration["runArgs"]) == (device == "gpu")


def test_base_images_are_named_once_and_alike(repository):
    files = ["Dockerfile", "docker-compose.yml", "docker/run.sh", ".devcontainer/cpu/devcontainer.json", ".devcontainer/gpu/devcontainer.json"]
    text = "\n".join((repository / name).read_text() for name in files)
    assert set(re.findall(r"\bpython:[0-9.]+-\S*?\w+(?=[\"}\s]|$)", text)) == {"python:3.11-slim-bookworm"}
    assert set(re.findall(r"nvcr\.io/nvidia/pytorch:[\w.-]+", text)) == {"nvcr.io/nvidia/pytorch:26.08-py3"}


def test_the_dockerfile_pulls_no_frontend(repository):
    assert not re.search(r"^#\s*syntax=", (repository / "Dockerfile").read_text(), re.MULTILINE)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed: apt install shellcheck")
def test_shell_scripts_pass_shellcheck(repository):
    scripts = [p for d in ("environments", "docker", "tests/container") for p in (repository / d).glob("*.sh")]
    done = subprocess.run(["shellcheck", *scripts, repository / ".ci/run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
