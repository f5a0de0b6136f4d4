"""The three dials (SCALE, DATA, ARGS) and every setting behind them.

A preset (``presets/<scale>.yaml``) gives the sizes, ``section.key=value`` overrides change them, and
values left at ``None`` are derived from the others by the rules in ``derive`` and printed with their reason.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import os
import re
import sys
from collections.abc import Sequence
from importlib import resources
from typing import Any, NamedTuple

import yaml
from pydantic import Field, ValidationError

from llm_workshop.sections import (
    AutoModelSettings,
    ChatSettings,
    CompareSettings,
    CompareTokenizersSettings,
    CorpusSettings,
    CurationSettings,
    DistributedSettings,
    ExtendTokenizerSettings,
    FinetuneSettings,
    GenerateSettings,
    HelloSettings,
    InstructSettings,
    LoadTestSettings,
    ModelSettings,
    PeftSettings,
    PretrainSettings,
    QuantizeSettings,
    ScalingSettings,
    SearchSettings,
    Section,
    ServingSettings,
    SpeedSettings,
    TokenizerSettings,
    TrialsSettings,
)

SCALES = ("smoke", "laptop", "gpu")


class Settings(Section):
    scale: str
    data: tuple[str, ...] = ("sample",)
    seed: int = Field(0, ge=0, description="seed of every random choice")
    hello: HelloSettings = HelloSettings()
    corpus: CorpusSettings = CorpusSettings()
    curation: CurationSettings = CurationSettings()
    tokenizer: TokenizerSettings = TokenizerSettings()
    model: ModelSettings = ModelSettings()
    pretrain: PretrainSettings = PretrainSettings()
    trials: TrialsSettings = TrialsSettings()
    distributed: DistributedSettings = DistributedSettings()
    automodel: AutoModelSettings = AutoModelSettings()
    scaling: ScalingSettings = ScalingSettings()
    search: SearchSettings = SearchSettings()
    speed: SpeedSettings = SpeedSettings()
    compare: CompareSettings = CompareSettings()
    compare_tokenizers: CompareTokenizersSettings = CompareTokenizersSettings()
    extend_tokenizer: ExtendTokenizerSettings = ExtendTokenizerSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    peft: PeftSettings = PeftSettings()
    instruct: InstructSettings = InstructSettings()
    generate: GenerateSettings = GenerateSettings()
    chat: ChatSettings = ChatSettings()
    serving: ServingSettings = ServingSettings()
    quantize: QuantizeSettings = QuantizeSettings()
    loadtest: LoadTestSettings = LoadTestSettings()
    notes: tuple[str, ...] = Field((), exclude=True, repr=False, description="where derived and changed values come from")

    @property
    def run_name(self) -> str:
        """Folder name under ``artifacts/``: the scale, and the data where it is not the sample."""
        if self.data == ("sample",):
            return self.scale
        return f"{self.scale}-" + "+".join(_slug(name) for name in self.data)


class Derived(NamedTuple):
    """A value that followed from others: dotted key, value, reason in words."""

    key: str
    value: Any
    reason: str


def load_settings(
    scale: str = "laptop",
    data: str | Sequence[str] = "sample",
    seed: int = 0,
    overrides: Sequence[str] = (),
) -> Settings:
    """Read the preset, apply ``section.key=value`` overrides and derive what is left open.

    Raises ``ValueError`` that names the unknown scale, section, key or bad value and the nearest valid one.
    """
    values = read_preset(scale)
    for override in overrides:
        section, key, value = parse_override(override)
        values.setdefault(section, {})[key] = value
    names = tuple(n for n in (data.split(",") if isinstance(data, str) else data) if n)
    if not names:
        raise ValueError("DATA is empty: use DATA=sample, a catalogue name, or a path to a text file")
    try:
        settings = Settings(scale=scale, data=names, seed=seed, **values)
    except ValidationError as error:
        raise ValueError(_explain(error)) from None
    settings, derived = derive(settings)
    notes = [f"{override}  (set by you)" for override in overrides]
    notes += [f"{d.key}={d.value}  ({d.reason})" for d in derived]
    return settings.model_copy(update={"notes": tuple(notes)})


def read_preset(scale: str) -> dict[str, dict[str, Any]]:
    if scale not in SCALES:
        raise ValueError(f"unknown SCALE '{scale}': use one of {', '.join(SCALES)}{_nearest(scale, SCALES)}")
    text = (resources.files("llm_workshop") / "presets" / f"{scale}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def parse_override(override: str) -> tuple[str, str, Any]:
    """``"pretrain.learning_rate=3e-4"`` -> ``("pretrain", "learning_rate", 0.0003)``."""
    match = re.fullmatch(r"([a-z0-9_]+)\.([a-z0-9_]+)=(.*)", override, re.DOTALL)
    if not match:
        raise ValueError(f"cannot read the setting '{override}': write ARGS=\"section.key=value\"")
    section, key, text = match.groups()
    sections = _settings_by_section()
    if section not in sections:
        raise ValueError(f"unknown section '{section}' in '{override}': use {', '.join(sections)}{_nearest(section, sections)}")
    fields = sections[section]
    if key not in fields:
        raise ValueError(f"unknown setting '{section}.{key}'{_nearest(key, fields)}; '{section}' has {', '.join(fields)}")
    return section, key, _parse_value(text, takes_list="tuple[" in str(fields[key].annotation))


def derive(settings: Settings) -> tuple[Settings, list[Derived]]:
    """Fill every ``None`` that follows from other values; returns the settings and what was derived."""
    model, pretrain = settings.model, settings.pretrain
    derived: list[Derived] = []

    def fill(section: Section, prefix: str, key: str, value: Any, reason: str) -> Section:
        if getattr(section, key) is not None:
            return section
        derived.append(Derived(f"{prefix}.{key}", value, reason))
        return section.model_copy(update={key: value})

    if model.d_model % model.n_heads:
        raise ValueError(
            f"model.d_model {model.d_model} is not divisible by model.n_heads {model.n_heads}: "
            "choose heads that divide the width"
        )
    if model.architecture == "gpt2":
        model = fill(model, "model", "n_kv_heads", model.n_heads, "GPT-2 has one key/value head per query head")
        model = fill(model, "model", "d_ff", 4 * model.d_model, "GPT-2's 4 x d_model")
    else:
        kv_heads = max(1, model.n_heads // 2) if model.n_heads % 2 == 0 else model.n_heads
        shared = "two query heads share a key/value head (GQA)"
        reason = shared if kv_heads < model.n_heads else "an odd number of query heads cannot be paired"
        model = fill(model, "model", "n_kv_heads", kv_heads, reason)
        d_ff = -(-8 * model.d_model // (3 * 64)) * 64
        model = fill(model, "model", "d_ff", d_ff, "SwiGLU: 8/3 x d_model, rounded up to 64")

    per_step = pretrain.batch_size * model.context_length
    steps = max(1, round(pretrain.tokens / per_step))
    pretrain = fill(pretrain, "pretrain", "steps", steps, f"{pretrain.tokens:,} tokens / {per_step:,} a step")
    pretrain = fill(pretrain, "pretrain", "micro_batch_size", pretrain.batch_size, "the whole batch at once; auto looks at the free memory")
    floor = float(f"{pretrain.learning_rate / 10:.6g}")
    pretrain = fill(pretrain, "pretrain", "min_learning_rate", floor, "a tenth of the peak (Chinchilla's cosine)")
    warmup, reason = min(2000, max(1, pretrain.steps // 20)), "5 % of the steps, at most 2,000"
    if pretrain.schedule == "one_cycle":
        warmup, reason = max(1, pretrain.steps * 3 // 10), "30 % of the steps: one cycle's way up"
    pretrain = fill(pretrain, "pretrain", "warmup_steps", warmup, reason)
    every = max(1, pretrain.steps // 10)
    pretrain = fill(pretrain, "pretrain", "eval_every", every, "ten evaluations in a run")
    pretrain = fill(pretrain, "pretrain", "save_every", pretrain.eval_every, "a checkpoint at each evaluation")
    return settings.model_copy(update={"model": model, "pretrain": pretrain}), derived


def describe(settings: Settings, uses: Sequence[str] | None = None) -> list[str]:
    """The dials in one line, then each value that was derived or set by hand, with its reason.

    ``uses`` limits the values to those sections (``"model"``) and single settings (``"model.d_ff"``); None: all.
    ValueError for a name that is neither.
    """
    dials = f"SCALE={settings.scale}  DATA={','.join(settings.data)}  SEED={settings.seed}"
    if uses is None:
        return [dials, *(f"  {note}" for note in settings.notes)]
    known = [name for section, keys in _settings_by_section().items() for name in (section, *(f"{section}.{key}" for key in keys))]
    if unknown := [name for name in uses if name not in known]:
        raise ValueError(f"'{unknown[0]}' is no section or setting{_nearest(unknown[0], known)}: use e.g. 'model' or 'model.d_ff'")
    keys = [(note, note.split("=", 1)[0]) for note in settings.notes]
    return [dials, *(f"  {note}" for note, key in keys if key in uses or key.split(".")[0] in uses)]


def settings_digest(values: Any) -> str:
    """SHA-256 of settings as canonical JSON: equal settings have equal digests."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, default=lambda v: v.model_dump(mode="json"))
    return hashlib.sha256(text.encode()).hexdigest()


