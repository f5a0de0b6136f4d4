"""The Triton server as a child process: what it refuses, what it leaves behind, and one real server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from llm_workshop.serving.triton import server as server_module
from llm_workshop.serving.triton.installation import Installation, bundled, find_installation
from llm_workshop.serving.triton.server import Ports, TritonServer, command_line, tail

CONFIGURATION = """\
name: "double"
backend: "python"
max_batch_size: 0
input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
MODEL = """\
import triton_python_backend_utils as triton

class TritonPythonModel:
    def execute(self, requests):
        doubled = [2 * triton.get_input_tensor_by_name(request, "IN").as_numpy() for request in requests]
        return [triton.InferenceResponse([triton.Tensor("OUT", array)]) for array in doubled]
"""

# Stands for tritonserver: serves "ready" as long as it is asked to, with a child that never ends by itself.
FAKE_SERVER = """\
#!{python}
import http.server, os, signal, subprocess, sys, time
behaviour = os.environ.get("FAKE", "")
port = next(int(a.partition("=")[2]) for a in sys.argv if a.startswith("--http-port"))
subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"])
print("\\n".join(f"line {{i}}" for i in range(40)), flush=True)
if behaviour == "fails":
    sys.exit("E: failed to load 'double'")
signal.signal(signal.SIGINT, signal.SIG_IGN if behaviour == "deaf" else lambda *_: os._exit(0))
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(400 if behaviour == "hangs" else 200); self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", port), Ready).serve_forever()
"""


@pytest.fixture
def ports() -> Ports:
    sockets = [socket.socket() for _ in range(3)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    numbers = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return Ports(*numbers)


@pytest.fixture
def repository_of_models(tmp_path) -> Path:
    folder = tmp_path / "models"
    (folder / "double" / "1").mkdir(parents=True)
    (folder / "double" / "config.pbtxt").write_text(CONFIGURATION)
    (folder / "double" / "1" / "model.py").write_text(MODEL)
    return folder


@pytest.fixture
def fake(tmp_path) -> Installation:
    program = tmp_path / "tritonserver"
    program.write_text(FAKE_SERVER.format(python=sys.executable))
    program.chmod(0o755)
    return Installation(program)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process, of whatever group, that was started with a path below ``folder``."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"] and any(str(folder) in part for part in process.info["cmdline"]):
            found.append(process)
    return found


def group(server: TritonServer) -> list[int]:
    leader = server._process.pid
    return [p.pid for p in psutil.process_iter() if _group_of(p.pid) == leader]


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def gone(pids: list[int], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            return True
        time.sleep(0.05)
    return False


# --- before the start ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["http", "grpc", "metrics"])
def test_a_port_in_use_is_one_line_before_the_start(ports, name, repository_of_models, tmp_path, fake):
    with socket.socket() as other:
        other.bind(("127.0.0.1", getattr(ports, name)))
        other.listen()
        with pytest.raises(OSError, match=rf"{name} port {getattr(ports, name)} .*Address already in use.*choose another") as error:
            TritonServer(repository_of_models, tmp_path / "logs", ports=ports, installation=fake).start()
    assert "\n" not in str(error.value)
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(("ports", "words"), [
    (Ports(http=0), "http port 0 is no port: use 1024"),
    (Ports(grpc=70000), "grpc port 70000 is no port"),
    (Ports(http=8001), "must differ"),
])
def test_impossible_ports(ports, words):
    with pytest.raises(ValueError, match=words):
        ports.check()


def test_a_folder_without_models(tmp_path, fake):
    with pytest.raises(ValueError, match=r"no model in .*config\.pbtxt"):
        TritonServer(tmp_path, tmp_path / "logs", installation=fake).start()


def test_without_any_server_the_cure_is_named(tmp_path):
    with pytest.raises(ValueError, match="run `make env-triton`"):
        find_installation(tmp_path / "absent", system=tmp_path / "absent")


def test_the_server_of_an_image_wins_and_keeps_its_environment(tmp_path, fake):
    found = find_installation(tmp_path / "absent", system=fake.program)
    assert found == fake
    assert found.make_backends(tmp_path / "backends") is None
    assert found.variables({"PYTHONPATH": "x", "PATH": "y"}) == {"PYTHONPATH": "x", "PATH": "y"}


@pytest.fixture
def facts(tmp_path) -> dict:
    """What the Python of a bundle in tmp_path says, and the files that it is made of."""
    packages = tmp_path / "packages"
    bundle = packages / "pytriton" / "tritonserver"
    for name in ("bin/tritonserver", "backends/python/libtriton_python.so", "backends/python/triton_python_backend_utils.py",
                 "python_backend_stubs/3.11/triton_python_backend_stub"):
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).touch()
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libpython3.11.so.1.0").touch()
    return {"version": "3.11", "packages": str(packages), "numpy": "1.26.4", "library": "libpython3.11.so.1.0",
            "folders": ["", str(tmp_path / "elsewhere"), str(tmp_path / "lib")]}


