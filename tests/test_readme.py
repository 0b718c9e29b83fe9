"""What the READMEs say is so: links, snippets, commands, settings, routes and events."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from pydantic import SecretStr
from typer.core import TyperGroup
from typer.testing import CliRunner

import dev
from namespaces.app import create_app
from realtime.cli import cli
from realtime.docs.page import Contents
from realtime.docs.routes import read
from realtime.settings import Settings
from tests.javascript import Node
from tests.serving import ROOT, ServerProcess, fetch, program

OWN_APP = "examples/own_app.py"
STREAM_SECONDS = 10
"""What `curl -N`, which would never end, is given."""
OUTSIDE = ("http://", "https://", "mailto:")


def pages() -> list[str]:
    """Every page that is part of the project."""
    tops = ("", "realtime", "adapters", "namespaces", "tests", "examples", "examples/deploy")
    found = [Path(top, name) for top in tops for name in ("README.md", "CHANGELOG.md")]
    return [path.as_posix() for path in found if (ROOT / path).exists()]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def prose(page: str) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def commands(page: str) -> Iterator[list[str]]:
    """Our own commands that the page names, in blocks and in sentences, as lists of arguments."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    for line in [*lines, *spans(prose(page))]:
        ours = re.match(r"(?:[A-Z_]+=\S* )*((?:realtime|python3 dev\.py) [a-z][^&]*)", line)
        if ours:
            yield shlex.split(ours[1], comments=True)


def rows(section: str) -> list[list[str]]:
    """The cells of the tables below a heading of README.md."""
    text = prose("README.md").split(f"# {section}\n", 1)[1].split("\n#", 1)[0]
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in cells] for cells in lines]


@pytest.fixture(scope="module")
def application() -> Contents:
    app = create_app(Settings(database_url="sqlite+aiosqlite://"))
    return read(app, app.state.realtime.server.application.typed)


# ── links ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    here = [target.partition("#")[0] for target in targets if not target.startswith((*OUTSIDE, "#"))]
    assert [target for target in here if not (ROOT / page).parent.joinpath(target).exists()] == []


@pytest.mark.parametrize("folder", ["realtime", "adapters", "namespaces", "tests", "examples"])
def test_every_folder_has_a_page_and_the_first_page_leads_there(folder: str) -> None:
    assert (ROOT / folder / "README.md").exists()
    assert f"({folder}/README.md)" in prose("README.md")


@pytest.mark.parametrize("page", [page for page in pages() if page.endswith("README.md")])
def test_the_first_line_names_the_folder(page: str) -> None:
    title = (ROOT / page).read_text().splitlines()[0]
    assert title.startswith("# ")
    assert "/" in page or title == "# realtime-rooms"


# ── commands ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", pages())
def test_every_command_exists_with_its_options(page: str) -> None:
    group = typer.main.get_command(cli)
    assert isinstance(group, TyperGroup)
    ours = group.commands
    serve = {option for parameter in ours["serve"].params for option in parameter.opts}
    for words in commands(page):
        name, rest = (words[1], words[2:]) if words[0] == "realtime" else (words[2], words[3:])
        assert name in (ours if words[0] == "realtime" else dev.COMMANDS), words
        known = {option for parameter in ours[name].params for option in parameter.opts} if name in ours else serve
        options = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert name == "test" or options <= known, words


def test_the_two_commands_and_those_of_ours_are_named_and_have_help() -> None:
    named = list(commands("README.md"))
    assert {words[2] for words in named if words[0] == "python3"} >= {"run", "test"}
    assert {words[1] for words in named if words[0] == "realtime"} == {"serve", "token", "check", "bench"}
    for name in ("serve", "token", "check", "bench"):
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0


# ── settings ─────────────────────────────────────────────────────────────────────────────────────


def shown(default: object) -> str:
    if isinstance(default, SecretStr):
        return "built in"
    if default in (None, []):
        return ""
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_every_setting_is_in_the_table_with_its_default() -> None:
    fields = {f"`REALTIME_{name.upper()}`": field for name, field in Settings.model_fields.items()}
    told = {name: default for name, default, _ in rows("Settings")}
    assert told == {name: shown(field.get_default(call_default_factory=True)) for name, field in fields.items()}


