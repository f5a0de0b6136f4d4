"""Make the workshop's Python environment from pinned versions, with the standard library alone.

    python3 environments/install.py                 .venv beside pyproject.toml, with everything
    python3 environments/install.py --torch cpu     the CPU build of torch even where there is a GPU
    python3 environments/install.py --environment triton     .envs/triton, which serves models
                                                  (curate: NeMo Curator and datatrove; nemo: NeMo AutoModel and Megatron; nemorun: NeMo Run)

What is installed is what pyproject.toml asks for, at the versions in environments/core.txt; a further
environment is the dependency group of its name, at the versions in environments/<name>.txt. Torch is the
one package that comes in several builds. A machine without an NVIDIA GPU gets the CPU build: first pip is
asked what its own index and find-links would install, and only if that would bring CUDA packages,
PyTorch's CPU index is used instead. A base image that already has torch (NGC) keeps its own.

The environment is finished when `<venv>/.installed` exists and names the digest of everything above, so
an interrupted run is taken up again and a finished one costs a few milliseconds.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
OLDEST_PYTHON = (3, 11)
NEWEST_TESTED_PYTHON = (3, 13)
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
EXTRAS = ("dev", "jupyter")
ENVIRONMENTS = ("core", "triton", "curate", "nemo", "nemorun")
# NumPy 1.26, the last that Triton's Python backend reads tensors of, has no wheel for a newer Python.
TRITON_NEWEST_PYTHON = (3, 12)
TRITON_OLDEST_GLIBC = (2, 35)
# Built against the base image's CUDA or against its NumPy ABI: another build of these breaks torch there.
KEEP_FROM_BASE = ("torch", "torchvision", "torchaudio", "triton", "pytorch-triton", "numpy")


class InstallError(Exception):
    """A problem of the machine, said in one line that names the cure."""


def canonical(name: str) -> str:
    """PEP 503: `Jinja2` and `jinja_2` are spelt one way."""
    return re.sub(r"[-_.]+", "-", name).lower()


def check_python(version: tuple[int, int], found_at: str) -> None:
    """Raise InstallError unless this Python is new enough and can make virtual environments."""
    if version < OLDEST_PYTHON:
        raise InstallError(
            f"Python {version[0]}.{version[1]} at {found_at} is too old, 3.11 or newer is needed: install one "
            "(Debian/Ubuntu: apt install python3.11 python3.11-venv; macOS: brew install python@3.11)"
        )
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise InstallError(
                f"Python {version[0]}.{version[1]} at {found_at} has no module {module!r}: install it "
                f"(Debian/Ubuntu: apt install python{version[0]}.{version[1]}-venv)"
            )


def check_triton(version: tuple[int, int], system: str, libc: tuple[str, str]) -> None:
    """Raise InstallError where the bundled Triton server cannot run. `libc` is platform.libc_ver()."""
    name, number = libc
    glibc = tuple(int(part) for part in number.split(".")[:2]) if name == "glibc" else (0, 0)
    if system != "Linux" or glibc < TRITON_OLDEST_GLIBC:
        found = f"{system} with {name} {number}" if name else system
        raise InstallError(
            f"the triton environment does not run on {found}: use Linux with glibc 2.35 or newer (Debian 12, "
            "Ubuntu 22.04), or the container"
        )
    if version > TRITON_NEWEST_PYTHON:
        raise InstallError(
            f"the triton environment does not run on Python {version[0]}.{version[1]}, which has no NumPy 1.26: "
            "use 3.11 or 3.12 (make env-triton PYTHON_HOST=python3.12)"
        )


def has_nvidia_gpu() -> bool:
    """Whether the driver lists a GPU. Device nodes count too: nvidia-smi is missing in some containers."""
    program = shutil.which("nvidia-smi")
    if program:
        try:
            listing = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return listing.returncode == 0 and "GPU" in listing.stdout
    return Path("/dev/nvidia0").exists()


def pins_of(environment: str) -> Path:
    return REPOSITORY / "environments" / f"{environment}.txt"


def folder_of(environment: str) -> Path:
    return REPOSITORY / ".venv" if environment == "core" else REPOSITORY / ".envs" / environment


def requirements(pyproject: Path, environment: str = "core", extras: tuple[str, ...] = EXTRAS) -> list[str]:
    """Everything pyproject.toml asks for in an environment, as requirement strings; in core with its extras."""
    import tomllib

    table = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    if environment != "core":
        return list(table["dependency-groups"][environment])
    project = table["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project.get("optional-dependencies", {}).get(extra, [])
    return wanted


def pinned(constraints: Path) -> dict[str, str]:
    """Canonical name -> version for each `name==version` line (markers allowed after a semicolon)."""
    pins = {}
    for line in constraints.read_text(encoding="utf-8").splitlines():
        match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;#]+)", line)
        if match:
            pins[canonical(match.group(1))] = match.group(2)
    return pins


def constraints_beside(pins_text: str, installed: dict[str, str]) -> str:
    """The constraints to use on a base image that already has `installed` (canonical name -> version).

    Its torch and NumPy are held exactly; its other packages lose our pin, so that pip keeps them where they
    satisfy what is asked and replaces them only where they do not; the rest keep our pins.
    """
    kept = []
    for line in pins_text.splitlines():
        match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)==", line)
        if match is None or canonical(match.group(1)) not in installed:
            kept.append(line)
    kept += [f"{name}=={installed[name]}" for name in KEEP_FROM_BASE if name in installed]
    return "\n".join(kept) + "\n"


def brings_cuda(report: dict) -> bool:
    """Whether pip's installation report (the JSON of `--report`) contains CUDA packages."""
    names = [canonical(item["metadata"]["name"]) for item in report.get("install", [])]
    return any(name.startswith(("nvidia-", "cuda-")) for name in names)


