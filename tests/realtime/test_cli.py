"""The command ``realtime``, as a process."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import realtime
from realtime import Settings, Tokens
from realtime.cli import COLLECTIONS, _listen, _shown
from tests.serving import ROOT, SECRET, ServerProcess, fetch

pytestmark = pytest.mark.process


def run(*arguments: str, folder: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("REALTIME_")}
    given = inherited | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "120"} | dict(env or {})
    command = [sys.executable, "-m", "realtime", *arguments]
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=30, check=False)


def refusal(ended: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a command that was refused."""
    assert ended.returncode == 2, ended
    assert ended.stdout == ""
    assert ended.stderr.startswith("realtime: ")
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


# ── serve ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("nope:app", 'nope:app: Could not import module "nope"'),
        ("mine:nope", 'Attribute "nope" not found in module "mine"'),
        ("mine", 'must be in format "<module>:<attribute>"'),
        ("unsafe:app", "the namespace /x has handlers already"),
    ],
)
def test_a_wrong_application_is_a_sentence(app: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("app = None\n")
    (tmp_path / "unsafe.py").write_text(
        "from fastapi import FastAPI\nfrom realtime import Realtime\n"
        "app = FastAPI()\nrealtime = Realtime(app)\nrealtime.namespace('/x')\nrealtime.namespace('/x')\n"
    )
    assert words in refusal(run("serve", app, folder=tmp_path))


def test_an_authors_own_mistake_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found\n")
    ended = run("serve", "broken:app", folder=tmp_path)
    assert ended.returncode == 1
    assert "broken.py" in ended.stderr
    assert "No module named 'nowhere_to_be_found'" in ended.stderr


def test_several_workers_are_refused(tmp_path: Path) -> None:
    assert "--workers above 1 is refused: the requests of a polling client" in refusal(
        run("serve", "--workers", "2", folder=tmp_path)
    )


def test_a_port_in_use_is_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("serve", "--port", str(port), folder=tmp_path)
    assert refusal(ended) == f"realtime: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_an_address_that_is_not_ours_is_a_sentence(tmp_path: Path) -> None:
    ended = run("serve", "--host", "192.0.2.1", folder=tmp_path)
    assert "cannot listen on 192.0.2.1:8000: Cannot assign requested address" in refusal(ended)


def test_unsafe_settings_are_refused_whatever_the_application(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("async def app(scope, receive, send): ...\n")
    ended = run("serve", "mine:app", folder=tmp_path, env={"REALTIME_ENVIRONMENT": "production"})
    assert "REALTIME_JWT_SECRET is the built-in one" in refusal(ended)


@pytest.mark.parametrize(
    ("option", "words"),
    [("nats://localhost", "there is no adapter called 'nats'"), ("redis://u:SECRET@[bad", "realtime: ")],
)
def test_a_bus_that_cannot_be_opened_is_a_sentence_without_the_password(
    option: str, words: str, tmp_path: Path
) -> None:
    told = refusal(run("serve", "--redis", option, folder=tmp_path))
    assert words in told
    assert "SECRET" not in told


@pytest.mark.parametrize("package", ["adapters", "namespaces"])
def test_a_folder_that_hides_ours_is_named_with_its_place(package: str, tmp_path: Path) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")
    told = refusal(run("serve", folder=tmp_path))
    assert f"hidden by another one in {tmp_path / package}" in told
    assert str(ROOT / package) in told


def test_it_says_which_version_it_is(tmp_path: Path) -> None:
    ended = run("--version", folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, f"realtime-rooms {realtime.__version__}\n")


def test_help_names_every_option(tmp_path: Path) -> None:
    ended = run("serve", "--help", folder=tmp_path)
    assert ended.returncode == 0
    for option in ("--host", "--port", "--workers", "--redis", "--database"):
        assert option in ended.stdout


@pytest.fixture(scope="module")
def authors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """An application for python-socketio, with one import changed, from the current folder."""
    folder = tmp_path_factory.mktemp("author")
    (folder / "main.py").write_text(
        "from realtime import socketio\n"
        "sio = socketio.AsyncServer()\n"
        "sio.on('echo', lambda sid, data: data)\n"
        "app = socketio.ASGIApp(sio)\n"
    )
    command = [sys.executable, "-m", "realtime", "serve", "main:app", "--port", "{port}"]
    with ServerProcess(folder, command=command, ready="/socket.io/?EIO=4&transport=polling") as server:
        yield server


def test_an_application_for_python_socketio_is_served(authors: ServerProcess) -> None:
    status, body = fetch(f"{authors.url}/socket.io/?EIO=4&transport=polling")
    assert (status, body[:8]) == (200, b'0{"sid":')


def test_the_log_has_neither_queries_nor_a_line_for_each_request(authors: ServerProcess) -> None:
    fetch(f"{authors.url}/socket.io/?EIO=4&transport=polling&token=SECRET-IN-QUERY")
    fetch(f"{authors.url}/nowhere?token=SECRET-IN-QUERY")
    output = authors.output()
    assert "realtime-rooms on http://127.0.0.1:" in output
    assert "SECRET-IN-QUERY" not in output
    assert "GET" not in output


@pytest.mark.parametrize(("host", "shown"), [("::1", "[::1]"), ("localhost", "localhost"), ("0.0.0.0", "0.0.0.0")])
def test_listening_on_a_name_is_listening_on_all_its_addresses_at_one_port(host: str, shown: str) -> None:
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("no IPv6 on this machine")
    sockets = _listen(host, 0)
    try:
        assert len({each.getsockname()[1] for each in sockets}) == 1
        assert _shown(host) == shown
    finally:
        for each in sockets:
            each.close()


@pytest.mark.asyncio
async def test_what_asyncio_accepts_does_not_wait_to_send_a_second_time() -> None:
    """With Nagle's algorithm the body of an answer waits for the acknowledgement of its head."""
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        accepted.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    (listener,) = _listen("127.0.0.1", 0)
    async with await asyncio.start_server(greet, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        assert await asyncio.wait_for(accepted, 5)
        writer.close()
        await writer.wait_closed()


# ── check ────────────────────────────────────────────────────────────────────────────────────────


def test_check_prints_every_setting_and_hides_secrets(tmp_path: Path) -> None:
    env = {
        "REALTIME_JWT_SECRET": SECRET,
        "REALTIME_REDIS_URL": "redis://user:hidden-password@localhost:6379/0",
        "REALTIME_DATABASE_URL": "postgresql+asyncpg://user:hidden-password@localhost/chat",
    }
    ended = run("check", folder=tmp_path, env=env)
    assert ended.returncode == 0
    for name in Settings.model_fields:
        assert f"REALTIME_{name.upper()}=" in ended.stdout
    assert "REALTIME_REDIS_URL=redis://user:***@localhost:6379/0" in ended.stdout
    assert "hidden-password" not in ended.stdout + ended.stderr
    assert SECRET not in ended.stdout + ended.stderr
    assert "fine for development" in ended.stderr


def test_check_fails_on_unsafe_settings_and_names_each(tmp_path: Path) -> None:
    ended = run("check", folder=tmp_path, env={"REALTIME_ENVIRONMENT": "production", "REALTIME_JWT_SECRET": "short"})
    assert ended.returncode == 1
    assert "unsafe: REALTIME_JWT_SECRET has 5 bytes" in ended.stderr
    assert "unsafe: REALTIME_ALLOWED_ORIGINS is empty" in ended.stderr


PRODUCTION = {
    "REALTIME_ENVIRONMENT": "production",
    "REALTIME_JWT_SECRET": SECRET,
    "REALTIME_ALLOWED_ORIGINS": "https://a.example",
}
BUS = "redis://localhost:6379/0"


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({}, "REALTIME_BUS_KEYS is not set"),
        ({"REALTIME_BUS_KEYS": f"{'n' * 32},old-key"}, "REALTIME_BUS_KEYS: key 2 has 7 bytes"),
    ],
    ids=["none", "a short one"],
)
def test_check_and_serve_want_keys_of_their_own_for_a_bus_in_production(
    keys: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    given = PRODUCTION | keys
    checked = run("check", folder=tmp_path, env=given | {"REALTIME_REDIS_URL": BUS})
    assert checked.returncode == 1
    assert f"unsafe: {sentence}" in checked.stderr
    assert sentence in refusal(run("serve", "--redis", BUS, folder=tmp_path, env=given))
    assert "old-key" not in checked.stdout + checked.stderr


def test_check_is_content_with_two_long_keys_for_a_bus_in_production(tmp_path: Path) -> None:
    good = PRODUCTION | {"REALTIME_REDIS_URL": BUS, "REALTIME_BUS_KEYS": f"{'n' * 32},{'o' * 32}"}
    assert run("check", folder=tmp_path, env=good).returncode == 0


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TRUSTED_PROXIES", "foo", "A trusted proxy is an address or a network"),
        ("JWT_ALGORITHM", "RS256", "RS256 needs a public key"),
        (
            "REDIS_URL",
            "http://u:hidden-password@localhost:6379",
            "there is no adapter called 'http'; known are redis, ",
        ),
        ("REDIS_URL", "localhost:6379", "a Redis URL is written redis://HOST:PORT/DATABASE, not 'localhost:6379'"),
        ("REDIS_URL", "redis://u:hidden-password@[bad", "The redis:// URL cannot be read"),
        (
            "DATABASE_URL",
            "postgresql://u:hidden-password@localhost/x",
            "The database URL begins with postgresql://; expected ",
        ),
    ],
)
def test_check_and_serve_refuse_the_same_settings_with_the_same_sentence(
    name: str, value: str, words: str, tmp_path: Path
) -> None:
    env = {f"REALTIME_{name}": value}
    serving, checked = run("serve", folder=tmp_path, env=env), run("check", folder=tmp_path, env=env)
    assert words in refusal(serving)
    assert checked.returncode == 1, checked
    assert checked.stderr == serving.stderr
    assert "hidden-password" not in checked.stdout + checked.stderr