@pytest.mark.parametrize("page", pages())
def test_no_page_names_a_setting_that_does_not_exist(page: str) -> None:
    named = set(re.findall(r"\bREALTIME_([A-Z_]+[A-Z])\b", (ROOT / page).read_text()))
    assert {name.lower() for name in named} <= set(Settings.model_fields)


# ── routes and events ────────────────────────────────────────────────────────────────────────────


def test_every_http_route_is_in_the_table(application: Contents) -> None:
    told = {span for cells in rows("HTTP") for span in spans(cells[0])}
    there = {f"{each.method} {each.path}" for each in application.operations}
    assert there <= told


def test_every_plain_websocket_route_is_in_the_table_and_no_other(application: Contents) -> None:
    told = {spans(cells[0])[0] for cells in rows("Plain WebSocket")}
    assert told == {each.path for each in application.plain_routes}


def test_every_event_is_in_the_table_and_no_other(application: Contents) -> None:
    told = {spans(cells[0])[0]: set(spans(cells[1])) for cells in rows("Socket.IO")}
    assert told == {each.name: {event.name for event in each.events} for each in application.sections}


# ── snippets ─────────────────────────────────────────────────────────────────────────────────────


def test_the_shortest_application_is_the_one_that_is_tested() -> None:
    source = (ROOT / OWN_APP).read_text()
    assert source in blocks("README.md", "python")
    assert source.count("\n") <= 25


def python_snippets() -> list[str]:
    own = (ROOT / OWN_APP).read_text()
    return [block for page in pages() for block in blocks(page, "python") if block != own]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("readme")) as server:
        yield server


def at(server: ServerProcess, snippet: str) -> str:
    assert "127.0.0.1:8000" in snippet
    return snippet.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")


@pytest.mark.process
def test_every_page_of_the_table_answers(server: ServerProcess) -> None:
    told = {span.split()[1] for cells in rows("HTTP") for span in spans(cells[0]) if span.startswith("GET /")}
    paths = {path for path in told if "{" not in path}
    assert len(paths) >= 6
    assert {path: fetch(server.url + path)[0] for path in paths} == dict.fromkeys(paths, 200)


@pytest.mark.process
@pytest.mark.parametrize("snippet", python_snippets())
def test_python_snippets_run(server: ServerProcess, snippet: str) -> None:
    talks = "127.0.0.1" in snippet
    done = subprocess.run(
        [sys.executable, "-c", at(server, snippet) if talks else snippet],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stdout
    assert not talks or "timestamp" in done.stdout


@pytest.mark.process
def test_the_javascript_snippet_runs(server: ServerProcess, node: Node) -> None:
    (snippet,) = blocks("README.md", "js")
    imported = 'from "http://127.0.0.1:8000/socket.io/socket.io.esm.min.js"'
    assert imported in snippet  # a browser loads it from there; Node cannot import over HTTP
    output = node.run(at(server, snippet.replace(imported, 'from "socket.io-client"')) + "socket.disconnect();")
    assert output == "alice: Hello from JavaScript\n"


@pytest.mark.process
def test_the_curl_lines_run(server: ServerProcess) -> None:
    curl = program("curl", package="curl")
    (block,) = [block for block in blocks("README.md", "sh") if "curl" in block]
    stream, *others = [shlex.split(line)[1:] for line in at(server, block).splitlines()]
    assert "-N" in stream
    command = [curl, "-sS", "--max-time", str(STREAM_SECONDS)]
    with subprocess.Popen([*command, *stream], stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stdout.readline().startswith("retry:")
        answers = [json.loads(subprocess.check_output([*command, *each])) for each in others]
        heard: list[dict[str, object]] = []
        while len(heard) < 2:
            line = following.stdout.readline()
            assert line, "the stream ended"
            heard += [json.loads(line[5:])] if line.startswith("data:") else []
        following.terminate()
    assert [answer["id"] for answer in answers[:2]] == [each["id"] for each in heard]
    assert all(answer["sent"] == 1 for answer in answers[:2])
    assert heard[1]["data"] == {"order": 7}
    assert "messages" in answers[2]
