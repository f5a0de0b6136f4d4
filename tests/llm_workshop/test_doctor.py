"""The doctor, on machines that do not exist."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llm_workshop import doctor
from llm_workshop.doctor import GIB, Status
from llm_workshop.machine import Machine, Output, Torch

GPU_QUERY = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
H100 = {GPU_QUERY: Output(0, "NVIDIA H100, 81559, 570.86")}
DOCKER_20 = {
    ("docker", "version", "--format", "{{.Server.Version}}"): Output(0, "20.10.24"),
    ("docker", "version", "--format", "{{.Client.Version}}"): Output(0, "20.10.24"),
}


class FakeMachine(Machine):
    """A sound machine without a GPU or Docker, but for what a test changes."""

    def __init__(self, tmp_path: Path, **facts):
        fonts = tmp_path / "koreanize_matplotlib" / "fonts"
        fonts.mkdir(parents=True)
        (fonts / "NanumGothic.ttf").write_bytes(b"")
        (tmp_path / "environments").mkdir()
        (tmp_path / "environments" / "core.txt").write_text("transformers==5.23.0\ntorch==2.13.0\n")
        self.repository = tmp_path
        self.facts = {
            "environment": {}, "python_version": (3, 11, 7), "system": "Linux", "cores": 2,
            "commands": {("make", "--version"): Output(0, "GNU Make 4.3\nBuilt for x86_64")},
            "programs": {"g++": "/usr/bin/g++", "chromium": "/usr/bin/chromium"},
            "cpuinfo": "model name\t: Some CPU\nflags\t\t: fpu avx2 avx512_bf16\n",
            "torch": Torch("2.13.0+cpu", None, False), "torch_error": None,
            "versions": {"transformers": "5.23.0", "torch": "2.13.0+cpu"},
            "memory": (16 * GIB, 12 * GIB), "free": 100 * GIB, "shm": 2 * GIB,
            "unwritable": (), "busy_ports": (), "header": True, "font_package": True,
        } | facts

    environment = property(lambda self: self.facts["environment"])
    python_version = property(lambda self: self.facts["python_version"])
    system = property(lambda self: self.facts["system"])
    cores = property(lambda self: self.facts["cores"])

    def run(self, *command, seconds=20):
        return self.facts["commands"].get(command)

    def which(self, *programs):
        return next((self.facts["programs"][p] for p in programs if p in self.facts["programs"]), None)

    def read(self, path):
        return self.facts["cpuinfo"] if str(path) == "/proc/cpuinfo" else super().read(path)

    def version(self, package):
        return self.facts["versions"].get(package)

    def package_folder(self, module):
        return self.repository / module if self.facts["font_package"] else None

    def torch(self):
        if self.facts["torch_error"]:
            raise self.facts["torch_error"]
        return self.facts["torch"]

    def memory(self):
        return self.facts["memory"]

    def free_bytes(self, path):
        return self.facts["free"]

    def size_bytes(self, path):
        return self.facts["shm"]

    def writable(self, folder):
        return str(folder) not in self.facts["unwritable"]

    def port_is_free(self, port):
        return port not in self.facts["busy_ports"]

    def python_header(self):
        return self.facts["header"]


def test_a_sound_machine_has_no_warning(tmp_path):
    checks = doctor.examine(FakeMachine(tmp_path))
    assert [c for c in checks if c.status is not Status.OK] == []
    assert len({c.name for c in checks}) == len(doctor.CHECKS) == 17


SYMPTOMS = [
    ("Python", Status.PROBLEM, {"python_version": (3, 10, 4)}, "3.11"),
    ("Python", Status.WARNING, {"python_version": (3, 14, 0)}, "3.13"),
    ("Packages", Status.WARNING, {"versions": {}}, "make install"),
    ("Packages", Status.WARNING, {"versions": {"transformers": "5.24.0", "torch": "2.13.0"}}, "make install"),
    ("torch", Status.WARNING, {"torch": None}, "make install"),
    ("torch", Status.PROBLEM, {"torch_error": ImportError("libcudart.so.13: cannot open")}, "make install"),
    ("torch", Status.WARNING, {"torch": Torch("2.13.0", "13.0", False)}, "TORCH=cpu"),
    ("torch", Status.WARNING, {"commands": H100}, "TORCH=cuda"),
    ("torch", Status.PROBLEM, {"commands": H100, "torch": Torch("2.13.0", "13.0", False)}, "driver"),
    ("Compiler", Status.WARNING, {"programs": {}}, "g++"),
    ("Compiler", Status.WARNING, {"header": False}, "python3-dev"),
    ("make", Status.PROBLEM, {"commands": {}}, "apt install make"),
    ("make", Status.PROBLEM, {"commands": {("make", "--version"): Output(0, "GNU Make 3.80")}}, "3.81"),
    ("Hangul font", Status.WARNING, {"font_package": False}, "make install"),
    ("Browser", Status.WARNING, {"programs": {"g++": "g++"}}, "chromium"),
    ("CPU", Status.WARNING, {"cpuinfo": "model name : Old\nflags : sse2\n"}, "smoke"),
    ("GPU", Status.WARNING, {"commands": {GPU_QUERY: Output(0, "NVIDIA T4, 15360, 550.1")}}, "micro_batch_size"),
    ("GPU", Status.PROBLEM, {"commands": {("nvidia-smi",): Output(9, "Driver/library version mismatch")}}, "driver"),
    ("Memory", Status.PROBLEM, {"memory": (2 * GIB, GIB)}, "smoke"),
    ("Memory", Status.WARNING, {"memory": (6 * GIB, 5 * GIB)}, "smoke"),
    ("Memory", Status.WARNING, {"memory": (32 * GIB, GIB)}, "smoke"),
    ("Memory", Status.WARNING, {"memory": None}, "8 GB"),
    ("Shared memory", Status.WARNING, {"shm": 64 * 2**20}, "--shm-size"),
    ("Disk", Status.PROBLEM, {"free": GIB}, "clean-all"),
    ("Disk", Status.WARNING, {"free": 5 * GIB}, "prune"),
    ("Disk", Status.WARNING, {"free": None}, "10 GB"),
    ("Docker", Status.WARNING, {"programs": {"docker": "docker"}}, "start Docker"),
    ("Docker", Status.WARNING, {"programs": {"docker": "docker"}, "commands": {
        ("docker", "version", "--format", "{{.Server.Version}}"): Output(1, "", "permission denied while trying")}}, "usermod"),
    ("Docker", Status.WARNING, {"programs": {"docker": "docker"}, "commands": {
        **DOCKER_20, ("docker", "version", "--format", "{{.Client.Version}}"): Output(0, "28.2.2")}}, "buildx"),
    ("Docker GPU", Status.WARNING, {"commands": {
        **H100, ("docker", "info", "--format", "{{json .Runtimes}}"): Output(0, '{"runc":{}}')}}, "nvidia-container-toolkit"),
    ("Ports", Status.WARNING, {"busy_ports": (7860,)}, "PORT=7861"),
    ("Ports", Status.WARNING, {"busy_ports": (8888,)}, "8889"),
    ("Hub cache", Status.WARNING, {"environment": {"HF_HOME": "/locked"}, "unwritable": ("/locked",)}, "HF_HOME"),
    ("tiktoken cache", Status.WARNING, {"environment": {"TIKTOKEN_CACHE_DIR": "/locked"}, "unwritable": ("/locked",)}, "TIKTOKEN"),
]


@pytest.mark.parametrize(("name", "status", "facts", "remedy"), SYMPTOMS, ids=lambda v: v if isinstance(v, str) else "")
def test_each_fault_is_found_with_its_remedy(tmp_path, name, status, facts, remedy):
    found = {check.name: check for check in doctor.examine(FakeMachine(tmp_path, **facts))}[name]
    assert found.status is status
    assert remedy in found.remedy
    assert "\n" not in found.finding + found.remedy


def test_every_check_has_been_seen_to_complain():
    names = {check.name for check in doctor.examine(Machine())}
    assert names == {name for name, *_ in SYMPTOMS}


@pytest.mark.parametrize(("flags", "words"), [
    ("avx2 amx_bf16 avx512_bf16", "matrix units"), ("avx2 avx512_bf16", "avx512_bf16"), ("avx2", "float32"),
])
def test_cpu_says_which_arithmetic_is_fast(tmp_path, flags, words):
    check = doctor.check_cpu(FakeMachine(tmp_path, cpuinfo=f"model name : X\nflags : {flags}\n"))
    assert check.status is Status.OK and words in check.finding


def test_docker_is_fine_with_a_builder(tmp_path):
    commands = {**DOCKER_20, ("docker", "version", "--format", "{{.Client.Version}}"): Output(0, "28.2.2"),
                ("docker", "buildx", "version"): Output(0, "v0.20")}
    check = doctor.check_docker(FakeMachine(tmp_path, programs={"docker": "docker"}, commands=commands))
    assert check.status is Status.OK and "20.10.24" in check.finding


def test_inside_the_container_the_base_images_torch_is_no_drift(tmp_path):
    facts = {"environment": {"WORKSHOP_CONTAINER": "1"}, "versions": {"transformers": "5.23.0", "torch": "2.14.0a0"}}
    assert doctor.check_packages(FakeMachine(tmp_path, **facts)).status is Status.OK


def test_what_the_image_brings_is_not_missed_outside(tmp_path):
    facts = {"versions": {}, "torch": None, "font_package": False}
    outside = doctor.examine(FakeMachine(tmp_path, environment={"RUN": "docker"}, **facts))
    assert [check for check in outside if check.status is not Status.OK] == []


def test_exit_code_is_1_only_for_a_problem(tmp_path, capsys):
    assert doctor.main([], FakeMachine(tmp_path / "warning", programs={})) == 0
    assert "warnings, 0 problems" in capsys.readouterr().out
    assert doctor.main([], FakeMachine(tmp_path / "problem", free=0)) == 1
    output = capsys.readouterr().out
    assert "problem  Disk:" in output and "-> free some space" in output


def test_json_is_for_scripts(tmp_path, capsys):
    doctor.main(["--json"], FakeMachine(tmp_path))
    assert [row["status"] for row in json.loads(capsys.readouterr().out)] == ["ok"] * len(doctor.CHECKS)


def test_it_answers_where_nothing_is_installed(repository):
    """With the standard library alone: an interpreter that sees no site-packages."""
    code = "import sys; sys.path.insert(0, 'src'); from llm_workshop.doctor import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=repository, capture_output=True, text=True)
    assert "not installed yet" in done.stdout, done.stderr
    assert "Traceback" not in done.stderr


class TestThisMachine:
    """The questions themselves, asked of the machine the test runs on."""

    def test_port(self):
        import socket

        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            assert not Machine().port_is_free(server.getsockname()[1])

    def test_commands(self):
        assert Machine().run("no-such-program-of-ours") is None
        assert Machine().run(sys.executable, "-c", "import time; time.sleep(9)", seconds=0.2) is None
        assert Machine().run(sys.executable, "-c", "import sys; print(1); sys.exit(3)") == Output(3, "1")

    def test_memory_disk_and_folders(self, tmp_path):
        total, available = Machine().memory()
        assert 0 < available <= total
        assert Machine().free_bytes(tmp_path / "not" / "there") > 0
        assert Machine().size_bytes("/no/such/mount") is None
        assert Machine().writable(tmp_path / "would" / "be" / "made")
        assert Machine().read(tmp_path / "absent") is None

    def test_packages(self):
        assert Machine().version("pytest") == pytest.__version__
        assert Machine().version("no-such-package-of-ours") is None
        assert Machine().package_folder("no_such_module_of_ours") is None
        torch = Machine().torch()
        assert torch.version[0].isdigit()
