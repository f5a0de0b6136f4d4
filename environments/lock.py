"""Rewrite environments/core.txt from an installed environment: what pyproject.toml needs, and nothing else.

    .venv/bin/python environments/lock.py            rewrite
    .venv/bin/python environments/lock.py --check    exit 1 if it would change
    ... --environment triton                         the same for environments/triton.txt, from .envs/triton

The set is the closure of pyproject.toml's requirements over the installed packages' own requirements, so
that packages somebody installed for an experiment do not leak into everyone's pins. A local version
("2.13.0+cpu") loses its suffix: which build is installed is for install.py to choose.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from pathlib import Path

from install import ENVIRONMENTS, REPOSITORY, canonical, folder_of, pins_of, requirements
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

HEADER = """\
# Every package of the {environment} environment, pinned; tested on Python {tested}.
# Written by `python environments/lock.py{option}`; used as pip constraints by environments/install.py.
"""
TESTED = {"core": "3.11, 3.12 and 3.13", "triton": "3.11", "curate": "3.11", "nemo": "3.11", "nemorun": "3.11"}
INSTALLER = ("pip", "setuptools")
# Needed by some Python version other than the one that locks: environment -> name -> (version, marker).
ELSEWHERE = {"core": {"audioop-lts": ("0.2.2", 'python_version >= "3.13"')}, "triton": {}, "curate": {}, "nemo": {}, "nemorun": {}}

# The pins must suit the oldest Python we promise: Debian 12 has 3.11.2.
OLDEST_PYTHON = "3.11.2"
# Held back, because newer ones do not: name -> version.
HELD = {"soupsieve": "2.10"}


def installed(name: str, folder: Path) -> importlib.metadata.Distribution:
    """The distribution in that environment, whose Python is the version that runs this.

    Raises PackageNotFoundError if it is not there.
    """
    packages = [str(path) for path in folder.glob(f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages")]
    for distribution in importlib.metadata.distributions(name=name, path=packages):
        return distribution
    raise importlib.metadata.PackageNotFoundError(name)


def closure(wanted: list[str], folder: Path) -> dict[str, str]:
    """Distribution name -> version for everything that `wanted` needs in the environment at `folder`."""
    found: dict[str, str] = {}
    queue = [Requirement(text) for text in wanted]
    asked = {canonical(requirement.name) for requirement in queue}
    visited: set[tuple[str, frozenset[str]]] = set()
    while queue:
        requirement = queue.pop()
        key = (canonical(requirement.name), frozenset(requirement.extras))
        cuda = key[0].startswith(("nvidia-", "cuda-")) or key[0] == "triton"
        if key in visited or (cuda and key[0] not in asked):
            continue  # torch pins its own CUDA packages exactly
        visited.add(key)
        distribution = installed(requirement.name, folder)
        found[distribution.metadata["Name"]] = version_of(distribution)
        for text in distribution.requires or []:
            needed = Requirement(text)
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                queue.append(needed)
    return found


def version_of(distribution: importlib.metadata.Distribution) -> str:
    """The version to pin. Raises ValueError for one that the oldest Python cannot install."""
    name, version = distribution.metadata["Name"], distribution.version.partition("+")[0]
    if canonical(name) in HELD:
        return HELD[canonical(name)]
    needs = distribution.metadata.get("Requires-Python") or ""
    if not SpecifierSet(needs).contains(OLDEST_PYTHON):
        raise ValueError(f"{name} {version} needs Python {needs}, not {OLDEST_PYTHON}: name an older one in HELD")
    return version


def locked(environment: str, folder: Path) -> str:
    pins = closure([*requirements(REPOSITORY / "pyproject.toml", environment), *INSTALLER], folder)
    lines = [f"{name}=={version}" for name, version in pins.items()]
    present = {canonical(name) for name in pins}
    lines += [f"{name}=={v}; {marker}" for name, (v, marker) in ELSEWHERE[environment].items() if name not in present]
    option = "" if environment == "core" else f" --environment {environment}"
    header = HEADER.format(environment=environment, tested=TESTED[environment], option=option)
    return header + "\n".join(sorted(lines, key=str.lower)) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--environment", choices=ENVIRONMENTS, default="core", help="default: %(default)s")
    options = parser.parse_args()
    path = pins_of(options.environment)
    # Core is whatever runs this (in the container it is not .venv); the others are beside it.
    folder = Path(sys.prefix) if options.environment == "core" else folder_of(options.environment)
    try:
        text = locked(options.environment, folder)
    except importlib.metadata.PackageNotFoundError as error:
        target = "install" if options.environment == "core" else f"env-{options.environment}"
        print(f"error: {error.name} is not installed: run `make {target} RUN=local` first", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return 0
    if options.check:
        print(f"error: {path} is out of date: run `python environments/lock.py`", file=sys.stderr)
        return 1
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    print(f"{path}: {text.count('==')} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
