"""Adapters into a model, out of it, or into its weights.

    inject(model, LoRAConfig(rank=8, targets=("q_proj", "v_proj")))   freezes the model, returns the adapters
    train(model, ...)                                                  learns them alone
    merge(model)                                                       a plain model again, as fast as before
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from scratch_llm.layers.routing import SigmoidRouter, SoftmaxRouter
from scratch_llm.models.base import LanguageModel
from scratch_llm.peft.adapter import AdaptedLinear, Adapter, AdapterConfig, Part, is_adaptable

DEFAULT = "default"


def inject(model: nn.Module, config: AdapterConfig, name: str = DEFAULT) -> list[Adapter]:
    """Freeze ``model`` and put a new adapter, called ``name`` and active, beside each matrix that ``config`` targets.

    The model computes what it did before until the adapters are trained.  Called again with another name, the earlier
    adapters stay, inactive: see ``activate``.  What else shall learn (a new head) is thawed afterwards with
    ``requires_grad_()``.

    Args:
        model: a ``LanguageModel``, or a module that holds one.

    Returns:
        The adapters in the order of the layers.

    Raises:
        ValueError: nothing fits the targets, the name is taken or has a dot, or the settings do not fit a matrix; the
            model is then as it was.
    """
    if not name or "." in name:
        raise ValueError(f"an adapter cannot be called {name!r}: take a name without dots, such as {DEFAULT!r}")
    if name in adapter_names(model):
        raise ValueError(f"the model has an adapter {name!r} already: choose another name, or remove it with unload")
    chosen = matching_parts(model, config.targets)
    # All are made before the first is put in, so that a setting that does not fit leaves the model whole.
    made = [(layer, config.make(base_of(model, layer), parts)) for layer, parts in chosen.items()]
    model.requires_grad_(False)
    for layer, adapter in made:
        adapter.config = config
        module = model.get_submodule(layer)
        if not isinstance(module, AdaptedLinear):
            model.set_submodule(layer, module := AdaptedLinear(module))
        module.adapters[name] = adapter.train(model.training)
    activate(model, name)
    return [adapter for _, adapter in made]


def activate(model: nn.Module, name: str | Sequence[str | None] | None) -> None:
    """Compute with the adapters called ``name``, and let training change them alone; None: the model as it was before.

    A sequence has a name (or None) for each row of the batches to come, so that one pass serves several tasks.  A matter
    of microseconds: no weight moves.  ValueError for an unknown name.
    """
    known = adapter_names(model)
    names = (name,) if name is None or isinstance(name, str) else tuple(name)
    for one in names:
        if one is not None and one not in known:
            raise ValueError(f"the model has no adapter {one!r}; it has {', '.join(known) or 'none'}")
    for _, layer in adapted_layers(model):
        layer.active = name if name is None or isinstance(name, str) else names
        for key, adapter in layer.adapters.items():
            adapter.requires_grad_(key in names)


@torch.no_grad()
def merge(model: nn.Module) -> nn.Module:
    """Compute the active adapters into the weights, in place, and take all adapters out; returns the model.

    What is left is a plain model whose weights can all be trained.  Where the base is not kept as plain numbers (four
    bits), its layers become ``nn.Linear``.
    """
    for name, layer in list(adapted_layers(model)):
        if layer.adapter is not None:
            model.set_submodule(name, plain_linear(*layer.adapter.merged(layer.base)))
    return unload(model)


def unload(model: nn.Module, name: str | None = None) -> nn.Module:
    """Take the adapter called ``name`` out, None: all of them, in place; the weights are those from before ``inject``.

    When the last is out, the model is plain again and all its weights can be trained.
    """
    if name is not None and name not in adapter_names(model):
        raise ValueError(f"the model has no adapter {name!r}; it has {', '.join(adapter_names(model)) or 'none'}")
    for path, layer in list(adapted_layers(model)):
        for key in list(layer.adapters):
            if name in (None, key):
                del layer.adapters[key]
        layer.active = layer.active if isinstance(layer.active, str) and layer.active in layer.adapters else None
        if not layer.adapters:
            model.set_submodule(path, layer.base)
    return model if adapter_names(model) else model.requires_grad_(True)


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def adapted_layers(model: nn.Module) -> Iterator[tuple[str, AdaptedLinear]]:
    """Name and layer of each that has adapters."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, AdaptedLinear))


