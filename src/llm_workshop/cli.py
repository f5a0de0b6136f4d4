"""The ``workshop`` command: each step of the main job by name."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from llm_workshop.curation.command import add_curate_options
from llm_workshop.errors import exit_code_of, install_one_line_errors
from llm_workshop.learning.commands import LEARNING_OPTIONS
from llm_workshop.settings import Settings, add_dials, describe, load_settings, settings_help

# Each command imports what it needs when it runs: `workshop --help` should not wait for torch.


def corpus(settings: Settings, options: argparse.Namespace) -> int:
    """Gather the documents of DATA into artifacts/<run>/corpus."""
    from llm_workshop.artifacts import Artifacts
    from llm_workshop.pipeline.corpus import build_corpus

    build_corpus(Artifacts(settings))
    return 0


def tokenizer(settings: Settings, options: argparse.Namespace) -> int:
    """Learn the byte-level BPE from the corpus."""
    from llm_workshop.artifacts import Artifacts
    from llm_workshop.pipeline.tokenizer import build_tokenizer

    build_tokenizer(Artifacts(settings))
    return 0


def tokens(settings: Settings, options: argparse.Namespace) -> int:
    """Encode the corpus into memory-mapped token files."""
    from llm_workshop.artifacts import Artifacts
    from llm_workshop.pipeline.tokens import build_tokens

    build_tokens(Artifacts(settings))
    return 0


def pretrain(settings: Settings, options: argparse.Namespace) -> int:
    """Pretrain the base model (goes on from the last checkpoint if it was interrupted; several: distributed.processes=2)."""
    from llm_workshop.artifacts import Artifacts
    from llm_workshop.pipeline.pretrain import build_base_model

    if settings.distributed.processes > 1 and "RANK" not in os.environ:
        from scratch_llm.training.launch import launch
        from scratch_llm.training.ranks import check_shares

        check_shares(settings.pretrain.batch_size, settings.distributed.processes)
        changed = [note.split("  (", 1)[0] for note in settings.notes if note.endswith("(set by you)")]
        launch([sys.executable, "-m", "llm_workshop.cli", "pretrain", "--scale", settings.scale, "--data", ",".join(settings.data),
                "--seed", str(settings.seed), *changed], settings.distributed.processes, variables={"PYTHONUNBUFFERED": "1"})
        return 0
    build_base_model(Artifacts(settings))
    return 0


def watch(settings: Settings, options: argparse.Namespace) -> int:
    """Watch training on a page: curves, samples, time to go (reads files; may come and go while a run is at work)."""
    from llm_workshop.artifacts import Artifacts
    from llm_workshop.pretraining.watch import watch as watch_runs

    return watch_runs(Artifacts(settings), options.port, options.out, options.host)


def generate(settings: Settings, options: argparse.Namespace) -> int:
    """Print generations of the base model: for --prompt, or for a few questions of ours."""
    from llm_workshop.artifacts import Artifacts
    from llm_workshop.pipeline.samples import generate_samples

    _say_if_trained_otherwise(settings)
    for prompt, text in generate_samples(Artifacts(settings), options.prompt or None):
        print(f"\n> {prompt}\n{text}", flush=True)
    return 0


def chat(settings: Settings, options: argparse.Namespace) -> int:
    """Talk with the served model in the terminal; `echo 안녕 | workshop chat` prints the answer alone."""
    from llm_workshop.serving.terminal.command import chat as terminal_chat

    return terminal_chat(settings, options.url, options.model, options.once)


def page(settings: Settings, options: argparse.Namespace) -> int:
    """Open the chat page (127.0.0.1:7860 unless chat.host and chat.port say otherwise)."""
    from llm_workshop.serving.serve import check_address, serve

    check_address(settings.chat.host, settings.chat.port)
    if options.check_port:
        return 0
    _say_if_trained_otherwise(settings)
    serve(settings)
    return 0


def feedback(settings: Settings, options: argparse.Namespace) -> int:
    """Ratings of answers from the chat page: `show` counts them, `export --out FILE` makes preference data."""
    from llm_workshop.artifacts import Artifacts
    from llm_workshop.serving.feedback.export import export, rated_path
    from llm_workshop.serving.feedback.store import FeedbackStore, feedback_path

    if (options.action == "export") != bool(options.out):
        raise ValueError("use `workshop feedback export --out FILE`, or `workshop feedback show`")
    store = FeedbackStore(feedback_path(Artifacts(settings)))
    if options.action == "show":
        rows = [(*row[:-1], row[-1][:16].replace("T", " ")) for row in store.summary()]
        if not rows:
            print(f"no ratings yet in {store.path}: use the thumbs under an answer of the chat page (make chat)")
            return 0
        width = max(len(str(row[0])) for row in rows)
        for name, up, down, corrected, last in [("model", "up", "down", "corrected", "last (UTC)"), *rows]:
            print(f"{name:<{width}}  {up:>5}  {down:>5}  {corrected:>9}  {last}")
        return 0
    for name, number in export(store.all(), options.out).items():
        print(f"{number:>7,}  {name}")
    print(f"preference pairs: {options.out}\nrated answers: {rated_path(options.out)}")
    return 0


def serve(settings: Settings, options: argparse.Namespace) -> int:
    """Bring up Triton, the OpenAI-compatible endpoint and the chat page, and stay until Ctrl-C."""
    from llm_workshop.serving.stack import command

    if options.no_page:
        settings = settings.model_copy(update={"serving": settings.serving.model_copy(update={"page": False})})
    action = next((name for name in ("status", "stop", "check_port") if getattr(options, name)), "serve")
    return getattr(command, action)(settings, options.only)


def curate(settings: Settings, options: argparse.Namespace) -> int:
    """Clean and deduplicate files of your own (`workshop curate FILES... --recipe korean --out DIR`)."""
    from llm_workshop.curation.command import curate as curate_files

    return curate_files(options)


def report(settings: Settings, options: argparse.Namespace) -> int:
    """Join the reports of all steps into one self-contained HTML page."""
    from llm_workshop.artifacts import Artifacts
    from llm_workshop.report import join_reports

    print(f"report page: {join_reports(Artifacts(settings).reports)}")
    return 0


def doctor(settings: Settings, options: argparse.Namespace) -> int:
    """Check this machine: each finding with its remedy."""
    from llm_workshop.doctor import main as doctor_main

    return doctor_main([])


def check(settings: Settings, options: argparse.Namespace) -> int:
    """Grade the exercises of a week, each test in isolation (`workshop check --week 3`)."""
    from llm_workshop.learning import commands

    return commands.check(options)


def solution(settings: Settings, options: argparse.Namespace) -> int:
    """Show the solution of an exercise, once it was tried (`workshop solution --week 3 --exercise merge`)."""
    from llm_workshop.learning import commands

    return commands.solution(options)


def quiz(settings: Settings, options: argparse.Namespace) -> int:
    """Ask the questions of a week's quiz in the terminal or on a page (`workshop quiz --week 3`)."""
    from llm_workshop.learning import commands

    return commands.quiz(options)