def add_dials(parser: argparse.ArgumentParser) -> None:
    """The flags that every command and lab script shares; defaults come from the environment."""
    env = os.environ.get
    parser.add_argument("--scale", default=env("SCALE") or "laptop", help="smoke | laptop | gpu (default: laptop)")
    parser.add_argument("--data", default=env("DATA") or "sample", help="sample, catalogue names, or paths, by comma")
    parser.add_argument("--seed", type=int, default=env("SEED") or "0", help="seed of every random choice")
    parser.add_argument("--force", action="store_true", default=env("FORCE") == "1", help="rebuild what is up to date")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="any setting, e.g. pretrain.steps=50")


def settings_from_command_line(
    argv: Sequence[str] | None = None, *, uses: Sequence[str] | None = None, quiet: bool = False
) -> Settings:
    """Settings for a lab script: from its arguments, or from SCALE/DATA/SEED/ARGS inside a notebook.

    Also switches to one-line errors for the rest of the program and prints what was derived or set by hand, of the
    sections and settings that the script ``uses`` (as in ``describe``).
    """
    from llm_workshop.corpora.loaders import check_names
    from llm_workshop.errors import install_one_line_errors

    install_one_line_errors()
    if argv is None:
        argv = os.environ.get("ARGS", "").split() if _in_notebook() else sys.argv[1:]
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"A step of the workshop. Settings:\n{settings_help()}",
    )
    add_dials(parser)
    arguments = parser.parse_args(argv)
    if arguments.force:
        os.environ["FORCE"] = "1"
    settings = load_settings(arguments.scale, arguments.data, arguments.seed, arguments.overrides)
    check_names(settings.data)  # now, and not when the first section that reads it is reached
    if not quiet:
        print("\n".join(describe(settings, uses)), flush=True)
    return settings


