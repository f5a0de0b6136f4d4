"""The data card for people: what came in, what each rule did to it and why, before and after, in Korean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llm_workshop.artifacts import Artifacts
from llm_workshop.curation.facts import LENGTH_EDGES
from llm_workshop.curation.pipeline import read_card
from llm_workshop.curation.words import detail_in_korean, reason_in_korean, tag_in_korean, title_of
from llm_workshop.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Samples of each rule that the page shows, and characters of a sample.
SHOWN, SAMPLE = 2, 150
REASONS_SHOWN = 3


def add_data_card(report: Report, artifacts: Artifacts) -> Report:
    """Everything the stages ``raw`` and ``clean`` (and ``curated``, if it is there) know of their documents."""
    card, raw = read_card(artifacts), artifacts.read_manifest("raw")["metrics"]
    report.facts(_overview(card, raw, _curated(artifacts)))
    if raw["broken"]:
        reasons = [(reason_in_korean(reason), number) for reason, number in sorted(raw["broken_reasons"].items(), key=lambda row: -row[1])]
        report.table(reasons, ["읽지 못한 까닭", "건"], "raw/quarantine.jsonl에 파일과 줄이 있습니다")
    report.table(rule_rows(card), caption="규칙이 한 일 (차례대로)")
    report.figure(rules_plot(card), "rules", "규칙마다 버린 글과 고친 글, 글 하나에 걸린 시간")
    report.figure(before_after_plot(card), "before-after", "다듬기 전과 뒤: 글의 길이와 한글의 비율")
    if card["tags"]:
        report.table(tag_rows(card), caption="규칙이 남긴 꼬리표 (남은 글에서 센 것)")
    for rule in card["rules"]:
        _add_samples(report, rule)
    return report


def rule_rows(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a rule: how many texts reached it, were changed and dropped, why, and microseconds a text."""
    rows = []
    for rule, spent in zip(card["rules"], card["rule_seconds"]):
        reasons = sorted(rule["reasons"].items(), key=lambda item: (-item[1], item[0]))
        more = f" 외 {len(reasons) - REASONS_SHOWN}가지" if len(reasons) > REASONS_SHOWN else ""
        rows.append({
            "규칙": title_of(rule["name"]), "이름": rule["name"], "본 글": rule["seen"], "고친 글": rule["changed"], "버린 글": rule["dropped"],
            "버린 까닭": ", ".join(f"{reason_in_korean(reason)} {number:,}" for reason, number in reasons[:REASONS_SHOWN]) + more or "–",
            "지운 글자": rule["characters_removed"], "µs/글": round(1e6 * spent["seconds"] / max(1, rule["seen"]), 1),
        })  # fmt: skip
    return rows


def tag_rows(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, counts in card["tags"].items():
        often = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        more = f" 외 {len(often) - 8}가지" if len(often) > 8 else ""
        rows.append({"꼬리표": tag_in_korean(name), "값과 수": ", ".join(f"{tag_in_korean(value)} {number:,}" for value, number in often[:8]) + more})
    return rows


def rules_plot(card: Mapping[str, Any]) -> Figure:
    """Three lists of bars, a row a rule: texts dropped, texts changed, microseconds a text."""
    from llm_workshop.report.plots import COLORS, new_figure

    rules, names = card["rules"], [title_of(rule["name"]) for rule in card["rules"]]
    height = 0.8 + 0.26 * max(3, len(rules))
    figure, (dropped, changed, time) = new_figure(1, 3, width=3.9, height=height)
    _bars(dropped, names, [rule["dropped"] for rule in rules], "버린 글", "글", COLORS[1])
    _bars(changed, None, [rule["changed"] for rule in rules], "고친 글", "글", COLORS[0])
    spent = [1e6 * each["seconds"] / max(1, rule["seen"]) for rule, each in zip(rules, card["rule_seconds"])]
    _bars(time, None, spent, "걸린 시간", "µs/글", COLORS[3])
    return figure


def before_after_plot(card: Mapping[str, Any]) -> Figure:
    """Documents by length (classes that double) and by share of Hangul, raw and clean."""
    from llm_workshop.report.plots import COLORS, new_figure

    figure, (length, hangul) = new_figure(1, 2, width=5.6, height=3.1)
    used = [number for number in range(len(LENGTH_EDGES)) if card["before"]["length"][number] or card["after"]["length"][number]]
    classes = range(used[0], used[-1] + 1) if used else range(1)
    for side, color, offset, label in (("before", COLORS[3], -0.2, "다듬기 전"), ("after", COLORS[0], 0.2, "다듬은 뒤")):
        length.bar([place + offset for place in range(len(classes))], [card[side]["length"][n] for n in classes], width=0.4, color=color, label=label)
        counts = card[side]["hangul"]
        shares = [*counts[:-2], counts[-2] + counts[-1]]  # the class of exactly 1.0 joins the last one
        hangul.bar([5 * (place + 0.5) + 5 * offset for place in range(len(shares))], shares, width=2.0, color=color, label=label)
    length.set_xticks(range(len(classes)), [_number(LENGTH_EDGES[n]) for n in classes], rotation=45 if len(classes) > 9 else 0)
    length.set_title("글의 길이")
    length.set_xlabel("글자 수 (이 수 이상, 다음 수 미만)")
    hangul.set_title("한글의 비율")
    hangul.set_xlabel("글자 가운데 한글 음절 (%)")
    for axes in (length, hangul):
        axes.set_ylabel("글 수")
        axes.grid(axis="x", visible=False)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    hangul.legend(loc="upper left")
    return figure


def _bars(axes: Axes, names: Sequence[str] | None, values: Sequence[float], title: str, unit: str, color: str) -> None:
    top = max([*values, 1e-9])
    axes.barh(range(len(values)), values, height=0.68, color=color)
    for place, value in enumerate(values):
        axes.text(value + 0.02 * top, place, f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}", va="center", fontsize=8)
    axes.set_yticks(range(len(values)), names if names is not None else [""] * len(values))
    axes.invert_yaxis()
    axes.set_xlim(0, 1.22 * top)
    axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}")
    axes.grid(axis="y", visible=False)
    axes.set_title(title)
    axes.set_xlabel(unit)


