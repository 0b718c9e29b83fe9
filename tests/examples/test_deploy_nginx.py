"""examples/deploy/nginx.conf in a real nginx, in front of two real servers (tests/examples/instance.py)."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import socketio
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from realtime.settings import Settings
from tests.serving import ROOT, ServerProcess, free_port, program

CONF = ROOT / "examples" / "deploy" / "nginx.conf"
SECONDS = 5.0
"""For one answer on the loopback address of a busy machine."""
LARGE = "x" * 200_000
"""Characters: more than nginx keeps in memory."""

pytestmark = pytest.mark.process


def rendered(listen: int, a: int, b: int) -> str:
    """The file as it is, with other ports."""
    text = CONF.read_text()
    for old, new in {
        "listen 8080": f"listen 127.0.0.1:{listen}",
        "127.0.0.1:8001": f"127.0.0.1:{a}",
        "127.0.0.1:8002": f"127.0.0.1:{b}",
    }.items():
        assert old in text
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def enterable_folder() -> Iterator[Path]:
    """Started as root, nginx runs its workers as `nobody`, who may not enter pytest's own folders."""
    with tempfile.TemporaryDirectory(prefix="realtime-nginx-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@dataclass
class Site:
    folder: Path
    nginx: ServerProcess
    a: ServerProcess
    b: ServerProcess

    def request(
        self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.nginx.port, timeout=SECONDS)
        with contextlib.closing(connection):
            connection.request(method, target, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()

    def seen(self, target: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """What arrived at the instance."""
        status, answer = self.request("POST" if body else "GET", target, body, headers)
        assert status == 200, answer
        found: dict[str, Any] = json.loads(answer)
        return found

    def handshake(self) -> str:
        """A new polling session; its id."""
        status, answer = self.request("GET", "/socket.io/?EIO=4&transport=polling")
        assert status == 200, answer
        return str(json.loads(answer[1:])["sid"])

    def poll(self, sid: str, query: str = "EIO=4&transport=polling&sid={sid}") -> tuple[int, bytes]:
        """Connect to the root namespace and fetch the answer: two requests that need the same instance."""
        target = "/socket.io/?" + query.format(sid=sid)
        status, answer = self.request("POST", target, b"40")
        return (status, answer) if status != 200 else self.request("GET", target)


def instance(folder: Path, node: str) -> ServerProcess:
    command = [sys.executable, "-m", "uvicorn", "tests.examples.instance:app", "--port", "{port}"]
    options = ["--no-proxy-headers", "--log-level", "warning"]
    return ServerProcess(folder, *options, command=command, env={"REALTIME_NODE": node}, ready="/ready")


@contextlib.contextmanager
def running_site() -> Iterator[Site]:
    nginx = program("nginx", package="nginx")
    with enterable_folder() as folder, instance(folder, "a") as a, instance(folder, "b") as b:
        port = free_port()
        conf = folder / "nginx.conf"
        conf.write_text(rendered(port, a.port, b.port))
        command = [nginx, "-p", f"{folder}/", "-e", "stderr", "-c", str(conf), "-g", "daemon off;"]
        with ServerProcess(folder, command=command, port=port, ready=None) as proxy:
            yield Site(folder, proxy, a, b)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running_site() as found:
        yield found


@pytest.fixture
def own_site() -> Iterator[Site]:
    """For tests that break something."""
    with running_site() as found:
        yield found


@pytest.mark.parametrize("account", [None, "nobody"])
def test_nginx_takes_the_file_as_it_is(account: str | None) -> None:
    nginx = program("nginx", package="nginx")
    if account and os.geteuid() != 0:
        pytest.skip("only root can try another account")
    with enterable_folder() as folder:
        (folder / "run").mkdir()
        conf = shutil.copy(CONF, folder)
        if account:
            shutil.chown(folder / "run", account)
        command = [nginx, "-t", "-p", f"{folder}/run/", "-e", "stderr", "-c", str(conf)]
        checked = subprocess.run(command, user=account, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert checked.returncode == 0, checked.stderr
        assert "[warn]" not in checked.stderr
        assert {"error.log", "access.log", "body_temp"} <= {path.name for path in (folder / "run").iterdir()}


# ── sticky by session id ─────────────────────────────────────────────────────────────────────────


def test_new_sessions_are_spread_and_each_stays_with_its_instance(site: Site) -> None:
    sids = [site.handshake() for _ in range(8)]
    assert {sid.partition(".")[0] for sid in sids} == {"a", "b"}
    for sid in sids:
        status, answer = site.poll(sid)
        assert status == 200, answer
        assert answer.startswith(b'40{"sid":')


def test_the_place_of_the_session_id_in_the_query_does_not_matter(site: Site) -> None:
    for query in ("sid={sid}&transport=polling&EIO=4", "EIO=4&x=%26sid=b.0&sid={sid}&transport=polling&t=1"):
        for _ in range(2):
            status, answer = site.poll(site.handshake(), query)
            assert status == 200, answer


@pytest.mark.parametrize("sid", ["a.unknown", "b.unknown", "c.unknown", "unknown", "a", "127.0.0.1:1", "__proto__"])
def test_an_unknown_session_is_told_so_by_an_instance(site: Site, sid: str) -> None:
    status, answer = site.request("GET", f"/socket.io/?EIO=4&transport=polling&sid={sid}")
    assert status == 400
    assert b"nvalid session" in answer


@pytest.mark.asyncio
async def test_stock_clients_upgrade_from_polling(site: Site) -> None:
    """The first request may go anywhere; polling and the upgrade after it must find the same session."""
    clients = [socketio.AsyncClient(reconnection=False) for _ in range(6)]
    try:
        nodes = set()
        for number, client in enumerate(clients):
            await client.connect(site.nginx.url, wait_timeout=SECONDS)
            node, data = await client.call("where", f"text {number}", timeout=SECONDS)
            assert data == f"text {number}"
            assert client.transport() == "websocket"
            assert client.eio.sid.startswith(f"{node}.")
            nodes.add(node)
        assert nodes == {"a", "b"}
    finally:
        await asyncio.gather(*(client.disconnect() for client in clients))


@pytest.mark.asyncio
async def test_a_stock_client_with_websocket_alone(site: Site) -> None:
    client = socketio.AsyncClient(reconnection=False)
    try:
        await client.connect(site.nginx.url, transports=["websocket"], wait_timeout=SECONDS)
        _, data = await client.call("where", LARGE, timeout=SECONDS)
        assert data == LARGE
    finally:
        await client.disconnect()


def test_polling_alone_carries_large_messages(site: Site) -> None:
    """By hand: python-socketio's client waits half a minute for its last poll when it leaves."""
    sid = site.handshake()
    target = f"/socket.io/?EIO=4&transport=polling&sid={sid}"
    assert site.poll(sid)[0] == 200
    assert site.request("POST", target, f'421["where","{LARGE}"]'.encode()) == (200, b"OK")
    assert site.request("GET", target) == (200, f'431[["{sid[0]}","{LARGE}"]]'.encode())


def test_one_instance_gone_leaves_the_other_serving(own_site: Site) -> None:
    lost = next(sid for sid in (own_site.handshake() for _ in range(8)) if sid.startswith("b."))
    own_site.b.kill()
    assert [own_site.handshake().partition(".")[0] for _ in range(6)] == ["a"] * 6
    assert own_site.seen("/")["node"] == "a"
    status, _ = own_site.poll(lost)
    assert status == 502, "the client then connects anew, without the id"


# ── what reaches an instance ─────────────────────────────────────────────────────────────────────

LIES = {
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "443",
    "X-Real-IP": "6.6.6.6",
    "Forwarded": "for=6.6.6.6;host=evil.example",
}


def assert_told_the_truth(headers: dict[str, str], site: Site) -> None:
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["host"] == f"127.0.0.1:{site.nginx.port}"
    assert not {"x-forwarded-host", "x-forwarded-port", "x-real-ip", "forwarded"} & headers.keys()


@pytest.mark.parametrize("path", ["/", "/notify/orders?title=x", "/health/ready"])
def test_the_address_is_what_nginx_saw(site: Site, path: str) -> None:
    assert_told_the_truth(site.seen(path, headers=LIES)["headers"], site)


@pytest.mark.parametrize("path", ["/ws", "/ws/chat/alice?room=lobby", "/ws/rooms/root/x?sid=b.0"])
def test_raw_websockets_pass(site: Site, path: str) -> None:
    protocols = ["realtime.v1", "bearer.abc"]
    headers = {**LIES, "Sec-WebSocket-Protocol": ", ".join(protocols)}
    with connect(
        site.nginx.ws_url + path, additional_headers=headers, open_timeout=SECONDS, close_timeout=SECONDS
    ) as ws:
        arrived = json.loads(ws.recv(timeout=SECONDS))
        assert_told_the_truth(arrived["headers"], site)
        assert arrived["headers"]["sec-websocket-protocol"] == "realtime.v1, bearer.abc"
        assert f"{arrived['path']}{'?' if arrived['query'] else ''}{arrived['query']}" == path
        for text in ("hello", "x" * 500_000):
            ws.send(text)
            assert ws.recv(timeout=SECONDS) == text


def test_raw_websockets_are_spread(site: Site) -> None:
    with contextlib.ExitStack() as stack:
        nodes = []
        for _ in range(6):
            ws = stack.enter_context(connect(site.nginx.ws_url + "/ws", open_timeout=SECONDS, close_timeout=SECONDS))
            nodes.append(json.loads(ws.recv(timeout=SECONDS))["node"])
        assert nodes.count("a") == nodes.count("b") == 3, "the fewest connections first"


def test_only_websocket_is_passed_on_as_an_upgrade(site: Site) -> None:
    headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    arrived = site.seen("/", headers=headers)["headers"]
    assert "upgrade" not in arrived
    assert "upgrade" not in arrived.get("connection", "").lower()


def test_events_are_passed_on_as_they_come(site: Site) -> None:
    """The instance writes one event and then nothing; and it learns that the client left."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", site.nginx.port, timeout=SECONDS)) as connection:
        connection.request("GET", "/notify/a%2Fb/events", headers={"Last-Event-ID": "7"})
        response = connection.getresponse()
        assert response.getheader("content-type") == "text/event-stream"
        event = json.loads(response.readline().removeprefix(b"data: "))
        assert event["streams"] == 1
        assert event["headers"]["last-event-id"] == "7"
    node = site.a if event["node"] == "a" else site.b

    def closed() -> bool:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", node.port, timeout=SECONDS)) as direct:
            direct.request("GET", "/")
            return bool(json.loads(direct.getresponse().read())["streams"] == 0)

    assert node.until(closed)


def test_bodies_of_one_message_pass_and_larger_ones_do_not(site: Site) -> None:
    limit = Settings().message_limit_bytes
    as_base64 = b"x" * (limit * 4 // 3 + 100)
    assert site.seen("/notify/orders", body=as_base64)["body_bytes"] == len(as_base64)
    connection = http.client.HTTPConnection("127.0.0.1", site.nginx.port, timeout=SECONDS)
    with contextlib.closing(connection):
        # Only announced: nginx answers before any of it is sent.
        connection.putrequest("POST", "/notify/orders")
        connection.putheader("Content-Length", str((2 << 20) + 1))
        connection.endheaders()
        assert connection.getresponse().status == 413


@pytest.mark.parametrize("path", ["/metrics", "//metrics", "/%6detrics", "/x/../metrics", "/metrics?x=1"])
def test_metrics_are_not_shown_outside(site: Site, path: str) -> None:
    assert site.request("GET", path)[0] == 404


def test_an_ordinary_failed_upgrade_is_the_instances_answer(site: Site) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{site.nginx.ws_url}/socket.io/?EIO=4&transport=websocket&sid=a.unknown", open_timeout=SECONDS)
    assert refused.value.response.status_code in (400, 403)


# ── logs and times ───────────────────────────────────────────────────────────────────────────────


def test_no_token_is_in_any_log(own_site: Site) -> None:
    token = "eyJ-a-token-for-this-test"
    secret = {"Referer": f"http://x/?token={token}", "Authorization": f"Bearer {token}"}
    own_site.seen(f"/ok?token={token}", headers=secret)
    with connect(
        f"{own_site.nginx.ws_url}/ws/secure?token={token}",
        additional_headers={"Sec-WebSocket-Protocol": f"realtime.v1, bearer.{token}"},
        open_timeout=SECONDS,
        close_timeout=SECONDS,
    ) as ws:
        ws.recv(timeout=SECONDS)
    own_site.seen(f"/large?token={token}", body=b"x" * 100_000, headers=secret)
    own_site.a.kill()
    own_site.b.kill()
    assert own_site.request("GET", f"/refused?token={token}", headers=secret)[0] == 502
    assert own_site.request("GET", f"/socket.io/?sid=a.1&token={token}", headers=secret)[0] == 502
    assert own_site.request("GET", f"/bad%00?token={token}", headers=secret)[0] == 400
    own_site.nginx.stop()

    log = (own_site.folder / "access.log").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert {"/ok", "/ws/secure", "/large", "/refused", "/socket.io/"} <= {line["path"] for line in lines}
    refused = next(line for line in lines if line["path"] == "/refused")
    assert str(own_site.a.port) in refused["upstream"] or "realtime" in refused["upstream"]
    assert "502" in refused["upstream_status"]
    for path in own_site.folder.rglob("*"):
        if path.is_file():
            assert token not in path.read_text(errors="replace"), path.name


def location(head: str) -> str:
    """What nginx.conf says in one location."""
    body = CONF.read_text().partition(f"location {head} {{")[2].partition("}")[0]
    assert body, f"no location {head}"
    return body


def test_nginx_is_more_patient_than_the_server() -> None:
    settings = Settings()
    for direction in ("read", "send"):
        found = re.search(rf"proxy_{direction}_timeout (\d+)s;", location("/socket.io/"))
        assert found, f"no proxy_{direction}_timeout"
        assert int(found[1]) > settings.ping_interval_seconds + settings.ping_timeout_seconds


@pytest.mark.parametrize("head", ["/socket.io/", "~ ^/notify/.+/events$"])
def test_a_slow_reader_is_not_hidden_in_files_of_nginx(head: str) -> None:
    """With buffering, nginx would take up to 1 GB for it, and the instance's own limits would never be met."""
    assert re.search(r"proxy_buffering\s+off;", location(head))
