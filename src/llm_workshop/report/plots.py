"""Plots in one consistent style, with Hangul that is Hangul and not boxes."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

HANGUL_FONT = "NanumGothic"
# Distinct in print and to colour-blind readers (after Okabe and Ito, 2008), darkened for white paper.
COLORS = ("#3056d3", "#d9622b", "#1a8f6f", "#9b4dca", "#b58900", "#5b6472")
INK, GRID, FAINT = "#1f2430", "#e3e6ec", "#8a93a3"


@functools.cache
def hangul_font_files() -> tuple[Path, ...]:
    """The bundled NanumGothic files (SIL Open Font License), found without importing their package.

    Importing ``koreanize_matplotlib`` changes matplotlib's settings as a side effect and needs
    ``distutils``, which Python 3.12 no longer has; only its font files are of use here.
    """
    spec = importlib.util.find_spec("koreanize_matplotlib")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "the Hangul font for plots is missing: pip install koreanize-matplotlib (it brings NanumGothic)"
        )
    files = tuple(sorted((Path(spec.origin).parent / "fonts").glob("NanumGothic*.ttf")))
    if not files:
        raise FileNotFoundError(f"no NanumGothic*.ttf beside {spec.origin}: reinstall koreanize-matplotlib")
    return files


@functools.cache
def _register_hangul_font() -> None:
    for file in hangul_font_files():
        font_manager.fontManager.addfont(str(file))


def plot_style() -> dict[str, Any]:
    """The rcParams of every plot of the workshop; use with ``matplotlib.rc_context(plot_style())``."""
    _register_hangul_font()
    return {
        # matplotlib falls back glyph by glyph along this list.
        "font.family": [HANGUL_FONT, "DejaVu Sans"],
        "axes.unicode_minus": False,  # NanumGothic has no U+2212
        "figure.facecolor": "white",
        "axes.facecolor": "white",
        "axes.edgecolor": GRID,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.titlesize": 11.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 9,
        "axes.labelsize": 9.5,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": matplotlib.cycler(color=COLORS),
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "lines.linewidth": 1.9,
        "lines.solid_capstyle": "round",
        "legend.frameon": False,
        "legend.fontsize": 9,
        "text.color": INK,
        "figure.dpi": 110,
        "savefig.dpi": 160,
    }


def use_hangul_font() -> None:
    """Give every plot of this process the workshop's style and a font that has Hangul."""
    matplotlib.rcParams.update(plot_style())


def new_figure(rows: int = 1, columns: int = 1, width: float = 4.6, height: float = 3.0) -> tuple[Figure, Any]:
    """A figure in the workshop's style, free of pyplot's global state; sizes are inches per panel."""
    use_hangul_font()
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns)


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Records of a ``metrics.jsonl`` in order of their step, one merged record per step.

    After a kill and a resume the same steps are written again: the later values win.  A last line that a
    kill cut in half is left out.  Raises FileNotFoundError or ValueError with the cure.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no metrics at {path}: train first (make week5-pretrain)")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    steps: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            step = int(record["step"])
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number} is no metrics record ({error}): delete that line") from None
        steps.setdefault(step, {}).update(record)
    return [steps[step] for step in sorted(steps)]


def series(records: Sequence[Mapping[str, Any]], quantity: str) -> tuple[list[int], list[float]]:
    """Steps and values of one quantity, where it was recorded."""
    found = [(int(r["step"]), float(r[quantity])) for r in records if r.get(quantity) is not None]
    return [step for step, _ in found], [value for _, value in found]


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Centred moving average over ``window`` values, fewer near the ends: unlike a trailing one it does not lag."""
    half = max(0, window // 2)
    total = [0.0]
    for value in values:
        total.append(total[-1] + value)
    result = []
    for place in range(len(values)):
        reach = min(half, place, len(values) - 1 - place)
        low, high = place - reach, place + reach + 1
        result.append((total[high] - total[low]) / (high - low))
    return result


def loss_plot(metrics: str | Path, title: str | None = None) -> Figure:
    """Four panels from a run's ``metrics.jsonl``: loss, bits per byte, learning rate, tokens per second."""
    records = read_metrics(metrics)
    if not records:
        raise ValueError(f"{metrics} holds no step yet: let the training run a little, then plot again")
    figure, axes = new_figure(2, 2)
    (loss, bits), (rate, speed) = axes
    _plot_loss(loss, records)
    _plot_line(bits, *series(records, "bits_per_byte"), "바이트당 비트 (검증)", "비트/바이트", COLORS[1])
    _plot_line(rate, *series(records, "learning_rate"), "학습률", "학습률", COLORS[3])
    _plot_line(speed, *series(records, "tokens_per_second"), "학습 속도", "토큰/초", COLORS[2])
    rate.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1e}" if value else "0"))
    speed.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if speed.lines:
        speed.set_ylim(bottom=0)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    return figure


