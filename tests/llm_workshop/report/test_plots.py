"""Plots: Hangul is drawn as Hangul, metrics are read as they are written."""

from __future__ import annotations

import io
import json
import sys
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from llm_workshop.report import plots

HANGUL = "한국어 손실 곡선 꿻뷁 가각간"


@pytest.fixture(autouse=True)
def restore_matplotlib():
    with matplotlib.rc_context():
        yield


def draw(text: str, size: int = 40) -> np.ndarray:
    """The ink of ``text`` as a grey image."""
    figure = Figure(figsize=(8, 1.2))
    figure.text(0.02, 0.3, text, fontsize=size)
    stream = io.BytesIO()
    figure.savefig(stream, format="rgba", dpi=60)
    return np.frombuffer(stream.getvalue(), np.uint8).reshape(72, 480, 4)[:, :, 0]


def test_hangul_has_no_missing_glyphs():
    plots.use_hangul_font()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(HANGUL + " −1.5 × 10³ → ≤")


def test_the_check_above_would_notice_boxes():
    matplotlib.rcParams["font.family"] = ["DejaVu Sans"]
    with pytest.warns(UserWarning, match="Glyph .* missing"):
        draw(HANGUL)


def test_different_syllables_look_different():
    plots.use_hangul_font()
    images = [draw(syllable) for syllable in "가나다뷁힣"]
    assert all(image.min() < 100 for image in images), "every syllable leaves ink"
    assert all((a != b).any() for i, a in enumerate(images) for b in images[:i]), "boxes would all be equal"


def test_the_font_is_found_without_importing_its_package():
    sys.modules.pop("koreanize_matplotlib", None)
    plots.hangul_font_files.cache_clear()
    assert any(file.name == "NanumGothic.ttf" for file in plots.hangul_font_files())
    assert "koreanize_matplotlib" not in sys.modules


def test_a_missing_font_package_names_the_cure(monkeypatch):
    plots.hangul_font_files.cache_clear()
    monkeypatch.setattr(plots.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install koreanize-matplotlib"):
        plots.hangul_font_files()
    plots.hangul_font_files.cache_clear()


@pytest.fixture
def metrics(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        for step in range(1, 61):
            record = {"step": step, "loss": 9.0 - step / 20, "learning_rate": 1e-3, "tokens_per_second": 5000 + step}
            if step % 20 == 0:
                record |= {"valid_loss": 9.1 - step / 20, "bits_per_byte": 3 - step / 60}
            stream.write(json.dumps(record) + "\n")
    return path


def test_loss_plot_shows_what_was_recorded(metrics):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plots.loss_plot(metrics, "5주차 사전학습")
        figure.savefig(io.BytesIO(), format="png")
    loss, bits, rate, speed = figure.axes
    raw, smoothed, valid = loss.lines
    assert list(raw.get_xdata()) == list(range(1, 61)) and raw.get_ydata()[-1] == pytest.approx(6.0)
    assert smoothed.get_ydata()[30] == pytest.approx(raw.get_ydata()[30])
    assert list(valid.get_xdata()) == [20, 40, 60]
    assert list(bits.lines[0].get_ydata()) == pytest.approx([3 - 1 / 3, 3 - 2 / 3, 2.0])
    assert len(rate.lines[0].get_xdata()) == len(speed.lines[0].get_xdata()) == 60


def test_steps_repeated_after_a_resume_count_once(metrics):
    with metrics.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"step": 60, "loss": 1.25}) + "\n")
        stream.write('{"step": 61, "lo')  # the kill came here
    records = plots.read_metrics(metrics)
    assert len(records) == 60
    assert records[-1]["loss"] == 1.25 and records[-1]["bits_per_byte"] == pytest.approx(2.0)


def test_bad_metrics_are_named(tmp_path, metrics):
    with pytest.raises(FileNotFoundError, match="make week5-pretrain"):
        plots.read_metrics(tmp_path / "none.jsonl")
    text = metrics.read_text(encoding="utf-8").splitlines()
    metrics.write_text("\n".join([text[0], "not json", text[1]]), encoding="utf-8")
    with pytest.raises(ValueError, match="line 2"):
        plots.read_metrics(metrics)
    metrics.write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="no step yet"):
        plots.loss_plot(metrics)


def test_smoothing_does_not_lag():
    line = [10.0 - step / 2 for step in range(20)]
    assert plots.smooth(line, 5) == pytest.approx(line), "a straight line stays where it is"
    assert plots.smooth([0.0, 3.0, 0.0, 3.0, 0.0], 3) == pytest.approx([0.0, 1.0, 2.0, 1.0, 0.0])
    assert plots.smooth([1.0, 2.0], 0) == [1.0, 2.0]


def test_a_heat_map_shows_its_values_with_hangul_labels():
    figure, axes = plots.new_figure()
    plots.heat_map(axes, [[1.0, 0.004], [0.25, 0.75]], ["나는", "밥을"], "무게")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["나는", "밥을"]
    assert [text.get_text() for text in axes.texts] == ["1.00", ".25", ".75"], "what rounds to .00 stays empty"
    assert axes.images[0].get_clim() == (0, 1)
    figure, axes = plots.new_figure()
    plots.heat_map(axes, [[0.1] * 13] * 13, highest=0.5)
    assert not axes.texts and axes.images[0].get_clim() == (0, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO())


def test_bars_stand_in_the_order_given_and_the_missing_one_is_a_dash():
    _, axes = plots.new_figure()
    plots.bar_list(axes, {"느림": 1234.0, "없음": None, "빠름": 0.5}, "시간", "ms")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["느림", "없음", "빠름"]
    assert [text.get_text() for text in axes.texts] == ["1,234", "–", "0.5"]
    assert [bar.get_width() for bar in axes.patches] == [1234.0, 0.5]
    assert axes.yaxis_inverted()