def settings_help() -> str:
    """Every section and key with its one-line meaning, for ``--help``."""
    return "\n".join(
        f"  {section + '.' + key:<30} {field.description}"
        for section, fields in _settings_by_section().items()
        for key, field in fields.items()
    )


def _settings_by_section() -> dict[str, dict[str, Any]]:
    """section -> key -> pydantic's field."""
    kinds = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {n: kind.model_fields for n, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)}


def _parse_value(text: str, takes_list: bool) -> Any:
    if text.lower() in ("null", "none"):
        return None
    if takes_list:
        return tuple(part for part in text.split(",") if part)
    # "on" and "off" are words of pretrain.compile, not YAML 1.1 booleans; 1e-3 is a number, not a word.
    if text.lower() in ("on", "off", "yes", "no"):
        return text.lower()
    if re.fullmatch(r"[+-]?\d[\d_]*", text):
        return int(text)
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        return float(text)
    return {"true": True, "false": False}.get(text.lower(), text)


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"bad value {first['input']!r} for {where}: {first['msg'][:1].lower()}{first['msg'][1:]}"


def _nearest(word: str, words: Any) -> str:
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _slug(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z가-힣_.-]+", "_", name.rstrip("/").rsplit("/", 1)[-1]).strip("._") or "data"


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules
