"""Loading a participant's file so that one mistake in it does not take the other exercises with it.

The file is run one top-level statement at a time.  A statement that does not parse, or raises, is left out and
noted; the rest of the file, whose line numbers stay as they are, is loaded all the same.
"""

from __future__ import annotations
import __future__

import ast
import linecache
import re
import sys
import types
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

#: How many broken statements are left out before a file counts as unreadable.
MAX_BROKEN = 20
_STARTS_A_STATEMENT = re.compile(r"[^\s#)\]}'\"]")


@dataclass(frozen=True)
class Broken:
    """A top-level statement that could not be loaded.

    Attributes:
        line: in the file, 1-based: where the mistake is.
        kind: name of the exception ("SyntaxError"), or what ended the process ("timeout", "exit", ...).
        message: of the exception.
        names: what the statement would have defined.
        first: its first line.
    """

    line: int
    kind: str
    message: str
    names: tuple[str, ...]
    first: int


@dataclass
class Submission:
    """A loaded file.

    Attributes:
        module: what could be loaded of it.
        broken: what could not.
    """

    module: types.ModuleType
    broken: list[Broken] = field(default_factory=list)

    def why_absent(self, name: str) -> Broken | None:
        """The statement that would have defined ``name``, if it is broken (or the first broken one of the file)."""
        return next((each for each in self.broken if name in each.names), None) or next(iter(self.broken), None)


def load_submission(
    path: Path,
    *,
    source: str | None = None,
    leave_out: Collection[int] = (),
    before: Callable[[int, tuple[str, ...]], None] | None = None,
) -> Submission:
    """Run a file as module, statement by statement.

    Args:
        path: of the file; its stem names the module.
        source: its text, where that is not what lies at ``path`` (a mutant).
        leave_out: first lines of statements that are not run.
        before: called with the first line and the names of each statement before it runs.

    Returns:
        The module and what is missing in it.  Neither exceptions of the file nor its ``sys.exit()`` leave this
        function; ``KeyboardInterrupt`` and what else is no ``Exception`` do.

    Raises:
        OSError: the file cannot be read.
    """
    text = read_source(path) if source is None else source
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    sys.modules[path.stem] = module  # dataclasses look their module up there
    linecache.cache[str(path)] = (len(text), None, text.splitlines(keepends=True), str(path))
    submission = Submission(module)
    tree, submission.broken = parse(text, path)
    flags = 0
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            for alias in node.names:
                flags |= getattr(getattr(__future__, alias.name, None), "compiler_flag", 0)
    for node in tree.body:
        first = first_line(node)
        if first in leave_out:
            continue
        if before is not None:
            before(first, names_of(node))
        try:
            code = compile(ast.Module([node], []), str(path), "exec", flags=flags, dont_inherit=True)
            exec(code, module.__dict__)
        except (Exception, SystemExit) as error:
            submission.broken.append(_broken(error, node, path))
    return submission


def read_source(path: Path) -> str:
    """The text of a Python file; bytes that are no UTF-8 become U+FFFD, which no name may hold."""
    return path.read_bytes().decode("utf-8-sig", errors="replace").replace("\0", "\ufffd")


def parse(text: str, path: Path) -> tuple[ast.Module, list[Broken]]:
    """The tree of ``text`` without the blocks that do not parse, and what is wrong with these.

    A block is a line that starts in column 0 and what follows indented; it is blanked out, so that the lines of the
    others keep their numbers.
    """
    lines = text.splitlines()
    broken: list[Broken] = []
    for _ in range(MAX_BROKEN):
        try:
            return ast.parse("\n".join(lines) + "\n", str(path)), broken
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = min(max(getattr(error, "lineno", None) or 1, 1), len(lines) or 1)
            # "expected an indented block after function definition on line 3": told where the next block begins.
            opened = re.search(r"on line (\d+)", str(getattr(error, "msg", "")))
            start, end = _block_around(lines, int(opened[1]) - 1 if opened else line - 1)
            names = tuple(re.findall(r"^(?:async\s+)?(?:def|class)\s+(\w+)", "\n".join(lines[start:end]), re.M))
            broken.append(Broken(line, type(error).__name__, getattr(error, "msg", None) or str(error), names, start + 1))
            lines[start:end] = [""] * (end - start)
    return ast.Module([], []), broken


def _block_around(lines: list[str], index: int) -> tuple[int, int]:
    """(start, end) of the block that holds line ``index`` (0-based); an error is often told one line late."""
    while index > 0 and not lines[index].strip():
        index -= 1
    start = index
    while start > 0 and not _STARTS_A_STATEMENT.match(lines[start]):
        start -= 1
    while start > 0 and lines[start - 1].startswith("@"):
        start -= 1
    end = index + 1
    while end < len(lines) and not _STARTS_A_STATEMENT.match(lines[end]):
        end += 1
    return start, end


def first_line(node: ast.stmt) -> int:
    """Where a statement starts, its decorators included."""
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)])


def names_of(node: ast.stmt) -> tuple[str, ...]:
    """Functions, classes and variables that a top-level statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return (node.name,)
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return tuple((alias.asname or alias.name).split(".")[0] for alias in node.names)
    return tuple(each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store))


def _broken(error: BaseException, node: ast.stmt, path: Path) -> Broken:
    line, trace = getattr(error, "lineno", None) or first_line(node), error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    try:
        message = str(error)
    except Exception:
        message = ""
    return Broken(line, type(error).__name__, message[:500], names_of(node), first_line(node))
