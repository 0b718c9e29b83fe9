from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from adapters.polling import Polling
from adapters.redis import open_bus
from adapters.redis.address import Address
from realtime.errors import UsageError
from realtime.plug import OURS, REDIS, check_neighbour, find, find_bus
from tests.serving import ROOT


@pytest.mark.parametrize("name", sorted(OURS))
def test_everything_of_ours_is_found(name: str) -> None:
    assert callable(find(name))


def test_what_is_installed_is_named_alike() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["realtime.adapters"] == OURS


@pytest.mark.parametrize("scheme", REDIS)
def test_the_adapter_reads_each_scheme_that_is_named(scheme: str) -> None:
    rest = {"unix": "/run/redis.sock"}.get(scheme, "localhost:1/0/main" if "sentinel" in scheme else "localhost:1")
    assert Address.parse(f"{scheme}://{rest}").options


def test_a_name_finds_what_it_names() -> None:
    assert find("polling") is Polling
    assert find("redis") is open_bus


def test_an_unknown_name_is_a_sentence_that_names_the_known() -> None:
    with pytest.raises(UsageError, match=r"there is no adapter called 'nats'; known are .*redis"):
        find("nats")


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "rediss://localhost",
        "redis+cluster://a:1,b:2",
        "valkeys://localhost",
        "unix:///run/redis.sock",
    ],
)
def test_a_bus_is_found_by_the_scheme_of_its_url(url: str) -> None:
    assert find_bus(url) is open_bus


@pytest.mark.parametrize("scheme", ["nats", "http", "sql", "prometheus", "names+redis", "sse", ""])
def test_what_is_no_bus_is_a_sentence_that_names_the_buses(scheme: str) -> None:
    known = ", ".join(re.escape(name) for name in sorted(REDIS))
    with pytest.raises(UsageError, match=rf"^there is no adapter called '{re.escape(scheme)}'; known are {known}$"):
        find_bus(f"{scheme}://localhost")


@pytest.mark.parametrize("url", ["localhost:6379", "localhost", "redis:localhost", ""])
def test_a_url_without_a_scheme_is_a_sentence(url: str) -> None:
    with pytest.raises(UsageError, match=f"^a Redis URL is written redis://HOST:PORT/DATABASE, not '{url}'$"):
        find_bus(url)


@pytest.mark.parametrize("name", ["nats", "names+nats"])
def test_a_bus_of_somebody_else_is_known_and_a_store_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = [EntryPoint(name, "somebody.elses:thing", "realtime.adapters")]
    monkeypatch.setattr("realtime.plug.entry_points", lambda **_: theirs)
    with pytest.raises(UsageError) as told:
        find_bus("http://localhost")
    assert ("nats" in str(told.value)) == (name == "nats")


@pytest.fixture
def author(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(
        "from fastapi import FastAPI\nfrom realtime import Realtime\nRealtime(FastAPI())\n"
    )
    return tmp_path


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    """The author's application, found from the author's folder first and ours second."""
    code = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(ROOT)!r}]; import main"
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.process
def test_an_authors_application_starts(author: Path) -> None:
    assert run(author).returncode == 0


@pytest.mark.parametrize("theirs", ["adapters/__init__.py", "adapters.py"])
@pytest.mark.process
def test_a_package_that_hides_ours_is_named_with_its_place(author: Path, theirs: str) -> None:
    file = author / theirs
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    ended = run(author)
    place = file.parent if file.name == "__init__.py" else file
    assert ended.returncode != 0
    assert f"hidden by another one in {place}: rename that one" in ended.stderr
    assert str(ROOT / "adapters") in ended.stderr


@pytest.mark.process
def test_a_mere_folder_of_that_name_hides_nothing(author: Path) -> None:
    (author / "adapters").mkdir()
    (author / "adapters" / "notes.txt").write_text("")
    assert run(author).returncode == 0


def test_an_unrelated_module_of_that_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adapters", types.ModuleType("adapters"))
    with pytest.raises(UsageError, match="hidden by another one in somewhere else"):
        check_neighbour("adapters")
    monkeypatch.undo()
    check_neighbour("adapters")
