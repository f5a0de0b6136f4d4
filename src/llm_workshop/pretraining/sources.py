"""The texts of a run by the names in DATA, and the mixture that ``pretrain.mixture`` asks for."""

from __future__ import annotations

from llm_workshop.artifacts import Artifacts, make_command
from llm_workshop.settings import Settings
from scratch_llm.data import Mixture, TokenFile, TokenSlice, Windows


def training_texts(artifacts: Artifacts) -> tuple[Windows | Mixture, Windows | Mixture]:
    """Training and held-out windows over the token files, in an order fixed by the seed.

    Without ``pretrain.mixture`` the texts of all names in DATA are one, each as large as it is.  With it their rows come in
    the shares asked for; what is held out has the same shares, of the names that hold something out.

    Raises:
        ValueError: names or weights that do not fit DATA, or a corpus that does not know whose its documents are.
    """
    settings = artifacts.settings
    files = {split: TokenFile(artifacts.path("tokens") / split) for split in ("train", "valid")}
    if settings.pretrain.mixture is None:
        return tuple(_windows(file, settings) for file in files.values())
    weights = mixture_weights(settings)
    slices = {split: _slices(artifacts, file, split) for split, file in files.items()}
    if missing := [name for name in weights if name not in slices["train"]]:
        raise ValueError(f"'{missing[0]}' has no text to train on: leave it out of pretrain.mixture")
    mixed = []
    for split in ("train", "valid"):
        parts = {name: _windows(slices[split][name], settings) for name in weights if _long_enough(slices[split].get(name), settings)}
        if split == "train" and len(parts) < len(weights):
            short = next(name for name in weights if name not in parts)
            raise ValueError(f"'{short}' is shorter than model.context_length: leave it out of pretrain.mixture")
        if not parts:  # none of the names holds out enough for a window: all that is held out
            mixed.append(_windows(files[split], settings))
            continue
        given = None if None in weights.values() else {name: weights[name] for name in parts}
        mixed.append(Mixture(parts, given, settings.pretrain.mixture_temperature, settings.seed))
    return tuple(mixed)


def mixture_weights(settings: Settings) -> dict[str, float | None]:
    """``("sample:3", "nsmc:1")`` -> ``{"sample": 3.0, "nsmc": 1.0}``; names without a number weigh what they are long."""
    weights: dict[str, float | None] = {}
    if len(set(settings.data)) < len(settings.data):
        raise ValueError(f"DATA={','.join(settings.data)} names a corpus twice: name it once and weigh it in pretrain.mixture")
    for entry in settings.pretrain.mixture or ():
        name, number = _parse(entry, settings.data)
        if name not in settings.data:
            raise ValueError(f"pretrain.mixture names '{name}', which is not in DATA: use {', '.join(settings.data)}")
        if name in weights:
            raise ValueError(f"pretrain.mixture names '{name}' twice: give it one weight")
        weights[name] = number
    if len({number is None for number in weights.values()}) > 1:
        raise ValueError("pretrain.mixture gives some names a weight and others none: give all one (sample:3,nsmc:1), or none")
    return weights


def _parse(entry: str, names: tuple[str, ...]) -> tuple[str, float | None]:
    name, colon, number = entry.rpartition(":")
    if not colon or entry in names:  # a path may hold a colon
        return entry, None
    try:
        return name, float(number)
    except ValueError:
        raise ValueError(f"pretrain.mixture has '{entry}': write NAME:WEIGHT, such as sample:3") from None


def _slices(artifacts: Artifacts, file: TokenFile, split: str) -> dict[str, TokenSlice]:
    """The documents of each name: they lie in the token file one name after the other, as in the corpus."""
    counts = artifacts.read_manifest("corpus")["metrics"][split].get("sources")
    if not counts or sum(counts.values()) != file.n_documents:
        reason = "a curated corpus does not" if artifacts.settings.corpus.curated else "the corpus there was built before it did"
        cure = "set corpus.curated=false" if artifacts.settings.corpus.curated else f"run '{make_command(artifacts.settings, 'corpus', '')} FORCE=1'"
        raise ValueError(f"a mixture needs a corpus that knows whose its documents are, and {reason}: {cure}")
    slices, first = {}, 0
    for name, count in counts.items():
        if count:
            slices[name] = TokenSlice(file, first, first + count)
        first += count
    return slices


def _windows(text: TokenFile | TokenSlice, settings: Settings) -> Windows:
    pretrain = settings.pretrain
    return Windows(text, settings.model.context_length, pretrain.batch_size, seed=settings.seed, packing=pretrain.packing)


def _long_enough(text: TokenSlice | None, settings: Settings) -> bool:
    return text is not None and len(text) > settings.model.context_length


def describe_mixture(windows: Windows | Mixture, valid: Windows | Mixture, steps: int) -> list[str]:
    """A line for each part of a mixture: its share of what is read, how often it is read, whether some of it is held out;
    [] where there is none."""
    if not isinstance(windows, Mixture):
        return []
    readings = windows.readings(steps)
    held_out = valid.parts if isinstance(valid, Mixture) else {}
    return [f"mixture {name}: {share:.1%} of the rows, {len(windows.parts[name].token_file):,} tokens read {readings[name]:.2f} times"
            + ("" if name in held_out else "; nothing of it is held out") for name, share in windows.shares.items()]

