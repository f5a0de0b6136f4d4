"""User errors are one line and a non-zero exit code, from the command and from lab scripts."""

import errno
import os
import subprocess
import sys

import pytest

from llm_workshop.cli import main
from llm_workshop.errors import exit_code, exit_code_of, is_user_error, one_line, report_error


def test_one_line_folds_and_explains():
    assert one_line(ValueError("a\n  b")) == "a b"
    full = one_line(OSError(errno.ENOSPC, "No space left on device", "x/train.bin"))
    assert full.startswith("No space left on device: x/train.bin") and "run the same command again" in full
    assert "micro_batch_size" in one_line(MemoryError())


def test_only_errors_a_person_can_mend_are_folded():
    assert is_user_error(ValueError()) and is_user_error(FileNotFoundError()) and is_user_error(KeyboardInterrupt())
    assert not is_user_error(AssertionError()) and not is_user_error(TypeError())
    assert exit_code(KeyboardInterrupt()) == 130 and exit_code(ValueError()) == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["corpus", "--scale", "smok"], "did you mean 'smoke'"),
        (["corpus", "--scale", "smoke", "--data", "nsmcx"], "did you mean 'nsmc'"),
        (["corpus", "--scale", "smoke", "corpus.megabyte=1"], "did you mean 'megabytes'"),
        (["corpus", "--scale", "smoke", "--data", "no/such.txt"], "no file or folder no/such.txt"),
        (["tokenizer", "--scale", "smoke"], "run 'make corpus SCALE=smoke' first"),
        (["pretrain", "--scale", "smoke"], "run 'make week3-tokenizer SCALE=smoke' first"),
        (["generate", "--scale", "smoke"], "run 'make week5-pretrain SCALE=smoke' first"),
    ],
)
def test_command_errors_are_one_line(tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.setenv("ARTIFACTS_DIR", str(tmp_path))
    assert main(argv) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err


def test_debug_keeps_the_traceback(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKSHOP_DEBUG", "1")
    with pytest.raises(ValueError, match="unknown SCALE"):
        main(["corpus", "--scale", "x"])


def test_lab_scripts_too(tmp_path, repository):
    script = tmp_path / "lab.py"
    script.write_text("from llm_workshop.settings import settings_from_command_line\nsettings_from_command_line()\n")
    environment = {**os.environ, "PYTHONPATH": str(repository / "src")}
    result = subprocess.run(
        [sys.executable, script, "--scale", "tiny"], capture_output=True, text=True, env=environment, timeout=60
    )
    assert result.returncode == 1
    assert result.stderr == "error: unknown SCALE 'tiny': use one of smoke, laptop, gpu\n"


def test_the_exit_code_of_a_commands_work(capsys, monkeypatch):
    def fails():
        raise ValueError("SCALE=huge: use smoke")

    def breaks():
        raise KeyError("ours")

    assert exit_code_of(lambda: None) == 0 and exit_code_of(lambda: 3) == 3
    assert exit_code_of(fails) == 1 and capsys.readouterr().err == "error: SCALE=huge: use smoke\n"
    with pytest.raises(KeyError):
        exit_code_of(breaks)
    monkeypatch.setenv("WORKSHOP_DEBUG", "1")
    with pytest.raises(ValueError, match="huge"):
        exit_code_of(fails)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("work", "code", "told"),
    [
        ("print('text')", 0, b""),
        ("[print('text') for _ in range(100_000)]", 0, b""),
        ("(_ for _ in ()).throw(BrokenPipeError(32, 'Broken pipe'))", 1, b"error: Broken pipe\n"),
    ],
    ids=["at the end", "on the way", "of another pipe"],
)
def test_a_reader_that_has_enough_is_no_error(work, code, told, unbuffered):
    reader, writer = os.pipe()
    if code == 0:
        os.close(reader)  # as head does
    program = f"import sys; from llm_workshop.errors import exit_code_of; sys.exit(exit_code_of(lambda: ({work}) and None))"
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (code, told)


def test_who_forced_a_run_is_not_told_to_force_it_again(monkeypatch, capsys):
    monkeypatch.delenv("FORCE", raising=False)
    report_error(KeyboardInterrupt())
    assert "run the same command to go on" in capsys.readouterr().err
    monkeypatch.setenv("FORCE", "1")
    report_error(KeyboardInterrupt())
    assert "run the same command without FORCE=1 (--force) to go on" in capsys.readouterr().err