def adapter_names(model: nn.Module) -> list[str]:
    """Names of all adapters in the model, oldest first."""
    return list(dict.fromkeys(name for _, layer in adapted_layers(model) for name in layer.adapters))


def plain_linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """An ``nn.Linear`` with these weights."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach().contiguous())
    linear.bias = None if bias is None else nn.Parameter(bias.detach().clone())
    return linear


# -- Which matrices -------------------------------------------------------------------------------------------------


def matching_parts(model: nn.Module, targets: tuple[str, ...] | str) -> dict[str, list[Part]]:
    """Layer -> its parts that ``targets`` means (see ``AdapterConfig.targets``); ValueError where a name means none."""
    layers = adaptable_layers(model)
    pairs = [(layer, part) for layer, parts in layers.items() for part in parts]
    if targets == "all-linear":
        kept = pairs
    elif isinstance(targets, str):
        kept = [(layer, part) for layer, part in pairs if re.fullmatch(targets, part.name)]
    else:
        kept = [(layer, part) for layer, part in pairs if any(_fits(target, layer, part) for target in targets)]
        unused = [target for target in targets if not any(_fits(target, layer, part) for layer, part in pairs)]
        if unused and kept:
            raise ValueError(f"targets {', '.join(unused)} fit no matrix of the blocks; there are {_kinds(pairs)}")
    if not kept:
        raise ValueError(f"targets {targets!r} fit no matrix of the blocks; there are {_kinds(pairs)}")
    return {layer: [part for other, part in kept if other == layer] for layer in dict.fromkeys(name for name, _ in kept)}


def adaptable_layers(model: nn.Module) -> dict[str, list[Part]]:
    """Every linear layer of the blocks, in the order of computation -> the matrices in it, each as a ``Part``.

    Left out are the output layer, which is often the embedding as well, and routers, whose choices are no linear
    function.
    """
    found: dict[str, list[Part]] = {}
    prefix, inner = language_model(model)
    routers = tuple(
        f"{name}." for name, module in inner.named_modules() if isinstance(module, SoftmaxRouter | SigmoidRouter)
    )
    rules = {rule.ours: rule for rule in inner.weight_rules(inner.config)}
    for name, module in inner.named_modules():
        base = module.base if isinstance(module, AdaptedLinear) else module
        inside = ".adapters." in name or name.endswith(".base")
        if is_adaptable(base) and name.startswith("blocks.") and not name.startswith(routers) and not inside:
            parts = _parts(rules.get(f"{name}.weight"), name, base.out_features)
            if parts:
                found[prefix + name] = parts
    return found


def base_of(model: nn.Module, layer: str) -> nn.Module:
    """The frozen layer of that name, whether it has adapters or not."""
    module = model.get_submodule(layer)
    return module.base if isinstance(module, AdaptedLinear) else module


def language_model(model: nn.Module) -> tuple[str, LanguageModel]:
    """The one language model in ``model`` (or ``model`` itself) and the prefix of its names there, "" or "backbone."."""
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, LanguageModel)]
    if len(found) != 1:
        raise ValueError(f"adapters go into one language model; {type(model).__name__} holds {len(found)}")
    ((name, inner),) = found
    return f"{name}." if name else "", inner


def _parts(rule, name: str, out_features: int) -> list[Part]:
    if rule is None:
        return [Part(name, 0, out_features)]
    if rule.stack is not None:
        return []
    parts, start = [], 0
    for their_name, n_rows in zip(rule.theirs, rule.rows or [out_features]):
        order = None if rule.order is None else tuple(row - start for row in rule.order[start : start + n_rows])
        if order is not None and sorted(order) != list(range(n_rows)):
            return []  # rows of several matrices are mixed: none of them is a slice of ours
        if order == tuple(range(n_rows)):
            order = None
        parts.append(Part(their_name.removesuffix(".weight"), start, start + n_rows, rule.transpose, order))
        start += n_rows
    return parts


def _fits(target: str, layer: str, part: Part) -> bool:
    return any(name == target or name.endswith(f".{target}") for name in (layer, part.name))


def _kinds(pairs: list[tuple[str, Part]]) -> str:
    """The last names of all matrices, each once."""
    names = dict.fromkeys(part.name.rsplit(".", 1)[-1] for _, part in pairs)
    return ", ".join(names) or "none"