def progress(settings: Settings, options: argparse.Namespace) -> int:
    """Show what you have done: steps, exercises, quizzes; as a page too."""
    from llm_workshop.learning import commands

    return commands.progress(options)


def class_report(settings: Settings, options: argparse.Namespace) -> int:
    """Join the participants' progress files of a folder: who is where, and what is hard for all."""
    from llm_workshop.learning import commands

    return commands.class_report(options)


def _say_if_trained_otherwise(settings: Settings) -> None:
    """The model that is there is used as it is; only `demo`, `pretrain` and `base-model` train another."""
    from llm_workshop.artifacts import Artifacts
    from llm_workshop.pipeline.pretrain import other_settings

    if differences := other_settings(Artifacts(settings)):
        print(f"note: this model was trained with {', '.join(differences)}", flush=True)


COMMANDS: dict[str, Callable[[Settings, argparse.Namespace], int]] = {
    f.__name__.replace("_", "-"): f
    for f in (corpus, tokenizer, tokens, pretrain, watch, generate, chat, page, serve, feedback, curate, report, doctor, check, solution, quiz, progress, class_report)
}


#: Which settings a building command prints: those that decide its result.
SECTIONS = {
    "corpus": ("corpus",),
    "tokenizer": ("tokenizer",),
    "tokens": (),
    "pretrain": ("model", "pretrain", "distributed"),
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="workshop", description="밑바닥 LLM 워크숍: the steps of the main job.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, function in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=function.__doc__,
            description=f"{function.__doc__}\n\nSettings (section.key=value):\n{settings_help()}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == "feedback":
            sub.add_argument("action", choices=("show", "export"), help="count the ratings, or write training data")
            sub.add_argument("--out", metavar="FILE", help="JSON lines: pairs in FILE, rated answers in NAME.rated.jsonl")
        if name == "curate":
            add_curate_options(sub)
        if add_options := LEARNING_OPTIONS.get(name):
            add_options(sub)
        add_dials(sub)
        if name == "chat":
            sub.add_argument("--url", help="the server: HOST:PORT (gRPC) or http://HOST:PORT; default: this machine's")
            sub.add_argument("--model", help="name of the model on the server (default: tensorrt_llm)")
            sub.add_argument("--once", metavar="TEXT", help="ask this one question, print the answer alone")
        if name == "page":
            sub.add_argument("--check-port", action="store_true", help="only try whether the page's port is free")
        if name == "serve":
            action = sub.add_mutually_exclusive_group()
            action.add_argument("--status", action="store_true", help="tell how the running stack is: 0 ready, 1 not ready, 3 none")
            action.add_argument("--stop", action="store_true", help="end the running stack of this run")
            action.add_argument("--check-port", action="store_true", help="only try whether the ports are free")
            sub.add_argument("--no-page", action="store_true", help="without the chat page")
            sub.add_argument("--only", action="append", metavar="PART", help="triton, gateway or page alone (may be repeated)")
        if name == "watch":
            sub.add_argument("--port", type=int, default=7870, help="of the page (default: 7870); 0 takes a free one")
            sub.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
            sub.add_argument("--out", metavar="FILE", help="write the page once, with its figures in it, and end")
        if name == "generate":
            sub.add_argument("--prompt", action="append", help="a text to continue or a question (may be repeated)")
    return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command and its options; settings (and files to curate) may stand before, between and after the options."""
    parser = build_parser()
    options, words = parser.parse_known_args(argv)  # parse_intermixed_args knows no commands
    if any(word.startswith("-") for word in words):
        parser.error(f"unrecognized arguments: {' '.join(words)}: 'workshop {options.command} --help' lists those there are")
    if options.command == "curate":
        options.files += words
    else:
        options.overrides += words
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; user errors are one line on stderr, exit code 1 (130 for Ctrl-C)."""
    options = parse(argv)
    install_one_line_errors()
    if options.force:
        os.environ["FORCE"] = "1"
    return exit_code_of(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    settings = load_settings(options.scale, options.data, options.seed, options.overrides)
    if options.command in SECTIONS and "RANK" not in os.environ:  # of several processes, the one that starts them tells
        print("\n".join(describe(settings, SECTIONS[options.command])), flush=True)
    return COMMANDS[options.command](settings, options)


if __name__ == "__main__":
    sys.exit(main())
