"""``workshop curate``: the pipeline of week 2 over files of one's own."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from llm_workshop.artifacts import Artifacts
from llm_workshop.curation.sources import skipped_files
from llm_workshop.settings import Settings, describe, load_settings

STAGES = ("raw", "clean", "curated")
REPORT = "data-card"
SKIPPED_SHOWN = 5
#: What differs from a lab: no cap on the data, shards for large files.  The person's own settings come after.
DEFAULTS = {"megabytes": None, "shard_megabytes": 8.0}


def add_curate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="FILE",
        help="files or folders (.txt .md .jsonl .json .tsv .csv .parquet, packed or not), or names of the catalogue; "
        "settings (section.key=value) may stand among them",
    )  # fmt: skip
    parser.add_argument("--recipe", metavar="R", help="a built-in recipe or the path of a YAML file (default: korean)")
    parser.add_argument("--out", metavar="DIR", required=True, help="where raw/, clean/, curated/ and reports/ go")


def curate(options: argparse.Namespace) -> int:
    """Collect, clean, deduplicate, and write the data card; finished parts are not done again."""
    from llm_workshop.curation.card import add_data_card
    from llm_workshop.curation.curated import build_chain
    from llm_workshop.curation.recipe import load_recipe
    from llm_workshop.report import Report, join_reports

    files, overrides = split_settings(options.files)
    if not files:
        raise ValueError("no files to curate: name files, folders, or corpora of the catalogue")
    settings = curate_settings(files, [*overrides, *options.overrides], options.recipe, options.seed)
    out = checked_folder(Path(options.out), files)
    print("\n".join(describe(settings, ("curation",))), flush=True)
    artifacts = Artifacts(settings)
    artifacts.root = out
    tell_what_is_skipped(files)
    build_chain(artifacts, again=command_that_allows_broken(files, overrides, options))
    title = load_recipe(settings.curation.recipe).title
    add_data_card(Report(artifacts, REPORT, f"데이터 카드: {title}"), artifacts).save(quiet=True)
    for line in summary(artifacts):
        print(line)
    print(f"data card: {join_reports(artifacts.reports)}")
    return 0


def split_settings(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files and ``section.key=value`` settings, which may come in any order; an existing file is a file."""
    settings = [word for word in words if re.fullmatch(r"[\w-]+\.[\w-]+=.*", word, re.DOTALL) and not Path(word).exists()]
    return [word for word in words if word not in settings], settings


def tell_what_is_skipped(files: Sequence[str]) -> None:
    """Name the files of folders that have no format that is read."""
    skipped = [str(path) for name in files if Path(name).is_dir() for path in skipped_files(Path(name))]
    if skipped:
        more = f" and {len(skipped) - SKIPPED_SHOWN:,} more" if len(skipped) > SKIPPED_SHOWN else ""
        print(f"not read, as their format is not known here: {', '.join(skipped[:SKIPPED_SHOWN])}{more}", flush=True)


def command_that_allows_broken(files: Sequence[str], overrides: Sequence[str], options: argparse.Namespace) -> str:
    """This command as it would be typed to take the files however many records are broken."""
    settings = [word for word in [*overrides, *options.overrides] if not word.startswith("curation.broken_share=")]
    recipe = ["--recipe", options.recipe] if options.recipe else []
    return shlex.join(["workshop", "curate", *files, *recipe, "--out", options.out, *settings, "curation.broken_share=1"])


def curate_settings(files: Sequence[str], overrides: Sequence[str], recipe: str | None, seed: int) -> Settings:
    """Settings for these files: the defaults of this command, then what the person says."""
    overrides = [*([f"curation.recipe={recipe}"] if recipe else []), *overrides]
    settings = load_settings("laptop", files, seed, overrides)
    chosen = {override.split("=")[0] for override in overrides}
    defaults = {key: value for key, value in DEFAULTS.items() if f"curation.{key}" not in chosen}
    return settings.model_copy(update={"curation": settings.curation.model_copy(update=defaults)})


def checked_folder(out: Path, files: Sequence[str]) -> Path:
    """The folder for the results; ValueError where something of the person's own would be replaced or read as data."""
    for stage in STAGES:
        folder = out / stage
        if folder.exists() and not _is_ours(folder, stage):
            raise ValueError(f"{folder} is there and was not made by this command: choose another --out, or move it away")
    for name in files:
        if Path(name).is_dir() and out.resolve().is_relative_to(Path(name).resolve()):
            raise ValueError(f"--out {out} lies within {name}, which is read: the results would be data next time; choose another folder")
    return out


def summary(artifacts: Artifacts) -> list[str]:
    raw, clean, curated = (artifacts.read_manifest(stage)["metrics"] for stage in STAGES)
    kept = curated["kept"]
    lines = [
        f"read     {raw['documents']:>12,} documents; {raw['broken']:,} broken records set aside, {raw['empty']:,} empty",
        f"cleaned  {clean['kept']:>12,} kept; dropped by {_counts(clean['dropped'])}; changed by {_counts(clean['changed'])}",
        f"deduped  {kept['train']['documents'] + kept['valid']['documents']:>12,} kept; dropped as {_counts(curated['dropped'])}",
        f"text: {artifacts.path('curated') / 'train.jsonl'} ({kept['train']['documents']:,}), valid.jsonl ({kept['valid']['documents']:,})",
    ]
    if raw["broken"]:
        lines.append(f"broken records: {artifacts.path('raw') / 'quarantine.jsonl'}")
    return lines


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in numbers.items() if number) or "nothing"


def _is_ours(folder: Path, stage: str) -> bool:
    try:
        return json.loads((folder / "manifest.json").read_text(encoding="utf-8")).get("stage") == stage
    except (OSError, ValueError, AttributeError):
        return False
