"""Tables of sizes and their look-up, for one architecture and for all."""

from __future__ import annotations

import dataclasses
import doctest

import pytest

from scratch_llm import models
from scratch_llm.models import presets

FAMILIES = sorted(name.removesuffix("_preset") for name in models.__all__ if name.endswith("_preset"))


def test_the_example_is_right():
    assert doctest.testmod(presets) == (0, 1)


def test_a_row_has_a_value_for_every_column():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        presets.size_table("n_layers d_model", {"s": (2,)})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_sizes_and_names_them(family):
    sizes, preset = getattr(models, f"{family.upper()}_SIZES"), getattr(models, f"{family}_preset")
    configs = [preset(size) for size in sizes]
    assert len(set(map(repr, configs))) == len(sizes) >= 2
    for size, config in zip(sizes, configs):
        assert preset(size, n_layers=3, norm_eps=1e-3) == dataclasses.replace(preset(size, n_layers=3), norm_eps=1e-3)
        assert preset(size) == config, "a change stays out of the table"
    with pytest.raises(ValueError, match=f"size '9z' is no known .*: use one of {', '.join(sizes)}$") as caught:
        preset("9z")
    assert "\n" not in str(caught.value)
    with pytest.raises(TypeError, match="n_layer"):
        preset(next(iter(sizes)), n_layer=3)
