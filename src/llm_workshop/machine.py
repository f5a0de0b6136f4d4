"""What the doctor asks a machine. Standard library only: it must answer where nothing is installed yet.

Every question is a small method, so that a test can hand the doctor a machine that does not exist.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Output:
    """What a command said: its exit code, standard output and standard error."""

    code: int
    text: str
    errors: str = ""


@dataclass(frozen=True)
class Torch:
    """The installed torch: version, the CUDA it was built for (None on CPU builds), whether it sees a GPU."""

    version: str
    cuda: str | None
    sees_gpu: bool


class Machine:
    """This machine. Methods return None where the question has no answer here."""

    repository = Path(__file__).resolve().parents[2]

    @property
    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    @property
    def python_version(self) -> tuple[int, int, int]:
        return sys.version_info[:3]

    @property
    def system(self) -> str:
        """``Linux`` or ``Darwin``."""
        return platform.system()

    @property
    def cores(self) -> int:
        """Processors this process may use (a container may have fewer than the machine)."""
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1

    def run(self, *command: str, seconds: float = 20) -> Output | None:
        """Run a program; None if it does not exist or does not end in time."""
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return Output(done.returncode, done.stdout.strip(), done.stderr.strip())

    def which(self, *programs: str) -> str | None:
        """The first of the programs that is on PATH."""
        return next(filter(None, map(shutil.which, programs)), None)

    def read(self, path: str | Path) -> str | None:
        try:
            return Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def version(self, package: str) -> str | None:
        """Installed version of a distribution."""
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    def package_folder(self, module: str) -> Path | None:
        """Where a module is installed, without importing it."""
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            return None
        return Path(spec.origin).parent if spec and spec.origin else None

    def torch(self) -> Torch | None:
        """The installed torch, or None. Raises ``ImportError`` or ``OSError`` if it is there but broken."""
        if self.package_folder("torch") is None:
            return None
        torch = importlib.import_module("torch")
        return Torch(torch.__version__, torch.version.cuda, torch.cuda.is_available())

    def memory(self) -> tuple[int, int] | None:
        """Bytes in all (the container's limit if that is lower) and bytes available now."""
        if self.system == "Darwin":
            total = self.run("sysctl", "-n", "hw.memsize")
            return (int(total.text), int(total.text)) if total and total.text.isdigit() else None
        facts = {}
        for line in (self.read("/proc/meminfo") or "").splitlines():
            key, _, value = line.partition(":")
            facts[key] = value.split()[0] if value.split() else "0"
        if "MemTotal" not in facts:
            return None
        total, available = int(facts["MemTotal"]) * 1024, int(facts.get("MemAvailable", facts["MemTotal"])) * 1024
        for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
            limit = (self.read(path) or "").strip()
            if limit.isdigit():
                total = min(total, int(limit))
        return total, min(total, available)

    def free_bytes(self, path: str | Path) -> int | None:
        """Bytes free on the file system of ``path`` or of its nearest parent that exists."""
        path = Path(path)
        while not path.exists() and path != path.parent:
            path = path.parent
        try:
            return shutil.disk_usage(path).free
        except OSError:
            return None

    def size_bytes(self, path: str | Path) -> int | None:
        """Size of the file system mounted at ``path``; None if there is none."""
        try:
            return shutil.disk_usage(path).total
        except OSError:
            return None

    def writable(self, folder: str | Path) -> bool:
        """Whether files can be made in ``folder``, or in the parent where it would be made."""
        folder = Path(folder)
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)

    def port_is_free(self, port: int) -> bool:
        """Whether a server could listen on 127.0.0.1:``port`` now."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind(("127.0.0.1", port))
            except OSError:
                return False
        return True

    def python_header(self) -> bool:
        """Whether Python.h is there, which compiled extensions (torch.compile) include."""
        return Path(sysconfig.get_path("include"), "Python.h").exists()

    def home(self, *parts: str) -> Path:
        return Path.home().joinpath(*parts)
