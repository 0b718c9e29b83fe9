"""What examples/deploy says about metrics, settings and files is true. nginx.conf has a test file of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapters.prometheus import Exporter
from realtime.metrics import Histogram, Metrics
from realtime.settings import SHORTEST_HMAC_KEY, Settings
from tests.serving import ROOT, program

DEPLOY = ROOT / "examples" / "deploy"
DASHBOARD = DEPLOY / "grafana" / "realtime-rooms.json"
SECONDS = 20.0
"""For a program that only reads a file."""

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
    return set(re.findall(r"[A-Za-z_:][\w:]*", rest)) - PROMQL, labels


def assert_true(expression: str) -> set[str]:
    """Every name exists, and every label is one of theirs. Returns the names."""
    every = known()
    names, labels = used(expression)
    assert names, expression
    assert names <= every.keys(), f"{names - every.keys()} in {expression}"
    theirs = set().union(*(every[name] for name in names))
    assert labels <= theirs, f"{labels - theirs} in {expression}"
    return names


def read(name: str) -> str:
    return (DEPLOY / name).read_text()


def yaml_of(name: str) -> Any:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: YAML files are checked as text alone")
    return yaml.safe_load(read(name))


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
    found = used(expression)
    assert found == (names, labels) or found == (names | {"e3"}, labels)


@pytest.mark.parametrize(
    "wrong",
    ["realtime_conections", "realtime_handler_seconds", "sum by (wire) (realtime_rooms)", 'realtime_rooms{wire="x"}'],
)
def test_what_is_wrong_is_noticed(wrong: str) -> None:
    with pytest.raises(AssertionError):
        assert_true(wrong)


# ── the dashboard ────────────────────────────────────────────────────────────────────────────────


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> list[tuple[str, dict[str, Any]]]:
    return [(panel["title"], target) for panel in panels() for target in panel["targets"]]


@pytest.mark.parametrize(("title", "target"), queries(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_panel_asks_for_what_exists(title: str, target: dict[str, Any]) -> None:
    names = assert_true(target["expr"])
    shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    left = set(re.findall(r"\w+", "".join(re.findall(r"by \(([^)]*)\)", target["expr"]))))
    assert shown <= (left or set().union(*(known()[name] for name in names))), title


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
        names, _ = used(rule["expr"])
        told = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        left = set(re.findall(r"\w+", "".join(re.findall(r"by \(([^)]*)\)", rule["expr"]))))
        assert told <= (left or set().union(*(known()[name] for name in names))), rule["alert"]


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
    shutil.copy(DEPLOY / "alerts.yml", tmp_path)
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


# ── containers ───────────────────────────────────────────────────────────────────────────────────

REQUIRED = {"REALTIME_JWT_SECRET", "POSTGRES_PASSWORD", "GRAFANA_ADMIN_PASSWORD"}


def test_no_secret_has_a_default() -> None:
    compose = read("compose.yml")
    assert set(re.findall(r"\$\{(\w+):\?", compose)) == REQUIRED
    for name in re.findall(r"\$\{(\w+)(?!:\?)[:\-}]", compose):
        assert not re.search("SECRET|PASSWORD|KEY|TOKEN", name), name


@pytest.mark.parametrize("name", ["compose.yml", "nginx.conf", "README.md", "Dockerfile"])
def test_settings_that_are_named_exist(name: str) -> None:
    named = set(re.findall(r"REALTIME_([A-Z_]+)", read(name))) - {"PORT"}  # of compose.yml alone
    assert {setting.lower() for setting in named} <= Settings.model_fields.keys()


def test_the_environment_is_safe_for_production(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = yaml_of("compose.yml")["services"]["a"]["environment"]
    for name in [name for name in os.environ if name.startswith("REALTIME_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        value = re.sub(r"\$\{\w+:\?[^}]*\}", "s" * SHORTEST_HMAC_KEY, value)
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value))
    settings = Settings()
    assert settings.production
    assert settings.problems() == []
    assert settings.node == "a"


def test_compose_is_consistent() -> None:
    compose = yaml_of("compose.yml")
    services = compose["services"]
    assert {"a", "b", "nginx", "redis", "prometheus", "grafana"} <= services.keys()
    for name, service in services.items():
        for other in service.get("depends_on", []):
            assert other in services, f"{name} waits for {other}"
        for mount in service.get("volumes", []):
            source = mount.partition(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith(".") else source in compose["volumes"]
    instances = {name for name, service in services.items() if service.get("image") == "realtime-rooms"}
    assert {services[name]["environment"]["REALTIME_NODE"] for name in instances} == instances
    address = services["nginx"]["networks"]["default"]["ipv4_address"]
    assert services["a"]["environment"]["REALTIME_TRUSTED_PROXIES"] == address
    targets = yaml_of("prometheus.yml")["scrape_configs"][0]["static_configs"][0]["targets"]
    assert {target.partition(":")[0] for target in targets} == instances
    assert {name for name, service in services.items() if "ports" in service} == {"nginx", "prometheus", "grafana"}


def test_provisioning_agrees_with_compose() -> None:
    provisioning = yaml_of("grafana/provisioning.yml")
    services = yaml_of("compose.yml")["services"]
    mounts = dict(mount.split(":")[:2] for mount in reversed(services["grafana"]["volumes"]))
    assert str(Path(mounts["./grafana/realtime-rooms.json"]).parent) == provisioning["providers"][0]["options"]["path"]
    assert provisioning["datasources"][0]["url"] == "http://prometheus:9090"
    assert (
        provisioning["datasources"][0]["jsonData"]["timeInterval"]
        == yaml_of("prometheus.yml")["global"]["scrape_interval"]
    )


@pytest.mark.process
def test_docker_compose_itself_takes_the_file() -> None:
    docker = program("docker", package="docker-compose-v2")
    if subprocess.run([docker, "compose", "version"], capture_output=True, timeout=SECONDS, check=False).returncode:
        pytest.skip("docker without its compose plugin on this machine")
    command = [docker, "compose", "-f", str(DEPLOY / "compose.yml"), "config", "--quiet"]
    bare = {name: value for name, value in os.environ.items() if name not in REQUIRED}
    without = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert without.returncode != 0
    given = bare | dict.fromkeys(REQUIRED, "x" * SHORTEST_HMAC_KEY)
    checked = subprocess.run(command, env=given, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.process
def test_nginx_takes_the_file_that_compose_makes(tmp_path: Path) -> None:
    """The very sed of compose.yml; only the names of the containers are made into addresses."""
    nginx = program("nginx", package="nginx")
    edits = re.findall(r"-e '(s\|[^']+)'", read("compose.yml"))
    assert len(edits) == 4
    command = ["sed", *(part for edit in edits for part in ("-e", edit)), str(DEPLOY / "nginx.conf")]
    made = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout
    assert made.count("server a:8000") == made.count("server b:8000") == 2
    assert "error_log         stderr notice;" in made
    assert "access_log /dev/stdout without_query;" in made
    (tmp_path / "nginx.conf").write_text(re.sub(r"server [ab]:8000", "server 127.0.0.1:8000", made))
    check = [nginx, "-t", "-p", f"{tmp_path}/", "-e", "stderr", "-c", str(tmp_path / "nginx.conf")]
    checked = subprocess.run(check, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert checked.returncode == 0, checked.stderr


def test_the_image_gets_what_the_build_needs() -> None:
    dockerfile = read("Dockerfile")
    copied = {name for line in re.findall(r"^COPY (.+)$", dockerfile, re.M) for name in line.split()[:-1]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"], *packages}
    assert needed <= copied
    for name in copied:
        assert (ROOT / name).exists(), f"COPY {name}"
    assert "postgres" in project["project"]["optional-dependencies"]


def test_the_image_does_not_run_as_root() -> None:
    lines = read("Dockerfile").splitlines()
    user = max(number for number, line in enumerate(lines) if line.startswith("USER "))
    assert lines[user].split()[1] not in {"root", "0"}
    assert not [line for line in lines[user:] if line.startswith(("RUN ", "COPY ", "ADD "))]
