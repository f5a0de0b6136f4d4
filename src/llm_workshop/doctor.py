"""``make doctor``: is this machine ready for the workshop, and if not, what mends it?

Each check is a function of a ``Machine`` that returns a ``Check``: ok, a warning (something will be slower,
skipped or fetched later) or a problem (something will fail), the last two with their remedy. Standard
library only, so that it also answers where the environment could not be installed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from llm_workshop.machine import Machine

GIB = 2**30
CHAT_PORT, JUPYTER_PORT = 7860, 8888
OLDEST_PYTHON, NEWEST_TESTED_PYTHON = (3, 11), (3, 13)
#: Names under which tiktoken caches GPT-2's two files (SHA-1 of the addresses it takes them from).
TIKTOKEN_GPT2_FILES = ("6d1cbeee0f20b3d9449abfede4726ed8212e3aee", "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6")


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Check:
    """One finding; ``remedy`` is what to do about it and is empty only where all is well."""

    name: str
    status: Status
    finding: str
    remedy: str = ""

    def __post_init__(self):
        assert self.remedy or self.status is Status.OK, f"{self.name}: a {self.status.value} needs a remedy"


def ok(name: str, finding: str) -> Check:
    return Check(name, Status.OK, finding)


def warning(name: str, finding: str, remedy: str) -> Check:
    return Check(name, Status.WARNING, finding, remedy)


def problem(name: str, finding: str, remedy: str) -> Check:
    return Check(name, Status.PROBLEM, finding, remedy)


def not_installed(machine: Machine, name: str, finding: str) -> Check:
    """A part of the environment that is missing: nothing amiss where targets run in the container (RUN=docker)."""
    if machine.environment.get("RUN") == "docker":
        return ok(name, "the container image brings it (make shell, then make doctor)")
    return warning(name, finding, "make install (the first target that needs it does this by itself)")


# --- software ---------------------------------------------------------------------------------------------


def check_python(machine: Machine) -> Check:
    version = machine.python_version
    text = ".".join(map(str, version))
    if version[:2] < OLDEST_PYTHON:
        return problem("Python", f"{text} is too old", "install Python 3.11 or newer (apt install python3.11-venv), or Docker")
    if version[:2] > NEWEST_TESTED_PYTHON:
        return warning("Python", f"{text} is newer than the pins were tested with", "if an install fails, use Python 3.13")
    return ok("Python", text)


def check_packages(machine: Machine) -> Check:
    """Drift: what is installed against the pins of environments/core.txt."""
    pins = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", machine.read(machine.repository / "environments/core.txt") or "", re.M))
    if not pins:
        return warning("Packages", "environments/core.txt is missing or empty", "git checkout environments/core.txt")
    found = {name: machine.version(name) for name in pins}
    installed = {name: version for name, version in found.items() if version}
    if "transformers" not in installed:
        return not_installed(machine, "Packages", "the environment is not installed yet")
    other = [f"{n} {v} (pinned {pins[n]})" for n, v in installed.items() if v.partition("+")[0] != pins[n] and n != "pip"]
    if machine.environment.get("WORKSHOP_CONTAINER"):
        other = [text for text in other if not text.startswith(("torch ", "numpy ", "setuptools "))]  # the base image's own
    if other:
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        return warning("Packages", f"not as pinned: {', '.join(other[:3])}{more}", "make install (in a container: make image)")
    return ok("Packages", f"{len(installed)} installed at their pinned versions")


def check_torch(machine: Machine) -> Check:
    try:
        torch = machine.torch()
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return problem("torch", f"is installed but does not import: {reason}", "rm -rf .venv && make install")
    if torch is None:
        return not_installed(machine, "torch", "not installed yet")
    build = f"CUDA {torch.cuda} build" if torch.cuda else "CPU build"
    gpu = bool(list_gpus(machine))
    if gpu and torch.cuda is None:
        return warning("torch", f"{torch.version}, {build}, although there is a GPU", "rm -rf .venv && make install TORCH=cuda")
    if gpu and not torch.sees_gpu:
        return problem("torch", f"{torch.version}, {build}, does not see the GPU", f"update the NVIDIA driver to one for CUDA {torch.cuda}")
    if torch.cuda and not gpu:
        return warning("torch", f"{torch.version}, {build}, without a GPU (several GB more than needed)", "rm -rf .venv && make install TORCH=cpu")
    return ok("torch", f"{torch.version}, {build}")


def check_compiler(machine: Machine) -> Check:
    compiler = machine.environment.get("CXX") or machine.which("g++", "clang++")
    if not compiler:
        return warning("Compiler", "no C++ compiler: torch.compile is left out and training is slower", "apt install g++ (macOS: xcode-select --install)")
    if not machine.python_header():
        return warning("Compiler", f"{compiler}, but Python.h is missing: torch.compile is left out", "apt install python3-dev")
    return ok("Compiler", f"{compiler} and Python.h, as torch.compile needs")


def check_make(machine: Machine) -> Check:
    said = machine.run("make", "--version")
    match = re.search(r"GNU Make (\d+)\.(\d+)", said.text) if said else None
    if not match:
        return problem("make", "GNU Make is missing", "apt install make (macOS: xcode-select --install)")
    if (int(match[1]), int(match[2])) < (3, 81):
        return problem("make", f"GNU Make {match[1]}.{match[2]} is too old", "install GNU Make 3.81 or newer")
    return ok("make", f"GNU Make {match[1]}.{match[2]}")


def check_hangul_font(machine: Machine) -> Check:
    folder = machine.package_folder("koreanize_matplotlib")
    if folder is None:
        return not_installed(machine, "Hangul font", "the font package is not installed yet: Hangul in plots would be boxes")
    fonts = sorted(folder.glob("fonts/*.ttf"))
    if not fonts:
        return problem("Hangul font", f"no font file under {folder}", "rm -rf .venv && make install")
    return ok("Hangul font", f"{fonts[0].stem}, from koreanize-matplotlib")


def check_browser(machine: Machine) -> Check:
    browser = machine.which("chromium", "chromium-browser", "google-chrome")
    if browser:
        return ok("Browser", f"{browser}, for the tests of the chat page")
    return warning("Browser", "no Chromium: `make test` skips the browser tests", "apt install chromium")


# --- hardware -----------------------------------------------------------------------------------------------


def check_cpu(machine: Machine) -> Check:
    """Which matrix arithmetic is fast here; settings with `precision: auto` measure it themselves."""
    name, flags = "", set()
    for line in (machine.read("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and not name:
            name = value.strip()
        elif key.strip() in ("flags", "Features") and not flags:
            flags = set(value.split())
    text = f"{name or machine.system}, {machine.cores} cores"
    if machine.system == "Darwin" or not flags:
        return ok("CPU", text)
    if flags & {"amx_bf16"}:
        return ok("CPU", f"{text}: bf16 in matrix units (amx_bf16)")
    if flags & {"avx512_bf16", "bf16"}:
        return ok("CPU", f"{text}: bf16 in vector units ({'avx512_bf16' if 'avx512_bf16' in flags else 'bf16'})")
    if flags & {"avx2", "asimd"}:
        return ok("CPU", f"{text}: no bf16 units, so float32 is the faster there")
    return warning("CPU", f"{text}: no AVX2, everything is several times slower", "use SCALE=smoke, or another machine")


def list_gpus(machine: Machine) -> list[tuple[str, int, str]]:
    """(name, memory in MiB, driver) of each NVIDIA GPU that the driver lists."""
    said = machine.run("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
    rows = []
    for line in said.text.splitlines() if said and said.code == 0 else []:
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 3 and cells[1].isdigit():
            rows.append((cells[0], int(cells[1]), cells[2]))
    return rows


def check_gpu(machine: Machine) -> Check:
    gpus = list_gpus(machine)
    if gpus:
        name, mebibytes, driver = gpus[0]
        text = f"{len(gpus)} x {name}, {mebibytes / 1024:.0f} GiB, driver {driver}"
        if mebibytes < 22 * 1024:
            return warning("GPU", f"{text}: SCALE=gpu is sized for 24 GB", 'make ... SCALE=gpu ARGS="pretrain.micro_batch_size=4"')
        return ok("GPU", text)
    said = machine.run("nvidia-smi")
    if said is not None and said.code != 0:
        reason = (said.text or said.errors).splitlines()
        return problem("GPU", f"nvidia-smi fails: {reason[0] if reason else said.code}", "reinstall the NVIDIA driver and restart the machine")
    return ok("GPU", "no NVIDIA GPU: everything runs on the CPU")


def check_memory(machine: Machine) -> Check:
    memory = machine.memory()
    if memory is None:
        return warning("Memory", "unknown on this system", "make sure there are 8 GB")
    total, available = memory
    text = f"{total / GIB:.1f} GiB, {available / GIB:.1f} GiB available"
    if total < 3.5 * GIB:
        return problem("Memory", f"{text}: too little for SCALE=laptop", "use SCALE=smoke, or give the container or machine 8 GB")
    if total < 7.5 * GIB or available < 2 * GIB:
        return warning("Memory", f"{text}: tight for SCALE=laptop", "close other programs, or use SCALE=smoke")
    return ok("Memory", text)


def check_shared_memory(machine: Machine) -> Check:
    size = machine.size_bytes("/dev/shm")
    if size is None:
        return ok("Shared memory", "no /dev/shm on this system; nothing needs it")
    if size < GIB:
        return warning("Shared memory", f"/dev/shm has {size / 2**20:.0f} MiB: data loader workers may crash", "docker run --shm-size=2g, or --ipc=host (make does this)")
    return ok("Shared memory", f"/dev/shm has {size / GIB:.1f} GiB")


def check_disk(machine: Machine) -> Check:
    free = machine.free_bytes(machine.repository)
    if free is None:
        return warning("Disk", "free space is unknown", "make sure 10 GB are free")
    text = f"{free / GIB:.0f} GiB free for {machine.repository}"
    if free < 3 * GIB:
        return problem("Disk", f"{text}: the environment alone takes 2 GB", "free some space, then make clean-all")
    if free < 10 * GIB:
        return warning("Disk", f"{text}: enough for the demo, tight for container images", "free some space (docker system prune)")
    return ok("Disk", text)


# --- Docker, ports, caches ----------------------------------------------------------------------------------


def check_docker(machine: Machine) -> Check:
    outside = machine.environment.get("WORKSHOP_HOST_DOCKER")
    if outside:
        return ok("Docker", f"inside a container of engine {outside}")
    if machine.environment.get("WORKSHOP_CONTAINER"):
        return ok("Docker", "inside a container")
    docker = machine.environment.get("DOCKER") or "docker"
    if not machine.which(docker):
        return ok("Docker", "not installed: RUN=local is used")
    said = machine.run(docker, "version", "--format", "{{.Server.Version}}")
    if said is None or said.code != 0:
        if said is not None and "permission denied" in said.errors.lower():
            return warning("Docker", "installed, but this user may not use it", "sudo usermod -aG docker $USER, then log in again")
        return warning("Docker", "installed, but no engine answers: RUN=local is used", "start Docker (sudo systemctl start docker, or Docker Desktop)")
    engine = said.text.splitlines()[-1]
    client = machine.run(docker, "version", "--format", "{{.Client.Version}}")
    major = int(re.match(r"\d*", client.text if client else "")[0] or 0)
    buildx = machine.run(docker, "buildx", "version")
    if major >= 23 and (buildx is None or buildx.code != 0):
        return warning("Docker", f"engine {engine}, but its client cannot build images: buildx is missing", "apt install docker-buildx-plugin, or use RUN=local")
    return ok("Docker", f"engine {engine}: RUN=docker is used")


def check_docker_gpu(machine: Machine) -> Check:
    docker = machine.environment.get("DOCKER") or "docker"
    if machine.environment.get("WORKSHOP_CONTAINER") or not list_gpus(machine):
        return ok("Docker GPU", "nothing to check: no GPU here" if not list_gpus(machine) else "a GPU is in the container")
    said = machine.run(docker, "info", "--format", "{{json .Runtimes}}")
    if said is None or said.code != 0:
        return ok("Docker GPU", "nothing to check: no Docker engine answers")
    if "nvidia" not in said.text:
        return warning("Docker GPU", "the engine has no nvidia runtime: containers use the CPU", "install nvidia-container-toolkit, run `sudo nvidia-ctk runtime configure`, restart Docker")
    return ok("Docker GPU", "the engine has the nvidia runtime")


def check_ports(machine: Machine) -> Check:
    busy = [port for port in (CHAT_PORT, JUPYTER_PORT) if not machine.port_is_free(port)]
    if busy:
        which = " and ".join(map(str, busy))
        remedy = f"PORT={CHAT_PORT + 1} for the chat page" if CHAT_PORT in busy else 'ARGS="--port 8889" for make jupyter'
        return warning("Ports", f"127.0.0.1:{which} in use", f"{remedy}, or stop what listens there")
    return ok("Ports", f"127.0.0.1:{CHAT_PORT} (chat page) and {JUPYTER_PORT} (JupyterLab) are free")


def check_hub_cache(machine: Machine) -> Check:
    environment = machine.environment
    folder = environment.get("HF_HOME") or machine.home(".cache", "huggingface")
    if not machine.writable(folder):
        return warning("Hub cache", f"{folder} is not writable: real data sets cannot be kept", "export HF_HOME=a folder of yours")
    offline = " (HF_HUB_OFFLINE: the hub is never asked)" if environment.get("HF_HUB_OFFLINE", "0") not in ("", "0") else ""
    return ok("Hub cache", f"{folder}{offline}")


def check_tiktoken_cache(machine: Machine) -> Check:
    folder = machine.environment.get("TIKTOKEN_CACHE_DIR")
    if folder and all((Path(folder) / name).is_file() for name in TIKTOKEN_GPT2_FILES):
        return ok("tiktoken cache", f"GPT-2's vocabulary is in {folder}")
    if folder and not machine.writable(folder):
        return warning("tiktoken cache", f"{folder} has no GPT-2 vocabulary and is not writable", "unset TIKTOKEN_CACHE_DIR, or put the files there (docker/tiktoken/README.md)")
    return ok("tiktoken cache", "no GPT-2 vocabulary: it is downloaded when a lab first compares with it")


CHECKS: tuple[Callable[[Machine], Check], ...] = (
    check_python, check_packages, check_torch, check_compiler, check_make, check_hangul_font, check_browser,
    check_cpu, check_gpu, check_memory, check_shared_memory, check_disk,
    check_docker, check_docker_gpu, check_ports, check_hub_cache, check_tiktoken_cache,
)


def examine(machine: Machine | None = None) -> list[Check]:
    """All checks of a machine (this one by default), in the order they are printed."""
    machine = machine or Machine()
    return [check(machine) for check in CHECKS]


def render(checks: Sequence[Check], colour: bool = False) -> str:
    """The checks as lines of text: status, name, finding, and the remedy on a line of its own."""
    shades = {Status.OK: "\033[32m", Status.WARNING: "\033[33m", Status.PROBLEM: "\033[31m"}
    lines = []
    for check in checks:
        label = f"{check.status.value:<8}"
        lines.append(f"{shades[check.status] + label + chr(27) + '[0m' if colour else label} {check.name + ':':<15} {check.finding}")
        if check.remedy:
            lines.append(f"{'':<25}-> {check.remedy}")
    count = {status: sum(check.status is status for check in checks) for status in Status}
    lines.append(f"\n{count[Status.OK]} ok, {count[Status.WARNING]} warnings, {count[Status.PROBLEM]} problems")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None, machine: Machine | None = None) -> int:
    """Print the checks; exit code 1 only if something will fail."""
    parser = argparse.ArgumentParser(prog="workshop doctor", description="Check this machine for the workshop.")
    parser.add_argument("--json", action="store_true", help="as JSON, for scripts")
    options = parser.parse_args(arguments)
    checks = examine(machine)
    if options.json:
        print(json.dumps([asdict(check) for check in checks], ensure_ascii=False, indent=2))
    else:
        print(render(checks, colour=sys.stdout.isatty()))
    return int(any(check.status is Status.PROBLEM for check in checks))


if __name__ == "__main__":
    sys.exit(main())