def test_check_names_all_that_cannot_be_served_with(tmp_path: Path) -> None:
    env = {"REALTIME_TRUSTED_PROXIES": "foo", "REALTIME_REDIS_URL": "localhost", "REALTIME_ENVIRONMENT": "production"}
    told = run("check", folder=tmp_path, env=env).stderr.splitlines()
    assert [line.split(":")[0] for line in told] == ["unsafe", "unsafe", "unsafe", "realtime", "realtime"]


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_setting_that_cannot_be_read_is_a_sentence(command: str, tmp_path: Path) -> None:
    env = {"REALTIME_ENVIRONMENT": "staging", "REALTIME_PING_TIMEOUT_SECONDS": "-1"}
    told = refusal(run(command, folder=tmp_path, env=env))
    assert "REALTIME_ENVIRONMENT: Input should be 'development' or 'production'" in told
    assert "REALTIME_PING_TIMEOUT_SECONDS: Input should be greater than 0" in told


# ── token ────────────────────────────────────────────────────────────────────────────────────────


def test_a_token_is_signed_with_the_configured_secret(tmp_path: Path) -> None:
    options = ["--user", "alice", "--expires", "60", "--scope", "room:join:*", "--scope", "notify:publish:orders"]
    ended = run("token", *options, folder=tmp_path, env={"REALTIME_JWT_SECRET": SECRET})
    assert ended.returncode == 0
    identity = Tokens(secret=SECRET).verify(ended.stdout.strip(), time.time())
    assert identity.user_id == "alice"
    assert identity.allows("room:join:lobby")
    assert identity.allows("notify:publish:orders")
    assert not identity.allows("notify:publish:others")
    assert identity.expires_at is not None
    assert 0 < identity.expires_at - time.time() <= 60


def test_a_token_that_cannot_be_signed_is_a_sentence(tmp_path: Path) -> None:
    env = {"REALTIME_JWT_ALGORITHM": "RS256"}
    assert "realtime: " in refusal(run("token", "--user", "alice", folder=tmp_path, env=env))


@pytest.mark.parametrize(("before", "after"), [((700, 10, 10), COLLECTIONS), ((9, 8, 7), (9, 8, 7))])
def test_what_is_loaded_is_out_of_the_collectors_way_before_the_first_client_comes(
    before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    program = f"import gc; from realtime.cli import settle_memory; gc.set_threshold(*{before}); settle_memory(); "
    program += "print(gc.get_freeze_count(), *gc.get_threshold())"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    frozen, *thresholds = map(int, found.stdout.split())
    assert frozen > 10_000
    assert tuple(thresholds) == after