def test_a_bundle_gets_its_backend_and_its_variables(tmp_path, facts):
    installation = bundled(tmp_path / "env", facts)
    backends = installation.make_backends(tmp_path / "backends")
    assert {f.name for f in (backends / "python").iterdir()} == {
        "libtriton_python.so", "triton_python_backend_utils.py", "triton_python_backend_stub"}
    variables = installation.variables({"PATH": "/bin", "PYTHONPATH": "/other", "LD_LIBRARY_PATH": "/more", "HOME": "/h"})
    assert variables == {"PATH": f"{tmp_path}/env/bin:/bin", "HOME": "/h",
                         "LD_LIBRARY_PATH": f"{tmp_path}/lib:{tmp_path}/packages/nvidia_pytriton.libs:/more"}


@pytest.mark.parametrize(("change", "words"), [
    ({"numpy": "2.4.6"}, "NumPy 2.4.6 .*corrupts its tensors.*make env-triton"),
    ({"library": "libpython3.11.a"}, "no shared library libpython3.11.so.*apt install libpython3.11"),
    ({"folders": []}, "no shared library"),
    ({"version": "3.7"}, "incomplete, .*stubs/3.7.*make env-triton|no shared library"),
])
def test_a_bundle_that_would_fail_later_is_refused(tmp_path, facts, change, words):
    with pytest.raises(ValueError, match=words):
        bundled(tmp_path / "env", facts | change)


def test_the_command_line_listens_on_loopback_only(tmp_path, fake):
    command = command_line(fake, tmp_path, Ports(1, 2, 3), tmp_path / "b", "prefix-", 5)
    assert command[:2] == [str(fake.program), f"--model-repository={tmp_path}"]
    assert [part for part in command if "address" in part] == [f"--{n}-address=127.0.0.1" for n in ("http", "grpc", "metrics")]
    assert {"--http-port=1", "--grpc-port=2", "--metrics-port=3", f"--backend-directory={tmp_path / 'b'}"} <= set(command)
    assert not any("backend-directory" in part for part in command_line(fake, tmp_path, Ports(), None, "prefix-", 5))


def test_the_tail_of_a_log(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"one\n\ntwo \xff\n+--+\n| a table |\n\n" + "셋\n".encode())
    assert tail(log, 2) == "two \ufffd\n셋"
    assert "No such file" in tail(tmp_path / "absent")
    log.write_text(
        'W1121 18:10:38.003880 17524 pinned_memory_manager.cc:273] "Unable to allocate pinned system memory, pinned memory '
        'pool will not be available: CUDA driver version is insufficient for CUDA runtime version"\n'
        'I1121 18:10:38.004003 17524 cuda_memory_manager.cc:117] "CUDA memory pool disabled"\n'
        'E1121 18:10:38.004125 17524 server.cc:241] "CudaDriverHelper has not been initialized."\n'
        "E1121 18:10:39 1 model.cc:1] no weights in base-model\n"
    )
    assert tail(log) == "E1121 18:10:39 1 model.cc:1] no weights in base-model", "what stands in every log is no cause"


# --- the life of the process, with a stand-in for the server -----------------------------------------------------


def test_start_and_stop_leave_nothing(repository_of_models, tmp_path, ports, fake):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "triton.log").write_text("the time before")
    with TritonServer(repository_of_models, tmp_path / "logs", ports=ports, installation=fake, stop_seconds=5) as server:
        pids, folder = group(server), server._folder
        assert len(pids) == 3, "guard, server, and the child of the server"
        region = server_module.SHARED_MEMORY / f"{server._shared_memory}left-behind"
        region.touch()
        server.check()
        with pytest.raises(RuntimeError, match="started already"):
            server.start()
    assert gone(pids, 1) and not folder.exists() and not region.exists()
    assert not server.is_ready()
    with pytest.raises(RuntimeError, match="not running"):
        server.check()
    server.stop()  # twice is harmless
    assert "line 39" in (tmp_path / "logs" / "triton.log").read_text()
    assert (tmp_path / "logs" / "triton.previous.log").read_text() == "the time before"


def test_a_server_that_fails_shows_the_end_of_its_log(repository_of_models, tmp_path, ports, fake, monkeypatch):
    monkeypatch.setenv("FAKE", "fails")
    with pytest.raises(RuntimeError, match="exit code 1") as error:
        TritonServer(repository_of_models, tmp_path / "logs", ports=ports, installation=fake, stop_seconds=1).start()
    assert "failed to load 'double'" in str(error.value) and "line 39" in str(error.value) and "line 5\n" not in str(error.value)
    assert not processes_of(tmp_path)


