"""The containers of examples/deploy agree with each other, with the settings and with the package."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from realtime.settings import SHORTEST_HMAC_KEY, Settings
from tests.examples.deploy_files import DEPLOY, SECONDS, read, yaml_of
from tests.serving import ROOT, program

REQUIRED = {"REALTIME_JWT_SECRET", "REALTIME_BUS_KEYS", "POSTGRES_PASSWORD", "GRAFANA_ADMIN_PASSWORD"}


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
    monkeypatch.setenv("REALTIME_REDIS_URL", "redis://redis:6379/0")  # an option of the command there
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
    copied = {name for line in re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE) for name in line.split()[:-1]}
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