class Environment:
    """A virtual environment and the pip inside it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.stamp = folder / ".installed"
        self.unfinished = folder / ".installing"

    def pip(self, *arguments: str, capture: bool = False) -> str:
        command = [str(self.python), "-m", "pip", *arguments]
        result = subprocess.run(command, stdout=subprocess.PIPE if capture else None, text=True)
        if result.returncode != 0:
            raise InstallError(
                f"pip {arguments[0]} failed with exit code {result.returncode} (its message is above): "
                "check the network and `pip config list`, then run the same command again"
            )
        return result.stdout or ""

    def works(self) -> bool:
        if not self.python.exists():
            return False
        try:
            asked = subprocess.run([str(self.python), "-m", "pip", "--version"], capture_output=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return asked.returncode == 0

    def create(self, system_site_packages: bool) -> None:
        """Make the environment, or make it anew if it is broken or its last installation was cut short.

        A killed pip leaves packages whose metadata says they are complete, so nothing half-made is kept.
        """
        if self.works() and not self.unfinished.exists():
            return
        import venv

        if self.folder.exists():
            print(f"{self.folder} is incomplete or broken: making it anew", flush=True)
        venv.EnvBuilder(
            clear=True, with_pip=True, symlinks=True, system_site_packages=system_site_packages
        ).create(self.folder)


def digest(constraints: Path, pyproject: Path, choice: str) -> str:
    """What the finished environment depends on, as one hexadecimal SHA-256."""
    parts = [constraints.read_bytes(), pyproject.read_bytes(), choice.encode(), sys.version.encode()]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def torch_arguments(environment: Environment, torch_pin: str, build: str) -> list[str]:
    """The pip arguments that select the build of torch. `build` is "cpu" or "cuda"."""
    if build == "cuda":
        return [torch_pin]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        environment.pip("install", "--quiet", "--dry-run", "--report", str(report), torch_pin)
        if not brings_cuda(json.loads(report.read_text(encoding="utf-8"))):
            return [torch_pin]
    print(f"no NVIDIA GPU here: torch comes from {TORCH_CPU_INDEX}", flush=True)
    # Without its dependencies: that index has old versions of them, ours come from the usual one below.
    return [torch_pin, "--index-url", TORCH_CPU_INDEX, "--no-deps"]


def base_packages(environment: Environment) -> dict[str, str]:
    """Canonical name -> version of what a `--system-site-packages` environment can already import."""
    listing = json.loads(environment.pip("list", "--format=json", capture=True))
    return {canonical(item["name"]): item["version"] for item in listing}


def install(options: argparse.Namespace) -> None:
    environment = Environment(options.venv)
    pyproject, constraints = REPOSITORY / "pyproject.toml", pins_of(options.environment)
    if options.project_only:
        install_project(environment)
        return
    base_has_torch = options.keep_base_torch and importlib.util.find_spec("torch") is not None
    build = options.torch if options.torch != "auto" else ("cuda" if has_nvidia_gpu() else "cpu")
    wanted = digest(constraints, pyproject, f"{build} base={base_has_torch}")
    if environment.stamp.exists() and environment.stamp.read_text().strip() == wanted and environment.works():
        environment.stamp.touch()
        return
    check_python(sys.version_info[:2], sys.executable)
    if options.environment == "triton":
        check_triton(sys.version_info[:2], platform.system(), platform.libc_ver())
    if sys.version_info[:2] > NEWEST_TESTED_PYTHON:
        print(f"note: the pins are tested up to Python 3.{NEWEST_TESTED_PYTHON[1]}", flush=True)
    print(f"installing into {environment.folder} (Python {sys.version.split()[0]}, torch: "
          f"{'from the base image' if base_has_torch else build}); this takes a minute or more", flush=True)
    started = time.monotonic()
    environment.create(system_site_packages=base_has_torch)
    environment.stamp.unlink(missing_ok=True)
    environment.unfinished.touch()
    if base_has_torch:
        # NGC images pin every package they ship in this file; ours must be free to ask for newer ones.
        os.environ.pop("PIP_CONSTRAINT", None)
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder, "constraints.txt")
        pins.write_text(constraints.read_text(encoding="utf-8"), encoding="utf-8")
        environment.pip("install", "--quiet", "--upgrade", "-c", str(pins), "pip", "setuptools")
        if base_has_torch:
            pins.write_text(constraints_beside(pins.read_text(encoding="utf-8"), base_packages(environment)))
        elif "torch" in pinned(constraints):  # what only starts jobs has none
            install_torch(environment, f"torch=={pinned(constraints)['torch']}", pins, build)
        # The pins as requirements, not as constraints: one that this Python or index cannot have then fails
        # at once by its name, where a constraint sends pip searching through old versions of everything.
        print(f"  2 of 2: {len(pinned(constraints))} packages of {constraints.name}; pip is silent while it works", flush=True)
        environment.pip("install", "--quiet", "-r", str(pins), *requirements(pyproject, options.environment))
    if not options.dependencies_only:
        install_project(environment)
    environment.unfinished.unlink()
    partial = environment.stamp.with_suffix(".partial")
    partial.write_text(wanted + "\n")
    partial.replace(environment.stamp)
    after = ": `make doctor` checks the machine, `make help` lists what there is" if options.environment == "core" else ""
    print(f"installed {environment.folder} in {time.monotonic() - started:.0f} s{after}", flush=True)


def install_torch(environment: Environment, torch_pin: str, pins: Path, build: str) -> None:
    """The build of torch that suits this machine, before everything else asks for any."""
    print(f"  1 of 2: {torch_pin}", flush=True)
    torch = torch_arguments(environment, torch_pin, build)
    try:
        environment.pip("install", "--quiet", "-c", str(pins), *torch)
    except InstallError as error:
        if TORCH_CPU_INDEX not in torch:
            raise
        raise InstallError(
            f"no CPU build of {torch_pin} from pip's own index, and none from {TORCH_CPU_INDEX}: check the network, or "
            "name a folder that holds the wheel in PIP_FIND_LINKS, or take the CUDA build (make install TORCH=cuda)"
        ) from error


def install_project(environment: Environment) -> None:
    """The project itself, editable and without build isolation: setuptools is pinned in the environment."""
    environment.pip("install", "--quiet", "--no-deps", "--no-build-isolation", "-e", str(REPOSITORY))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", choices=ENVIRONMENTS, default="core", help="default: %(default)s")
    parser.add_argument("--venv", type=Path, help="default: .venv for core, .envs/NAME for the others")
    parser.add_argument("--torch", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--keep-base-torch", action="store_true", help="use the torch this Python already has")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--dependencies-only", action="store_true", help="all but the project itself")
    part.add_argument("--project-only", action="store_true", help="the project itself, nothing else")
    options = parser.parse_args(arguments)
    options.venv = options.venv or folder_of(options.environment)
    try:
        check_python(sys.version_info[:2], sys.executable)
        install(options)
    except (InstallError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; the same command takes it up again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
