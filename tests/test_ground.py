"""The ground: dev.py on fresh and broken machines, the pins, and the helpers that start real parts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import dev
from tests.javascript import JS, Node
from tests.serving import ROOT, ServerProcess, fetch, free_port, program

BOOTSTRAP_SECONDS = 300
SERVE = "http.server.test(http.server.SimpleHTTPRequestHandler, port={port}, bind='127.0.0.1')"
WEB_SERVER = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}")

pytest_plugins = ["pytester"]


def call_dev(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "dev.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, env=env)


# ── dev.py ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["-h"], 0), (["help"], 0), ([], 2)])
def test_help_names_every_command(arguments: list[str], code: int) -> None:
    done = call_dev(*arguments)
    assert done.returncode == code
    assert all(f"python3 dev.py {command}" in done.stdout for command in dev.COMMANDS)


def test_an_unknown_command_is_named_with_the_known_ones() -> None:
    done = call_dev("serve")
    assert done.returncode == 2
    assert done.stderr == "Unknown command 'serve': it is one of run, test, lint, check.\n"


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 11, 2), (3, 13, 1), (4, 0, 0)])
def test_a_recent_python_will_do(version: tuple[int, ...]) -> None:
    assert dev.too_old(version) is None


def test_an_old_python_is_told_what_is_wanted_and_what_was_found() -> None:
    sentence = dev.too_old((3, 10, 12))
    assert sentence is not None
    assert "needs Python 3.11 or newer" in sentence
    assert "this is Python 3.10.12" in sentence


def checkout(folder: Path) -> Path:
    """A place that looks like a checkout with an environment, as far as the stamp is concerned."""
    (folder / "pyproject.toml").write_text("[project]\n")
    (folder / "constraints.txt").write_text("orjson==3.0\n")
    python = dev.environment_python(folder)
    python.parent.mkdir(parents=True)
    python.write_text("")
    return folder


def test_without_a_stamp_nothing_is_current(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    assert not dev.is_current(root, "run")
    assert not dev.is_current(root, "test")


def test_an_environment_for_tests_also_runs_and_not_the_other_way_round(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    dev.stamp_file(root).write_text(dev.digest(root, "test"))
    assert dev.is_current(root, "run")
    assert dev.is_current(root, "test")
    dev.stamp_file(root).write_text(dev.digest(root, "run"))
    assert dev.is_current(root, "run")
    assert not dev.is_current(root, "test")


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_a_changed_dependency_asks_for_a_new_installation(tmp_path: Path, changed: str) -> None:
    root = checkout(tmp_path)
    dev.stamp_file(root).write_text(dev.digest(root, "run"))
    with (root / changed).open("a") as file:
        file.write("# one more line\n")
    assert not dev.is_current(root, "run")


def test_a_lost_interpreter_or_a_moved_checkout_asks_for_a_new_installation(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    root = checkout(tmp_path / "old")
    dev.stamp_file(root).write_text(dev.digest(root, "run"))
    moved = root.rename(tmp_path / "new")
    assert not dev.is_current(moved, "run")
    dev.stamp_file(moved).write_text(dev.digest(moved, "run"))
    dev.environment_python(moved).unlink()
    assert not dev.is_current(moved, "run")


def test_where_line_ends_between_the_two_files_matters(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    before = dev.digest(root, "run")
    (root / "pyproject.toml").write_text("[project]\norjson")
    (root / "constraints.txt").write_text("==3.0\n")
    assert dev.digest(root, "run") != before


def test_an_unreachable_index_is_called_by_its_name() -> None:
    output = (
        "WARNING: Retrying … NewConnectionError: [Errno 101] Network is unreachable\nERROR: No matching distribution"
    )
    assert dev.why_pip_failed(output) == dev.NO_NETWORK
    assert "its own words" in dev.why_pip_failed("ERROR: ResolutionImpossible")


def test_no_network_ends_in_one_sentence(tmp_path: Path) -> None:
    """A real pip against an index on a closed port: its words, ours below, and no stamp."""
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "dev.py"):
        shutil.copy(ROOT / name, tmp_path)
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    command = [sys.executable, "dev.py", "run"]
    done = subprocess.run(command, cwd=tmp_path, env=kept | nowhere, capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert done.stderr.endswith(dev.NO_NETWORK + "\n")
    assert len(done.stdout.splitlines()) == 1
    assert not dev.stamp_file(tmp_path).exists()


def test_a_python_without_venv_or_pip_ends_in_one_sentence(tmp_path: Path) -> None:
    """What a Debian without python3-venv and python3-pip looks like."""
    checkout(tmp_path)
    shutil.copy(ROOT / "dev.py", tmp_path)
    hide = "import sys; sys.modules['ensurepip'] = sys.modules['pip'] = None; import dev; sys.exit(dev.main(['run']))"
    done = subprocess.run([sys.executable, "-c", hide], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr == dev.NO_VENV + "\n"


@pytest.mark.bootstrap
@pytest.mark.timeout(BOOTSTRAP_SECONDS + 30)
def test_a_newcomer_starts_it_from_a_copy_with_an_empty_home(tmp_path: Path) -> None:
    """The real thing, from the package index: into an empty folder, with an empty HOME, then once more."""
    copy, home = tmp_path / "copy", tmp_path / "home"
    home.mkdir()
    unwanted = shutil.ignore_patterns(".*", "node_modules", "__pycache__", "*.db")
    shutil.copytree(ROOT, copy, ignore=unwanted)
    command = [sys.executable, str(copy / "dev.py"), "run", "--help"]
    env = os.environ | {"HOME": str(home)}
    first = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=BOOTSTRAP_SECONDS)
    if dev.NO_NETWORK in first.stderr:
        pytest.skip("no package index within reach")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("Installing into ")
    assert "--port" in first.stdout
    again = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert "Installing" not in again.stdout
    assert "--port" in again.stdout


# ── pins ─────────────────────────────────────────────────────────────────────────────────────────


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_every_pin_is_a_name_and_a_version_and_nothing_else() -> None:
    for line in pins():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line)


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(part for extra in project["optional-dependencies"].values() for part in extra),
    ]
    names = {canonical(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) for line in wanted}
    assert names - {canonical(line.split("==")[0]) for line in pins()} == set()


def test_the_javascript_clients_are_pinned() -> None:
    wanted = json.loads((JS / "package.json").read_text())["dependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())


def test_the_script_for_ci_can_be_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run([program("bash", package="bash"), "-n", str(script)], timeout=10).returncode == 0


# ── real parts ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.process
def test_a_server_process_answers_inside_and_is_gone_outside(tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_text("here")
    with ServerProcess(tmp_path, command=WEB_SERVER, ready="/page.txt") as server:
        assert fetch(f"{server.url}/page.txt") == (200, b"here")
        assert server.process.poll() is None
    assert server.process.returncode is not None
    with pytest.raises(ConnectionRefusedError):
        fetch(server.url)


@pytest.mark.process
def test_a_process_that_ends_instead_of_answering_is_reported_with_its_output(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, command=[sys.executable, "-c", "raise SystemExit('no such thing')"])
    with pytest.raises(AssertionError, match="no such thing"):
        server.start()


@pytest.mark.process
def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    stubborn = f"import http.server, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SERVE}"
    server = ServerProcess(tmp_path, command=[sys.executable, "-c", stubborn], ready="/")
    server.start()
    assert server.stop(seconds=0.2) != 0


@pytest.mark.process
def test_a_question_that_is_never_answered_ends(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, command=WEB_SERVER, ready=None) as server,
        pytest.raises(AssertionError, match=r"not within 0\.1 s"),
    ):
        server.until(lambda: None, seconds=0.1)


@pytest.mark.process
def test_settings_of_the_person_at_the_keyboard_do_not_reach_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REALTIME_REDIS_URL", "redis://elsewhere")
    show = "import os, http.server; print(sorted(n for n in os.environ if n.startswith('REALTIME_')), flush=True); "
    command = [sys.executable, "-c", show + SERVE]
    with ServerProcess(tmp_path, command=command, ready="/", env={"REALTIME_PORT": "{port}"}) as server:
        assert "['REALTIME_JWT_SECRET', 'REALTIME_PORT']" in server.output()


@pytest.mark.process
def test_node_finds_the_clients_and_its_arguments(node: Node) -> None:
    script = """
        import { io, protocol } from "socket.io-client";
        import { chromium } from "playwright-core";
        console.log(typeof io, protocol, typeof chromium.launch, process.argv.slice(1).join());
    """
    assert node.run(script, "one", "--two") == "function 5 function one,--two\n"


@pytest.mark.process
def test_a_failing_script_is_reported_with_its_output(node: Node) -> None:
    with pytest.raises(AssertionError, match="out of order"):
        node.run("throw new Error('out of order')")


@pytest.mark.process
def test_a_script_that_does_not_end_is_ended(node: Node) -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.5 s"):
        node.run("setInterval(() => {}, 1000)", timeout=0.5)


def test_the_last_lines_name_what_was_left_out(pytester: pytest.Pytester) -> None:
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text())
    pytester.makepyfile(
        "import pytest\n"
        "from tests.serving import program\n"
        "@pytest.mark.parametrize('number', [1, 2])\n"
        "def test_one(number): program('no-such-program', package='nowhere')\n"
        "def test_two(): pass\n"
    )
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-o", f"pythonpath={ROOT}")
    done.assert_outcomes(passed=1, skipped=2)
    done.stdout.fnmatch_lines(
        ["*left out on this machine*", "2 tests: no no-such-program on this machine (Debian: apt install nowhere)"]
    )


def test_no_port_is_promised_to_two_servers() -> None:
    ports = [free_port() for _ in range(500)]
    assert len(set(ports)) == len(ports)
