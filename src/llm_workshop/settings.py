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
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

SCALES = ("smoke", "laptop", "gpu")


class Section(BaseModel):
    """Base of all settings groups: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class HelloSettings(Section):
    hub_model: str | None = Field(None, description="model of the Hugging Face hub that week 1 runs besides; null = none")


class CorpusSettings(Section):
    megabytes: float | None = Field(None, gt=0, description="size of the sample, or cap on real data (MB); null = all")
    noise: float = Field(0.0, ge=0, le=1, description="share of sample documents that get labelled noise injected")
    kinds: tuple[str, ...] | None = Field(None, description="kinds of sample documents; null = all of them")
    curated: bool = Field(False, description="true: the corpus is what week 2 curated (make week2-dedup), not DATA as it is")


class CurationSettings(Section):
    recipe: str = Field("korean", description="rules of week 2: a built-in recipe, or the path of a YAML file")
    megabytes: float | None = Field(2.0, gt=0, description="size of the raw sample, or cap on real data (MB); null = all")
    noise: float = Field(0.3, ge=0, le=1, description="share of raw sample documents that get labelled noise")
    shard_megabytes: float = Field(8.0, gt=0, description="raw text in a shard, the unit that is redone after an interruption (MB)")
    workers: int | None = Field(None, ge=1, description="processes; null = one for each core")
    text_fields: tuple[str, ...] | None = Field(
        None, description="fields of JSON, CSV and Parquet records that hold the text, joined; null = text, document, content, body, sentence"
    )
    broken_share: float = Field(0.01, ge=0, le=1, description="broken records above this share stop the pipeline; below, they are set aside")


class TokenizerSettings(Section):
    vocab_size: int = Field(4096, ge=256, description="number of tokens, bytes and special tokens included")
    pattern: str = Field("korean", description="pre-tokenization pattern, a name known to ByteLevelBPE")
    tie_break: Literal["greatest_bytes", "least_ids"] = Field(
        "greatest_bytes", description="which of equally frequent pairs is merged first"
    )
    normalization: Literal["NFC"] | None = Field("NFC", description="Unicode normalisation before encoding")
    train_megabytes: float = Field(20.0, gt=0, description="at most this much text (MB) is used to learn the merges")


class ModelSettings(Section):
    architecture: Literal["llama", "gpt2"] = Field("llama", description="model family")
    context_length: int = Field(256, ge=8, description="longest sequence the model attends to (tokens)")
    n_layers: int = Field(6, ge=1, description="Transformer blocks")
    n_heads: int = Field(4, ge=1, description="query heads per block")
    n_kv_heads: int | None = Field(None, ge=1, description="key/value heads; null = derived (grouped-query attention)")
    d_model: int = Field(256, ge=8, description="width of the residual stream")
    d_ff: int | None = Field(None, ge=8, description="hidden width of the feed-forward layer; null = derived")
    rope_theta: float = Field(10000.0, gt=0, description="base of the rotary frequencies (llama)")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout probability (gpt2)")
    tie_embeddings: bool = Field(True, description="share the input embedding with the output layer")


class PretrainSettings(Section):
    tokens: int = Field(1_000_000, ge=1, description="training tokens to see")
    steps: int | None = Field(None, ge=1, description="optimiser steps; null = tokens / (batch_size x context_length)")
    batch_size: int = Field(16, ge=1, description="sequences per optimiser step")
    micro_batch_size: int | None = Field(None, ge=1, description="sequences per forward pass; null = batch_size")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    min_learning_rate: float | None = Field(None, ge=0, description="last learning rate; null = a tenth of the peak")
    warmup_steps: int | None = Field(None, ge=0, description="linear warm-up; null = derived from steps")
    weight_decay: float = Field(0.1, ge=0, description="AdamW's decoupled weight decay (matrices only)")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's first-moment decay")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW's second-moment decay")
    grad_clip: float = Field(1.0, gt=0, description="largest global gradient norm")
    packing: Literal["stream", "documents"] = Field(
        "documents", description="how documents fill the windows: kept whole, or cut from one stream"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="arithmetic; auto = the faster one")
    compile: Literal["auto", "on", "off"] = Field("auto", description="torch.compile the training step")
    eval_every: int | None = Field(None, ge=1, description="steps between evaluations; null = ten in a run")
    eval_batches: int = Field(8, ge=1, description="batches per evaluation")
    save_every: int | None = Field(None, ge=1, description="steps between checkpoints; null = as often as eval_every")
    keep: int = Field(2, ge=1, description="checkpoints kept on disk")
    log_every: int = Field(10, ge=1, description="steps between printed lines")


class CompareSettings(Section):
    models: tuple[str, ...] = Field(
        ("transformer", "lstm", "mamba", "rwkv", "moe-mla"), description="architectures to compare (week 4)"
    )
    parameters: int = Field(2_000_000, ge=1, description="parameters of each model, as near as its widths allow")
    n_layers: int = Field(4, ge=1, description="Transformer blocks; Mamba takes twice as many, the LSTM at most two")
    context_length: int = Field(256, ge=8, description="tokens per training sequence")
    tokens: int = Field(1_000_000, ge=1, description="training tokens of each model")
    batch_size: int = Field(16, ge=1, description="sequences per optimiser step")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate, the same for all")
    decode_contexts: tuple[int, ...] = Field(
        (256, 512, 1024, 2048, 4096, 8192), description="contexts at which one more token is timed"
    )


class CompareTokenizersSettings(Section):
    vocab_sizes: tuple[int, ...] = Field((1024, 2048, 4096, 8192, 16384, 32768), min_length=1, description="vocabulary sizes of the sweep (week 3)")
    tokenizers: tuple[str, ...] = Field(
        ("bpe", "wordpiece", "unigram", "morpheme-bpe", "hf-bpe", "hf-wordpiece", "hf-unigram", "sp-bpe", "sp-unigram"),
        min_length=1, description="tokenizers to compare",
    )
    models: tuple[str, ...] = Field(
        ("bytes", "bpe", "wordpiece", "unigram", "morpheme-bpe"), min_length=1, description="tokenizers on which a small model is trained"
    )
    train_megabytes: float = Field(4.0, gt=0, description="text from which every tokenizer learns (MB)")
    model_megabytes: float = Field(2.0, gt=0, description="text that every model reads once (MB)")
    valid_kilobytes: float = Field(200.0, gt=0, description="held-out text for all measurements (kB)")
    window_bytes: int = Field(512, ge=32, description="text in a training window (bytes), whatever the tokenizer makes of it")
    batch_size: int = Field(16, ge=1, description="windows per optimiser step")
    n_layers: int = Field(4, ge=1, description="Transformer blocks of the models")
    d_model: int = Field(128, ge=32, multiple_of=32, description="their width")
    learning_rate: float = Field(3e-3, gt=0, description="their peak learning rate")


class ExtendTokenizerSettings(Section):
    base_vocab_size: int = Field(8192, ge=257, description="how much of GPT-2's vocabulary is taken (all: 50257)")
    new_tokens: int = Field(2048, ge=1, description="Korean tokens that are added (week 3)")
    megabytes: float = Field(2.0, gt=0, description="text that the base model reads before the extension, and what new tokens are learnt from (MB)")
    steps: int = Field(200, ge=1, description="optimiser steps after the extension")


class GenerateSettings(Section):
    max_new_tokens: int = Field(160, ge=1, description="longest answer (tokens)")
    temperature: float = Field(0.5, ge=0, description="0 = greedy")
    top_k: int | None = Field(None, ge=1, description="keep the k likeliest tokens")
    top_p: float | None = Field(0.9, gt=0, le=1, description="keep the smallest set with this probability mass")
    min_p: float | None = Field(None, ge=0, le=1, description="drop tokens below this share of the likeliest one")
    repetition_penalty: float = Field(
        1.0, gt=0, description="above 1 discourages tokens already used, those of the question too"
    )


class ChatSettings(Section):
    host: str = Field("127.0.0.1", description="address the page listens on")
    port: int = Field(7860, ge=1, le=65535, description="port of the page")
    serve: bool = Field(True, description="false: print a few generations and stop")
    max_turns: int = Field(8, ge=1, description="turns of the conversation that the model is shown")
    system_prompt: str | None = Field(None, description="system turn put before the conversation")


class ServingSettings(Section):
    engine: Literal["scratch", "transformers", "tensorrt_llm"] = Field("scratch", description="what answers behind Triton")
    weights: Literal["same", "int8"] = Field("same", description="of the scratch engine: as stored, or int8 weight-only")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="arithmetic; auto = the faster one")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the engine computes")
    instances: int = Field(1, ge=1, le=16, description="engine processes behind Triton")
    threads: int | None = Field(None, ge=1, description="CPU threads of an instance; null = all cores but one, shared by the instances")
    max_rows: int = Field(8, ge=1, description="requests decoded together by an instance")
    max_waiting: int = Field(32, ge=0, description="requests that may wait; one more is told that the server is busy")
    max_tokens: int | None = Field(None, ge=2, description="prompt and answer of a request together; null = the context")
    host: str = Field("127.0.0.1", description="address that Triton and the endpoint listen on; another one only in a container")
    triton_host: str = Field("127.0.0.1", description="where the endpoint and the page find Triton")
    http_port: int = Field(8000, ge=1, le=65535, description="Triton's HTTP port")
    grpc_port: int = Field(8001, ge=1, le=65535, description="Triton's gRPC port")
    metrics_port: int = Field(8002, ge=1, le=65535, description="Triton's Prometheus port")
    api_port: int = Field(8080, ge=1, le=65535, description="the OpenAI-compatible endpoint; the monitoring view is there too")
    page: bool = Field(True, description="false: no chat page beside the server")
    restarts: int = Field(5, ge=0, description="how often in ten minutes a dead server is started again")


class QuantizeSettings(Section):
    methods: tuple[str, ...] | None = Field(None, description="methods to compare (week 8); null = all of them")
    eval_tokens: int = Field(32_768, ge=1, description="validation tokens for bits per byte")
    calibration_tokens: int = Field(8_192, ge=1, description="training tokens shown to SmoothQuant, AWQ and GPTQ")
    group_size: int = Field(32, ge=8, description="weights that share a scale, where a method has groups")


class LoadTestSettings(Section):
    clients: tuple[int, ...] = Field((1, 2, 4, 8, 16), description="numbers of concurrent clients to try")
    requests: int = Field(24, ge=1, description="answers measured at each number of clients")
    prompt_tokens: int = Field(48, ge=1, description="about how long a prompt is")
    max_new_tokens: int = Field(48, ge=1, description="how long an answer is")
    soak_seconds: float = Field(0, ge=0, description="mixed load for so long at the end; 0 = none")


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
    compare: CompareSettings = CompareSettings()
    compare_tokenizers: CompareTokenizersSettings = CompareTokenizersSettings()
    extend_tokenizer: ExtendTokenizerSettings = ExtendTokenizerSettings()
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
    return section, key, _parse_value(text, key)


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
    pretrain = fill(pretrain, "pretrain", "micro_batch_size", pretrain.batch_size, "the whole batch fits in memory")
    floor = float(f"{pretrain.learning_rate / 10:.6g}")
    pretrain = fill(pretrain, "pretrain", "min_learning_rate", floor, "a tenth of the peak (Chinchilla's cosine)")
    warmup = min(2000, max(1, pretrain.steps // 20))
    pretrain = fill(pretrain, "pretrain", "warmup_steps", warmup, "5 % of the steps, at most 2,000")
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


def _parse_value(text: str, key: str) -> Any:
    if text.lower() in ("null", "none"):
        return None
    if key in ("kinds", "models", "decode_contexts", "methods", "clients", "vocab_sizes", "tokenizers", "text_fields"):
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
