"""A page that watches training runs while they go: curves, samples, time to go, read from their metrics.

It reads files and nothing else, so it may come and go while a run is at work, on any run of any week that leaves a
``metrics.jsonl``.  The standard library serves it, on this machine alone.
"""

from __future__ import annotations

import functools
import itertools
import json
import statistics
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from llm_workshop.artifacts import Artifacts, make_command
from llm_workshop.pretraining.run_log import SAMPLES
from llm_workshop.pretraining.watch_page import page
from llm_workshop.progress import korean_line
from scratch_llm.io import atomic_write
from scratch_llm.training.metrics import read_records

_MOST_POINTS = 1200  # more than a screen has columns
_STILL_AFTER = 90  # seconds without a new step until a run counts as stopped


@dataclass(frozen=True)
class WatchedRun:
    """A run found on disk: its name, its folder, whether it is finished (and has a manifest)."""

    name: str
    folder: Path
    finished: bool

    @property
    def changed(self) -> float:
        return (self.folder / "metrics.jsonl").stat().st_mtime


def find_runs(root: Path) -> list[WatchedRun]:
    """Runs under ``artifacts/<run>/``, those at work included, the latest first."""
    runs = [WatchedRun(f"{path.parent.name} (.work)", path.parent, (path.parent / "manifest.json").is_file())
            for path in root.glob(".work/**/metrics.jsonl")]
    runs += [WatchedRun(path.parent.name, path.parent, True) for path in root.glob("*/metrics.jsonl")]
    return sorted(runs, key=lambda run: -run.changed)


def watched(root: Path, name: str | None = None) -> dict:
    """What the page shows of a run, the latest by default; ``runs`` names them all."""
    runs = find_runs(root)
    chosen = next((run for run in runs if run.name == name), runs[0] if runs else None)
    if chosen is None:
        return {"runs": [], "records": [], "samples": [], "state": "none"}
    records = read_records(chosen.folder / "metrics.jsonl")
    facts = _facts(chosen.folder)
    steps = facts.get("steps") or (records[-1]["step"] if chosen.finished and records else None)
    state = "finished" if chosen.finished else "running" if time.time() - chosen.changed < _STILL_AFTER else "stopped"
    return {
        "runs": [run.name for run in runs], "name": chosen.name, "state": state, "steps": steps, "summary": korean_line(facts.get("summary", "")),
        "seconds_to_go": _to_go(records, steps) if state == "running" else None,
        "records": thinned(records), "samples": read_records(chosen.folder / SAMPLES)[-8:],
    }


def thinned(records: list[dict], most: int = _MOST_POINTS) -> list[dict]:
    """At most about ``most`` records, evenly; none with an evaluation or a bad step is left out, nor the last."""
    stride = -(-len(records) // most)
    return [record for number, record in enumerate(records)
            if number % stride == 0 or number == len(records) - 1 or "valid_loss" in record or record.get("bad_steps")]


def _to_go(records: list[dict], steps: int | None) -> float | None:
    """From the median of the latest steps: one that was evaluated at does not frighten anybody."""
    times = [record["seconds"] for record in records[-30:] if "seconds" in record]
    if steps is None or len(times) < 3:
        return None
    return statistics.median(b - a for a, b in itertools.pairwise(times)) * (steps - records[-1]["step"])


def _facts(folder: Path) -> dict:
    try:
        return json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_page(root: Path, path: Path) -> None:
    """The page as it is now, with its figures in it: to keep or to send."""
    with atomic_write(path) as stream:
        stream.write(page(watched(root)))


class WatchServer(ThreadingHTTPServer):
    """Serves the page of the runs under ``root``; port 0 takes a free one (``server_port`` tells which)."""

    daemon_threads = True

    def __init__(self, root: Path, host: str = "127.0.0.1", port: int = 7870):
        try:
            super().__init__((host, port), functools.partial(_Handler, root))
        except OSError as error:
            raise OSError(error.errno, f"cannot serve at {host}:{port} ({error.strerror}): choose another with --port") from error


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, root: Path, *arguments):
        self.root = root
        super().__init__(*arguments)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/":
            self._send(page(None).encode(), "text/html; charset=utf-8")
        elif url.path == "/data":
            name = parse_qs(url.query).get("run", [None])[0]
            self._send(json.dumps(watched(self.root, name), ensure_ascii=False).encode(), "application/json")
        else:
            self.send_error(404)

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments) -> None:
        """The terminal belongs to the one who watches."""


def elsewhere(artifacts: Artifacts) -> str:
    """Where there are runs of another SCALE or DATA, and how to look at them; empty where there are none."""
    found = [folder for folder in sorted(artifacts.root.parent.glob("*/")) if folder != artifacts.root and find_runs(folder)]
    if not found:
        return ""
    latest = max(found, key=lambda folder: find_runs(folder)[0].changed)
    scale, _, data = latest.name.partition("-")
    dials = f"SCALE={scale}" + (f" DATA={data.replace('+', ',')}" if data else "")
    return f"; there are runs under {', '.join(folder.name for folder in found)}: 'make watch {dials}' shows the latest of them"


def watch(artifacts: Artifacts, port: int, out: str | None = None, host: str = "127.0.0.1") -> int:
    """Serve until Ctrl-C, or write the page once to ``out``."""
    if out is not None:
        if not find_runs(artifacts.root):
            raise ValueError(f"no run under {artifacts.root}: start one with '{make_command(artifacts.settings, 'week5-pretrain')}'"
                             + elsewhere(artifacts))
        write_page(artifacts.root, Path(out))
        print(f"page: {out}")
        return 0
    with WatchServer(artifacts.root, host, port) as server:
        print(f"watching {artifacts.root} at http://{host}:{server.server_port} (Ctrl-C ends the page, not the training)", flush=True)
        if not find_runs(artifacts.root):
            print(f"no run there yet: the page shows one as soon as it has begun{elsewhere(artifacts)}", flush=True)
        server.serve_forever()
    return 0
