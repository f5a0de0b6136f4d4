"""Ratings of answers in one SQLite file that several pages may write at once.

What is kept: when, the model with its artifact and commit, the messages that were sent, the answer, how it was
sampled (with the seed), thumb up or down, the correction that somebody wrote, and a random number that tells the
browser tabs of a page apart.  No name, address, cookie or anything else about a person; what people *type* is kept
as it is, so tell them not to rate answers to messages that hold personal data.

Durability: write-ahead log with ``synchronous=FULL``, so that a rating that was acknowledged outlives ``kill -9`` and
a power cut (https://www.sqlite.org/wal.html).  A file that is damaged is moved aside whole, never deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from llm_workshop.artifacts import Artifacts

#: Each script leads from the version of its index to the next; never change one that was released, add another.
MIGRATIONS = (
    """
    CREATE TABLE feedback (
        id TEXT PRIMARY KEY,
        created TEXT NOT NULL,
        updated TEXT NOT NULL,
        tab TEXT NOT NULL,
        mode TEXT NOT NULL CHECK (mode IN ('chat', 'complete')),
        model TEXT NOT NULL,
        artifact TEXT,
        git_commit TEXT,
        messages TEXT NOT NULL CHECK (json_valid(messages)),
        answer TEXT NOT NULL,
        sampling TEXT NOT NULL CHECK (json_valid(sampling)),
        rating INTEGER NOT NULL CHECK (rating IN (-1, 1)),
        correction TEXT
    );
    """,
    "CREATE INDEX feedback_by_prompt ON feedback (messages, rating);",
)

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
#: Seconds that a writer waits for another one.
BUSY_SECONDS = 10.0


@dataclass(frozen=True)
class Feedback:
    """One rated answer; ``rating`` is 1 (thumb up) or -1, ``mode`` "chat" or "complete"."""

    id: str
    model: str
    messages: list[dict[str, str]]
    answer: str
    rating: int
    tab: str = ""
    mode: str = "chat"
    correction: str | None = None
    artifact: str | None = None
    commit: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    updated: str = ""

    def __post_init__(self):
        if self.rating not in (-1, 1):
            raise ValueError(f"rating={self.rating!r}: use 1 (thumb up) or -1 (thumb down)")
        if self.mode not in ("chat", "complete"):
            raise ValueError(f"mode={self.mode!r}: use chat or complete")
        if not self.id:
            raise ValueError("a rating needs the id of its answer")


class Summary(NamedTuple):
    """Counts of one model's ratings."""

    model: str
    up: int
    down: int
    corrections: int
    last: str


def feedback_path(artifacts: Artifacts) -> Path:
    """Where the ratings of a run are kept."""
    return artifacts.root / "serving" / "feedback.sqlite"


class FeedbackStore:
    """The file at ``path``, made at the first rating.  Each call opens it anew, so any thread or process may call.

    Raises ValueError for a file of a newer version, OSError where the file cannot be used.
    """

    def __init__(self, path: str | Path, migrations: tuple[str, ...] = MIGRATIONS):
        self.path, self.migrations = Path(path), migrations

    def rate(self, feedback: Feedback) -> None:
        """Store a rating; one of the same answer is replaced and keeps its first time."""
        row = _row(feedback)
        names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
        changes = ", ".join(f"{name} = excluded.{name}" for name in row if name not in ("id", "created"))
        sql = f"INSERT INTO feedback ({names}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {changes}"
        self._run(lambda db: db.execute(sql, row))

    def withdraw(self, answer_id: str) -> bool:
        """Forget the rating of an answer; False if there was none."""
        if not self.path.exists():
            return False
        return self._run(lambda db: db.execute("DELETE FROM feedback WHERE id = ?", (answer_id,)).rowcount) > 0

    def all(self) -> list[Feedback]:
        """Every rating, oldest first; answers rated in the same moment by their id."""
        if not self.path.exists():
            return []
        rows = self._run(lambda db: db.execute("SELECT * FROM feedback ORDER BY created, id").fetchall())
        return [_feedback(row) for row in rows]

    def summary(self) -> list[Summary]:
        """Counts by model, the most rated first."""
        if not self.path.exists():
            return []
        sql = """
            SELECT model, SUM(rating = 1), SUM(rating = -1), SUM(correction IS NOT NULL), MAX(updated)
            FROM feedback GROUP BY model ORDER BY COUNT(*) DESC, model
        """
        return [Summary(*row) for row in self._run(lambda db: db.execute(sql).fetchall())]

    def _run(self, work):
        """Do ``work`` in one transaction; a damaged file is set aside first and a new one begun."""
        for attempt in (1, 2):
            try:
                with self._open() as db:
                    return work(db)
            except sqlite3.DatabaseError as error:
                if attempt == 1 and _is_damage(error):
                    self._set_aside(error)
                    continue
                raise OSError(f"{self.path}: {error}; is the disk full, or the folder read-only?") from error

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            db.row_factory = sqlite3.Row
            if self._version(db) < len(self.migrations):
                self._migrate(db)
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            with db:
                yield db
        finally:
            db.close()

    def _version(self, db: sqlite3.Connection) -> int:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(self.migrations):
            raise ValueError(
                f"{self.path} has schema {version}, this program knows {len(self.migrations)}: "
                "it was written by a newer one; update the workshop, or move the file away"
            )
        return version

    def _migrate(self, db: sqlite3.Connection) -> None:
        """Bring an older (or empty) file to today's schema, whole or not at all."""
        with self._lock():
            db.execute("PRAGMA journal_mode = WAL")
            for version in range(self._version(db), len(self.migrations)):
                # executescript() would commit first, so the transaction is part of the script.
                db.executescript(f"BEGIN IMMEDIATE; {self.migrations[version]}; PRAGMA user_version = {version + 1}; COMMIT;")

    def _set_aside(self, error: Exception) -> None:
        """Move a damaged file (and its log) to a name of its own, and say so."""
        with self._lock():
            if not self._damaged():
                return  # another process was quicker
            target = self.path.with_name(f"{self.path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}-{time.time_ns() % 10**6}")
            for suffix in ("-wal", "-shm", ""):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(f"{self.path}{suffix}", f"{target}{suffix}")
        print(
            f"warning: {self.path} is damaged ({error}); it was kept as {target.name}, ratings begin anew. "
            f'What can be saved: sqlite3 {target} ".recover"',
            file=sys.stderr, flush=True,
        )  # fmt: skip

    def _damaged(self) -> bool:
        try:
            db = sqlite3.connect(self.path, timeout=BUSY_SECONDS)
            try:
                return db.execute("PRAGMA quick_check").fetchone()[0] != "ok"
            finally:
                db.close()
        except sqlite3.DatabaseError as error:
            return _is_damage(error)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """One process at a time; the system lets go of the lock when a process dies."""
        with open(f"{self.path}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in _DAMAGED


def _row(feedback: Feedback) -> dict[str, Any]:
    row = asdict(feedback)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    row["created"], row["updated"] = feedback.created or now, now
    row["git_commit"] = row.pop("commit")
    row["correction"] = (feedback.correction or "").strip() or None
    for name in ("messages", "sampling"):
        row[name] = json.dumps(row[name], ensure_ascii=False, sort_keys=True)
    return row


def _feedback(row: sqlite3.Row) -> Feedback:
    values = dict(row)
    values["commit"] = values.pop("git_commit")
    for name in ("messages", "sampling"):
        values[name] = json.loads(values[name])
    return Feedback(**values)