def test_a_server_that_hangs_at_the_start_is_killed(repository_of_models, tmp_path, ports, fake, monkeypatch):
    monkeypatch.setenv("FAKE", "hangs")
    with pytest.raises(RuntimeError, match=r"not ready after 2 s(.|\n)*line 39"):
        TritonServer(repository_of_models, tmp_path / "logs", ports=ports, installation=fake, start_seconds=2, stop_seconds=1).start()
    assert not processes_of(tmp_path)


def test_a_server_deaf_to_sigint_is_killed(repository_of_models, tmp_path, ports, fake, monkeypatch):
    monkeypatch.setenv("FAKE", "deaf")
    with TritonServer(repository_of_models, tmp_path / "logs", ports=ports, installation=fake, stop_seconds=1) as server:
        pids, started = group(server), time.monotonic()
        server.stop()
    assert gone(pids, 1) and 1 <= time.monotonic() - started < 8


def test_a_dead_server_is_noticed(repository_of_models, tmp_path, ports, fake):
    with TritonServer(repository_of_models, tmp_path / "logs", ports=ports, installation=fake, stop_seconds=1) as server:
        child = next(p for p in processes_of(fake.program) if p.ppid() == server._process.pid)
        child.kill()
        server._process.wait(10)
        with pytest.raises(RuntimeError, match=r"ended with exit code 137(.|\n)*line 39"):
            server.check()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_ends_with_the_process_that_started_it(repository_of_models, tmp_path, ports, fake, number):
    script = (
        "import os, signal, sys, time; from pathlib import Path\n"
        "from llm_workshop.serving.triton.server import *\n"
        f"server = TritonServer(Path({str(repository_of_models)!r}), Path({str(tmp_path / 'logs')!r}), ports={ports!r},\n"
        f"    installation=Installation(Path({str(fake.program)!r})), stop_seconds=1)\n"
        "server.start(); print(server._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as starter:
        leader = int(starter.stdout.readline())
        pids = [p.pid for p in psutil.process_iter() if _group_of(p.pid) == leader]
        assert len(pids) == 3, "guard, server, and the child of the server, which ignores SIGINT"
        starter.send_signal(number)
    assert gone(pids)


# --- a real server -------------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Installation:
    try:
        return find_installation()
    except ValueError as error:
        pytest.skip(f"NOT TESTED on a real Triton server: {error}")


def doubled_over_grpc(address: str, values: list[float]) -> list[float]:
    """By the client of the core environment, whose NumPy is another than the server's."""
    import numpy as np
    import tritonclient.grpc as triton

    tensor = triton.InferInput("IN", [len(values)], "FP32")
    tensor.set_data_from_numpy(np.array(values, np.float32))
    with triton.InferenceServerClient(address, channel_args=[("grpc.enable_http_proxy", 0)]) as client:
        return client.infer("double", [tensor], client_timeout=20).as_numpy("OUT").tolist()


@pytest.mark.slow
def test_a_real_server_answers_and_leaves_no_process(real, repository_of_models, tmp_path, ports):
    with TritonServer(repository_of_models, tmp_path / "logs", ports=ports, installation=real, start_seconds=90) as server:
        pids = group(server)
        body = {"inputs": [{"name": "IN", "shape": [3], "datatype": "FP32", "data": [1, 2.5, -3]}]}
        request = urllib.request.Request(f"http://{server.http_address}/v2/models/double/infer", json.dumps(body).encode())
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
            assert json.load(answer)["outputs"][0]["data"] == [2, 5, -6]
        assert doubled_over_grpc(server.grpc_address, [1, 2.5]) == [2, 5]
        assert len(pids) >= 3, "guard, server, the process of the model"
        process, started = server._process, time.monotonic()
    assert process.returncode == 0 and time.monotonic() - started < 15, "it ends by SIGINT, without a kill"
    assert gone(pids, 1)
    assert not list(server_module.SHARED_MEMORY.glob(f"{server._shared_memory}*"))


@pytest.mark.slow
def test_a_real_server_that_cannot_load_a_model_says_why(real, repository_of_models, tmp_path, ports):
    (repository_of_models / "double" / "1" / "model.py").write_text("raise ValueError('모델이 고장')\n")
    with pytest.raises(RuntimeError, match="모델이 고장"):
        TritonServer(repository_of_models, tmp_path / "logs", ports=ports, installation=real, start_seconds=90).start()
    assert not processes_of(repository_of_models)
