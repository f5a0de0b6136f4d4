"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]

# A busy machine is no fault of a test.
settings.register_profile("workshop", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("workshop")


# Started in the background of a script, a process ignores Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def shared_data_folder() -> Path:
    """Where the optional real data lies: $WORKSHOP_SHARED_DATA, else ../shared/data beside the repository."""
    return Path(os.environ.get("WORKSHOP_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data pack; tests that need it skip loudly where it is absent."""
    folder = shared_data_folder()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set WORKSHOP_SHARED_DATA to run this test")
    return folder


@pytest.fixture(scope="session", autouse=True)
def curation_models(tmp_path_factory):
    """Models that curation rules train at first use: once for all tests, and not in the checkout."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ.setdefault("CURATION_MODELS", str(shared / "curation-models"))


@pytest.fixture(autouse=True)
def no_force_left_behind():
    """``--force`` sets FORCE for the rest of the process: the next test must not build everything anew."""
    before = os.environ.get("FORCE")
    yield
    os.environ.pop("FORCE", None)
    if before is not None:
        os.environ["FORCE"] = before


def pytest_generate_tests(metafunc):
    """``name`` runs over the CONFIGS of a test class (see ``support.parity``)."""
    configs = getattr(metafunc.cls, "CONFIGS", None)
    if configs and "name" in metafunc.fixturenames:
        metafunc.parametrize("name", list(configs))
