"""Where a model's weights sit: embedding, attention, feed-forward network or experts, norms, output layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from scratch_llm.analysis.shapes import as_shapes
from scratch_llm.models import LanguageModel

EMBEDDING, HEAD, NORMS, EXPERTS = "embedding", "head", "norms", "experts"
_NAMES = {"attention": "attention", "mlp": "feed-forward"}


@dataclass(frozen=True)
class Component:
    """Weights of one kind.  ``active`` are those that work on a token: of experts, the ones it is sent to."""

    name: str
    total: int
    active: int


def count_parameters(model_or_config: LanguageModel | Any) -> list[Component]:
    """Weights by component, largest first; the totals add up to ``model.n_parameters()``.

    A tied matrix counts once, as "embedding": it is looked up on the way in and multiplied on the way out.  Parts of a
    block that are neither attention nor feed-forward keep the name of their module ("mixer", "time mix").
    """
    model = as_shapes(model_or_config)
    totals: dict[str, int] = {}
    for component, _, weight in _weights(model):
        totals[component] = totals.get(component, 0) + weight.numel()
    active = totals | ({EXPERTS: active_expert_parameters(model)} if EXPERTS in totals else {})
    components = [Component(name, total, active[name]) for name, total in totals.items()]
    return sorted(components, key=lambda component: -component.total)


def total_parameters(model_or_config: LanguageModel | Any) -> int:
    """All weights, tied ones once."""
    return as_shapes(model_or_config).n_parameters()


def active_parameters(model_or_config: LanguageModel | Any) -> int:
    """Weights that work on one token: all but the experts it is not sent to.  Embedding tables count in full, as in
    the figures that are published."""
    return sum(component.active for component in count_parameters(model_or_config))


def matrices_by_component(model: LanguageModel) -> dict[str, int]:
    """Weights that multiply each token, by component; they add up to ``model.n_matrix_parameters()``."""
    found = {HEAD: model.head_weight.numel()}
    for component, owner, weight in _weights(model):
        if isinstance(owner, nn.Linear) and weight is owner.weight and component not in (EXPERTS, HEAD):
            found[component] = found.get(component, 0) + weight.numel()
    if any(component == EXPERTS for component, _, _ in _weights(model)):
        found[EXPERTS] = active_expert_parameters(model)
    # What a model counts beyond its linear layers: short convolutions, projections kept as plain parameters.
    rest = model.n_matrix_parameters() - sum(found.values())
    return found | ({"other matrices": rest} if rest else {})


def active_expert_parameters(model: LanguageModel) -> int:
    """Weights of the experts that one token visits, over all layers: what the model counts beside its other matrices."""
    others = sum(
        weight.numel()
        for component, owner, weight in _weights(model)
        if isinstance(owner, nn.Linear) and weight is owner.weight and component not in (EXPERTS, HEAD)
    )
    return model.n_matrix_parameters() - model.head_weight.numel() - others


def component_of(module_name: str, owner: nn.Module) -> str:
    """The component of a module, from its place in the model (``blocks.3.mlp.down``) and its kind."""
    parts = module_name.split(".")
    if type(owner).__name__.endswith("Norm"):
        return NORMS
    if isinstance(owner, nn.Embedding):
        return EMBEDDING
    if parts[0] == "lm_head":
        return HEAD
    if any("experts" in part and "shared" not in part for part in parts):
        return EXPERTS
    if "router" in parts:
        return "router"
    if any("shared" in part for part in parts):
        return "shared expert"
    if parts[0] == "blocks" and len(parts) > 2:
        return _NAMES.get(parts[2], parts[2].replace("_", " "))
    return parts[0].replace("_", " ") or "other"


def _weights(model: LanguageModel) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    """(component, module that holds it, weight), each weight once."""
    seen: set[int] = set()
    for name, module in model.named_modules():
        for weight in module.parameters(recurse=False):
            if id(weight) not in seen:
                seen.add(id(weight))
                yield component_of(name, module), module, weight