def _number(value: int) -> str:
    return f"{value // 10_000}만" if value >= 100_000 else f"{value:,}"


def _overview(card: Mapping[str, Any], raw: Mapping[str, Any], curated: Mapping[str, Any] | None) -> dict[str, Any]:
    before, after = card["before"], card["after"]
    spent = card["seconds"]
    facts = {
        "모은 글": before["documents"], "모은 글자": before["characters"],
        "읽지 못해 따로 둔 것": raw["broken"], "빈 글": raw["empty"],
        "규칙이 버린 글": before["documents"] - after["documents"],
        "다듬은 글": after["documents"], "다듬은 글자": after["characters"],
        "남은 비율 (글)": f"{after['documents'] / max(1, before['documents']):.1%}",
        "남은 비율 (글자)": f"{after['characters'] / max(1, before['characters']):.1%}",
        "걸린 시간": f"{spent:.1f}초 (초당 {before['documents'] / max(spent, 1e-9):,.0f}편, 프로세스 {card['workers']}개)",
    }  # fmt: skip
    if curated:
        gone = {rule: number for rule, number in curated["dropped"].items() if number}
        facts["중복으로 지운 글"] = ", ".join(f"{reason_in_korean(rule)} {number:,}" for rule, number in gone.items()) or "없음"
        facts["학습용 / 평가용 글"] = f"{curated['kept']['train']['documents']:,} / {curated['kept']['valid']['documents']:,}"
    return facts


def _curated(artifacts: Artifacts) -> dict[str, Any] | None:
    """The metrics of the stage ``curated`` if it was made from the ``clean`` that is there."""
    try:
        manifest = artifacts.read_manifest("curated")
        return manifest["metrics"] if manifest["inputs"]["clean"] == artifacts.content_digest("clean") else None
    except (ValueError, KeyError):
        return None


def _add_samples(report: Report, rule: Mapping[str, Any]) -> None:
    if not rule["changes"] and not rule["drops"]:
        return
    report.heading(f"{title_of(rule['name'])} ({rule['name']})", 3)
    if rule["changes"]:
        rows = [{"앞": _visible(sample["before"]), "뒤": _visible(sample["after"])} for sample in rule["changes"][:SHOWN]]
        report.table(rows, caption="고친 글의 보기 (달라지기 시작한 곳 둘레)")
    if rule["drops"]:
        rows = [{"까닭": reason_in_korean(sample["reason"]), "자세히": detail_in_korean(sample["detail"]), "글": _visible(sample["start"])} for sample in rule["drops"][:SHOWN]]
        report.table(rows, caption="버린 글의 보기")


def _visible(text: str) -> str:
    """A text on one line in which what is invisible can be seen."""
    shown = "".join(_SIGNS.get(character) or (character if character.isprintable() else f"<{ord(character):04X}>") for character in text[:SAMPLE])
    return shown + ("…" if len(text) > SAMPLE else "")


_SIGNS = {"\n": "⏎", "\t": "⇥"}
