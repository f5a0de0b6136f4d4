"""Finding a Triton server on this machine, and what its Python backend needs around it.

There are two: the whole of it in NVIDIA's images (/opt/tritonserver), and the one that the package nvidia-pytriton
bundles, which has the Python backend alone and runs without a GPU or a container. The package itself is never
imported: it lives in the triton environment, whose NumPy is older than ours.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SYSTEM_SERVER = Path("/opt/tritonserver/bin/tritonserver")
# The checkout of this file, where `make env-triton` puts the environment; an image has it elsewhere and says where.
TRITON_ENVIRONMENT = Path(os.environ.get("WORKSHOP_TRITON_ENVIRONMENT") or Path(__file__).resolve().parents[4] / ".envs" / "triton")

# Run by the environment's own Python: what only it knows.
QUESTIONS = """
import importlib.metadata, json, sys, sysconfig
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "packages": sysconfig.get_path("purelib"),
    "numpy": importlib.metadata.version("numpy"),
    "library": sysconfig.get_config_var("INSTSONAME") or "",
    "folders": [sys.base_prefix + "/lib", sysconfig.get_config_var("LIBDIR") or "",
                "/usr/lib/" + (sysconfig.get_config_var("MULTIARCH") or "")],
}))
"""


@dataclass(frozen=True)
class Installation:
    """A Triton server that can be started.

    ``program`` is its binary. The bundled one has the rest: ``backend_files`` go into the folder of its Python
    backend, ``library_folders`` are searched for shared libraries, and the Python of ``environment`` runs the models.
    """

    program: Path
    environment: Path | None = None
    backend_files: tuple[Path, ...] = ()
    library_folders: tuple[Path, ...] = ()

    def make_backends(self, folder: Path) -> Path | None:
        """Put the Python backend together in ``folder``; None where the server has its own backends."""
        if not self.backend_files:
            return None
        backend = folder / "python"
        backend.mkdir(parents=True)
        for file in self.backend_files:
            shutil.copy(file, backend)  # with its mode: the stub is a program
        return folder

    def variables(self, inherited: dict[str, str]) -> dict[str, str]:
        """The server's environment variables, from those of this process."""
        variables = dict(inherited)
        if self.environment is None:
            return variables
        # The stub finds its Python through PATH; what points to another Python's packages must not reach it.
        for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
            variables.pop(name, None)
        variables["PATH"] = os.pathsep.join([str(self.environment / "bin"), variables.get("PATH", os.defpath)])
        folders = [*map(str, self.library_folders), *filter(None, [variables.get("LD_LIBRARY_PATH")])]
        variables["LD_LIBRARY_PATH"] = os.pathsep.join(folders)
        return variables


def find_installation(environment: Path = TRITON_ENVIRONMENT, system: Path = SYSTEM_SERVER) -> Installation:
    """The server of NVIDIA's image if we are in it, else the one of the triton environment.

    Raises ValueError, with the cure, if there is none or if it cannot serve Python models.
    """
    if system.exists():
        return Installation(system)
    python = environment / "bin" / "python"
    if not (environment / ".installed").exists() or not python.exists():
        raise ValueError(f"no Triton server here: neither {system} nor the environment {environment}: run `make env-triton`")
    return bundled(environment, _ask(python))


def bundled(environment: Path, facts: dict) -> Installation:
    """The installation in ``environment``, of whose Python ``facts`` are the answers to QUESTIONS."""
    if int(facts["numpy"].split(".")[0]) >= 2:
        raise ValueError(
            f"NumPy {facts['numpy']} in {environment}: Triton's Python backend corrupts its tensors without an error; "
            "remove that folder and run `make env-triton`"
        )
    packages = Path(facts["packages"])
    bundle = packages / "pytriton" / "tritonserver"
    backend, stubs = bundle / "backends" / "python", bundle / "python_backend_stubs" / facts["version"]
    installation = Installation(
        program=bundle / "bin" / "tritonserver",
        environment=environment,
        backend_files=(
            backend / "libtriton_python.so",
            backend / "triton_python_backend_utils.py",
            stubs / "triton_python_backend_stub",
        ),
        library_folders=(_folder_of_libpython(environment, facts), packages / "nvidia_pytriton.libs"),
    )
    for file in (installation.program, *installation.backend_files):
        if not file.exists():
            raise ValueError(f"the Triton server is incomplete, {file} is missing: remove {environment} and run `make env-triton`")
    return installation


def _folder_of_libpython(environment: Path, facts: dict) -> Path:
    """Where this Python's shared library is.

    The library of another 3.x.y of the same name loads too, and fails later inside the standard library. So this
    Python's own folder comes first, and a Python without the library is refused rather than helped out.
    """
    for folder in filter(None, facts["folders"]):
        if facts["library"].startswith("libpython") and ".so" in facts["library"] and Path(folder, facts["library"]).exists():
            return Path(folder)
    raise ValueError(
        f"the Python {facts['version']} of {environment} has no shared library libpython{facts['version']}.so, which "
        f"Triton's Python backend loads: install it (Debian/Ubuntu: apt install libpython{facts['version']}), or remove "
        "that folder and run `make env-triton PYTHON_HOST=` with a Python built with --enable-shared"
    )


def _ask(python: Path) -> dict:
    try:
        done = subprocess.run([python, "-I", "-c", QUESTIONS], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ValueError(f"{python} does not work ({error}): remove {python.parents[1]} and run `make env-triton`") from None
    return json.loads(done.stdout)
