"""Prometheus and Grafana get files that they can read, and that ask only for metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from llm_workshop.serving.triton import interface

ROOT = Path(__file__).resolve().parents[4]
MONITORING = ROOT / "docker" / "monitoring"
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
RECORDED = Path(__file__).with_name("triton_2_51_metrics.txt")
#: Triton has it on machines with a GPU only (its documentation, "Metrics"); Prometheus itself adds ``up``.
ELSEWHERE = {"nv_gpu_utilization", "up"}
METRIC = re.compile(r"\b(?:nv|workshop)_[a-z0-9_]+|\bup\b")


def known_metrics() -> set[str]:
    ours = {value for name, value in vars(interface).items() if name.startswith("METRIC_")}
    ours |= {f"{interface.METRIC_FIRST_TOKEN}_{part}" for part in ("sum", "count")}
    triton = {line.split("{")[0].split(" ")[0] for line in RECORDED.read_text().splitlines() if not line.startswith("#")}
    return ours | triton | ELSEWHERE


def queries(value) -> list[str]:
    """Every PromQL expression anywhere in a dashboard or a rule file."""
    if isinstance(value, dict):
        own = [text for key, text in value.items() if key in ("expr", "query", "definition") and isinstance(text, str)]
        return own + [query for part in value.values() for query in queries(part)]
    return [query for part in value for query in queries(part)] if isinstance(value, list) else []


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda p: p.stem)
def test_a_dashboard_asks_only_for_metrics_that_exist(path):
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    asked = {name for query in queries(dashboard) for name in METRIC.findall(query)}
    assert asked and asked <= known_metrics(), asked - known_metrics()
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"] and panel["description"] and panel["targets"]
        assert all(METRIC.search(target["expr"]) for target in panel["targets"])
        for target in panel["targets"]:
            assert target["expr"].count("(") == target["expr"].count(")") and target["expr"].count("{") == target["expr"].count("}")
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, "Grafana's grid has 24 columns"


def test_every_metric_of_ours_is_on_a_dashboard():
    text = "".join(path.read_text(encoding="utf-8") for path in DASHBOARDS)
    for name, metric in vars(interface).items():
        if name.startswith("METRIC_"):
            assert metric in text, metric


def test_dashboards_use_the_data_source_that_is_provided():
    [source] = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus" and source["url"] == "http://prometheus:9090"
    uids = set()
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        uids.add(dashboard["uid"])
        sources = [part["datasource"] for panel in dashboard["panels"] for part in (panel, *panel["targets"])]
        assert {s["uid"] for s in sources} == {source["uid"]}
    assert len(uids) == len(DASHBOARDS) == 2
    [provider] = yaml.safe_load((MONITORING / "grafana/provisioning/dashboards/workshop.yml").read_text())["providers"]
    assert provider["type"] == "file" and provider["options"]["path"].startswith("/")


def test_prometheus_scrapes_triton_and_its_rules_exist():
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in configuration["scrape_configs"]}
    assert jobs["triton"]["static_configs"][0]["targets"] == ["triton:8002"]
    assert jobs["triton"]["honor_labels"], "our label instance is the engine's, not the address"
    for name in configuration["rule_files"]:
        groups = yaml.safe_load((MONITORING / name).read_text())["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert rules and all(rule["alert"] and rule["annotations"]["summary"] for rule in rules)
        asked = {metric for rule in rules for metric in METRIC.findall(rule["expr"])}
        assert asked <= known_metrics(), asked - known_metrics()
        outcomes = {word for rule in rules for text in re.findall(r'outcome=~?"([^"]+)"', rule["expr"]) for word in text.split("|")}
        assert outcomes <= {"stop", "length", "cancelled", "busy", "invalid", "error"}