def _plot_loss(axes: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    steps, values = series(records, "loss")
    if steps:
        smoothed = len(steps) >= 20
        axes.plot(steps, values, color=COLORS[0], alpha=0.25 if smoothed else 1.0, linewidth=1.0 if smoothed else 1.9,
                  label=None if smoothed else "학습")
        if smoothed:
            axes.plot(steps, smooth(values, len(values) // 20), color=COLORS[0], label="학습 (이동 평균)")
    steps, values = series(records, "valid_loss")
    if steps:
        axes.plot(steps, values, color=COLORS[1], marker="o", markersize=3.5, label="검증")
        axes.annotate(f"{values[-1]:.3f}", (steps[-1], values[-1]), textcoords="offset points", xytext=(0, 8),
                      ha="right", fontsize=9, color=COLORS[1])
    _decorate(axes, "손실 (교차 엔트로피)", "nat/토큰")
    if axes.lines:
        axes.legend(loc="upper right")


def _plot_line(axes: Axes, steps: list[int], values: list[float], title: str, unit: str, color: str) -> None:
    if steps:
        noisy = len(steps) >= 200 and unit == "토큰/초"
        axes.plot(steps, values, color=color, marker="o" if len(steps) < 40 else None, markersize=3.5,
                  alpha=0.25 if noisy else 1.0, linewidth=1.0 if noisy else 1.9)
        if noisy:
            axes.plot(steps, smooth(values, len(values) // 40), color=color)
        if len(steps) < 40 and unit.startswith("비트"):
            axes.annotate(f"{values[-1]:.3f}", (steps[-1], values[-1]), textcoords="offset points", xytext=(0, 8),
                          ha="right", fontsize=9, color=color)
    else:
        axes.text(0.5, 0.5, "기록 없음", transform=axes.transAxes, ha="center", va="center", color=FAINT)
    _decorate(axes, title, unit)


def _decorate(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("스텝")
    axes.set_ylabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def heat_map(
    axes: Axes,
    values: Sequence[Sequence[float]],
    labels: Sequence[str] | None = None,
    title: str = "",
    *,
    numbers: bool | None = None,
    highest: float | None = None,
) -> None:
    """A square of weights from 0 (white) to ``highest`` (the largest value); rows and columns bear the ``labels``.

    ``numbers`` writes each value into its cell (None: where there are at most 12 rows); what rounds to .00 stays empty.
    """
    n_rows, n_columns = len(values), len(values[0])
    shades = LinearSegmentedColormap.from_list("workshop", ["#ffffff", COLORS[0]])
    top = highest if highest is not None else max(map(max, values))
    axes.imshow(values, cmap=shades, vmin=0, vmax=top or 1)
    axes.grid(False)
    axes.set_title(title)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if labels is None:
        axes.set_xticks([])
        axes.set_yticks([])
    else:
        axes.set_xticks(range(n_columns), labels, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(n_rows), labels)
    if numbers if numbers is not None else n_rows <= 12:
        for row in range(n_rows):
            for column in range(n_columns):
                value = values[row][column]
                if value >= 0.005:
                    axes.text(column, row, f"{value:.2f}".lstrip("0"), ha="center", va="center", fontsize=6.5,
                              color="white" if value > 0.6 * top else INK)


def bar_list(axes: Axes, values: Mapping[str, float | None], title: str, unit: str, rivals: Sequence[str] | None = None) -> None:
    """Horizontal bars in the order given, each with its value behind it, the shortest (of ``rivals``) in green; None is a dash."""
    names, known = list(values), [value for value in values.values() if value is not None]
    top = max(known, default=1.0)
    rivals = names if rivals is None else rivals
    best = min((values[name] for name in rivals if values[name] is not None), default=None)
    for place, (name, value) in enumerate(values.items()):
        if value is None:
            axes.text(0.01 * top, place, "–", va="center", fontsize=8, color=FAINT)
            continue
        axes.barh(place, value, height=0.68, color=COLORS[2] if value == best and name in rivals else COLORS[0])
        axes.text(value + 0.015 * top, place, f"{value:,.0f}" if value >= 100 else f"{value:.3g}", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18 * top)
    axes.grid(axis="y", visible=False)
    axes.set_title(title)
    axes.set_xlabel(unit)
