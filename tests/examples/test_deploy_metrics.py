"""Dashboard and alerts of examples/deploy ask only for metrics that exist, and show all of ours."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapters.prometheus import Exporter
from realtime.metrics import Histogram, Metrics
from tests.examples.deploy_files import DEPLOY, SECONDS, read, yaml_of
from tests.serving import program

Names = dict[str, set[str]]
"""Time series, and the labels of each."""

BY_PROMETHEUS = {"job", "instance"}
PROMQL = {
    *("and", "or", "unless", "by", "without", "on", "ignoring", "bool", "offset"),
    *("sum", "min", "max", "avg", "count", "topk", "rate", "increase", "histogram_quantile", "min_over_time"),
    *("max_over_time", "avg_over_time", "clamp_min", "label_values"),
}
BY_HAND = {"up": set[str]()}
"""Made by Prometheus itself for each target."""


def our_names() -> Names:
    found: Names = {}
    for metric in Metrics().all():
        labels = {*metric.labels, *BY_PROMETHEUS}
        if isinstance(metric, Histogram):
            found[f"{metric.name}_bucket"] = {*labels, "le"}
            found[f"{metric.name}_sum"] = found[f"{metric.name}_count"] = labels
        else:
            found[metric.name] = labels
    return found


def process_names() -> Names:
    """What the exporter shows about the process on this machine; on Linux, that is everything."""
    body, _ = Exporter(Metrics()).render()
    return {
        sample.name: {*sample.labels, *BY_PROMETHEUS}
        for family in text_string_to_metric_families(body.decode())
        if not family.name.startswith("realtime_")
        for sample in family.samples
    }


def known() -> Names:
    return {**our_names(), **process_names(), **{name: labels | BY_PROMETHEUS for name, labels in BY_HAND.items()}}


def used(expression: str) -> tuple[set[str], set[str]]:
    """The names of time series and the labels in a PromQL expression; whatever is no known word is a name."""
    labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression))
    rest = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", " ", expression)
    for group in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", rest):
        labels |= set(re.findall(r"\w+", group))
    rest = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", " ", rest)
    return set(re.findall(r"(?<![\w:])[A-Za-z_:][\w:]*", rest)) - PROMQL, labels


def left(expression: str) -> set[str]:
    """The labels that the result may have."""
    groups = re.findall(r"by \(([^)]*)\)", expression)
    if groups:
        return set(re.findall(r"\w+", " ".join(groups)))
    return set().union(*(known()[name] for name in used(expression)[0]))


def assert_true(expression: str) -> set[str]:
    """Every name exists, and every label is one of theirs. Returns the names."""
    every = known()
    names, labels = used(expression)
    assert names, expression
    assert names <= every.keys(), f"{names - every.keys()} in {expression}"
    theirs = set().union(*(every[name] for name in names))
    assert labels <= theirs, f"{labels - theirs} in {expression}"
    return names


# ── the reader of expressions itself ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("expression", "names", "labels"),
    [
        ("up == 0", {"up"}, set()),
        ('sum by (a, b) (rate(x_total{c=~"$d", e="f g"}[5m])) / 2', {"x_total"}, {"a", "b", "c", "e"}),
        ("histogram_quantile(0.99, sum by (le) (rate(y_bucket[$__rate_interval]))) > 1e3", {"y_bucket"}, {"le"}),
        ("topk(10, misspelt(z))", {"misspelt", "z"}, set()),
    ],
)
def test_names_and_labels_are_found(expression: str, names: set[str], labels: set[str]) -> None:
    assert used(expression) == (names, labels)


@pytest.mark.parametrize(
    "wrong",
    ["realtime_conections", "realtime_handler_seconds", "sum by (wire) (realtime_rooms)", 'realtime_rooms{wire="x"}'],
)
def test_what_is_wrong_is_noticed(wrong: str) -> None:
    with pytest.raises(AssertionError):
        assert_true(wrong)


# ── the dashboard ────────────────────────────────────────────────────────────────────────────────


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read("grafana/realtime-rooms.json"))
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> list[tuple[str, dict[str, Any]]]:
    return [(panel["title"], target) for panel in panels() for target in panel["targets"]]


@pytest.mark.parametrize(("title", "target"), queries(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_panel_asks_for_what_exists(title: str, target: dict[str, Any]) -> None:
    assert_true(target["expr"])
    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left(target["expr"]), title


def test_every_metric_is_shown() -> None:
    shown = set().union(*(used(target["expr"])[0] for _, target in queries()))
    for metric in Metrics().all():
        family = {f"{metric.name}{suffix}" for suffix in ("_bucket", "_sum", "_count")}
        assert shown & (family if isinstance(metric, Histogram) else {metric.name}), f"{metric.name} is in no panel"


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """A fixed uid to link to, no id of somebody's database, and the data source is chosen by the reader."""
    found = dashboard()
    assert found["uid"] == "realtime-rooms"
    assert "id" not in found
    assert found["schemaVersion"] >= 38, "Grafana 10"
    variables = {variable["name"]: variable for variable in found["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    asking = [*panels(), *(target for _, target in queries()), *(v for v in variables.values() if v["type"] == "query")]
    assert {part["datasource"]["uid"] for part in asking} == {"${datasource}"}
    used_variables = set(re.findall(r"\$(\w+)", json.dumps([target["expr"] for _, target in queries()])))
    assert used_variables - {"__rate_interval"} <= variables.keys()


def test_variables_ask_for_what_exists() -> None:
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert asked
            assert asked[2] in set().union(*(known()[name] for name in assert_true(asked[1])))


def test_panels_have_places_and_explanations_of_their_own() -> None:
    found = dashboard()["panels"]
    assert len({panel["id"] for panel in found}) == len(found)
    taken: set[tuple[int, int]] = set()
    for panel in found:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, "Grafana's grid has 24 columns"
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


# ── alerts and Prometheus ────────────────────────────────────────────────────────────────────────

RULES = re.findall(r"- alert: (\w+)\n\s+expr: (.+)\n", read("alerts.yml"))


@pytest.mark.parametrize(("alert", "expression"), RULES)
def test_every_alert_asks_for_what_exists(alert: str, expression: str) -> None:
    assert alert.startswith("Realtime")
    assert_true(expression)


def test_alerts_name_error_codes_that_exist() -> None:
    codes = set(re.findall(r'code="([^"]+)"', read("alerts.yml")))
    assert codes == {"internal"}


def test_alerts_are_whole() -> None:
    rules = [rule for group in yaml_of("alerts.yml")["groups"] for rule in group["rules"]]
    assert [(rule["alert"], rule["expr"]) for rule in rules] == RULES
    for rule in rules:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        told = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert told <= left(rule["expr"]), rule["alert"]


@pytest.mark.process
def test_prometheus_itself_takes_its_files() -> None:
    promtool = program("promtool", package="prometheus")
    command = [promtool, "check", "config", str(DEPLOY / "prometheus.yml")]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(RULES)} rules found" in checked.stdout


def series(name: str, values: str) -> dict[str, str]:
    return {"series": name, "values": values}


def alert_at(minute: int, alert: str, labels: dict[str, str] | None) -> dict[str, Any]:
    return {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": [{"exp_labels": labels}] if labels else []}


@pytest.mark.process
def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    promtool = program("promtool", package="prometheus")
    # promtool compares annotations word for word as well; here only whether an alert fires is asked.
    rules = re.sub(r"\n +annotations:(?:\n +(?:summary|description):.+)+", "", read("alerts.yml"))
    (tmp_path / "alerts.yml").write_text(rules)
    one = {"job": "realtime", "instance": "a:8000"}
    ours = 'job="realtime",instance="a:8000"'
    test = {
        "rule_files": ["alerts.yml"],
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    series(f"up{{{ours}}}", "1x20 0x40"),
                    series(f"realtime_bus_up{{{ours}}}", "1x20 0x40"),
                    series(f"realtime_loop_lag_seconds{{{ours}}}", "0.002x20 0.9x40"),
                    series(f"realtime_history_pending{{{ours}}}", "10x20 5000x40"),
                    series(f'realtime_errors_total{{{ours},namespace="/chat",code="internal"}}', "0x20 0+1x100"),
                    series(f'realtime_namespace_connections{{{ours},namespace="/chat"}}', "400x20 10x100"),
                    series(
                        f'realtime_disconnects_total{{{ours},namespace="/chat",reason="transport close"}}',
                        "0x20 390x100",
                    ),
                ],
                "alert_rule_test": [
                    *(alert_at(4, alert, None) for alert, _ in RULES),
                    alert_at(8, "RealtimeInstanceDown", {**one, "severity": "critical"}),
                    alert_at(8, "RealtimeBusDown", {**one, "severity": "critical"}),
                    alert_at(8, "RealtimeLoopLag", {**one, "severity": "warning"}),
                    alert_at(8, "RealtimeHistoryBehind", {**one, "severity": "critical"}),
                    alert_at(6, "RealtimeMassDisconnect", {"job": "realtime", "severity": "warning"}),
                    alert_at(14, "RealtimeInternalErrors", {**one, "namespace": "/chat", "severity": "critical"}),
                    alert_at(14, "RealtimeDrops", None),
                ],
            },
            {  # no bus, no errors, nothing measured yet: silence
                "interval": "15s",
                "input_series": [series(f"up{{{ours}}}", "1x60")],
                "alert_rule_test": [alert_at(14, alert, None) for alert, _ in RULES],
            },
        ],
    }
    (tmp_path / "test.yml").write_text(json.dumps(test))  # JSON is YAML
    command = [promtool, "test", "rules", str(tmp_path / "test.yml")]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
