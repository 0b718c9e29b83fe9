"""What becomes of an emission that Redis refuses, reason by reason: on a real Redis, and by the words of older ones."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis as redis_py
from redis._parsers.base import BaseParser

from adapters.names import open_name_holders
from adapters.redis.address import Address
from adapters.redis.answers import RedisAnswers
from adapters.redis.connection import describe
from adapters.redis.journal import RedisJournal
from adapters.redis.keys import Keys
from adapters.redis.refusals import Fault, advice_for, code_of, fault_of
from adapters.redis.sessions import RedisSessions
from realtime import BusState
from realtime.errors import OutsideError
from realtime.metrics import Metrics
from realtime.ports import Journal, NameHolders
from realtime.testing.answers import AnswersContract
from realtime.testing.journal import JournalContract
from realtime.testing.names import SharedNamesContract
from realtime.testing.sessions import SessionsContract
from tests.adapters.journals import SECRETS, draft, journal, keep, stubbornly
from tests.realtime.nodes import MemoryLogs, Node, heard, until
from tests.redis_server import RedisServer
from tests.serving import ROOT

SECRET = "a secret word of somebody"


def answered(text: str) -> Exception:
    """What redis-py makes of this answer."""
    made: Exception = BaseParser.parse_error(text)  # type: ignore[no-untyped-call]
    return made


@pytest.mark.parametrize(
    ("text", "code", "fault"),
    [
        ("NOPERM this user has no permissions to run the 'evalsha' command", "NOPERM", Fault.LASTING),
        ("NOAUTH Authentication required.", "NOAUTH", Fault.LASTING),
        ("WRONGPASS invalid username-password pair or user is disabled.", "WRONGPASS", Fault.LASTING),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "WRONGTYPE", Fault.LASTING),
        ("ERR unknown command 'EVALSHA', with args beginning with: ", "UNKNOWN", Fault.LASTING),
        ("ERR Unknown Redis command called from script script: 1, on @user_script:1.", "UNKNOWN", Fault.LASTING),
        ("ERR ACL failure in script: User poor has no permissions to run 'xadd'", "NOPERM", Fault.LASTING),
        ("ERR Error running: @user_script:3: The user executing the script can't run this", "NOPERM", Fault.LASTING),
        ("ERR Error running script (f_1): @user_script: 3: -OOM command not", "OOM", Fault.PASSING),
        ("@user_script: 21: -READONLY You can't write against a read only replica. ", "READONLY", Fault.PASSING),
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM", Fault.PASSING),
        ("READONLY You can't write against a read only replica.", "READONLY", Fault.PASSING),
        ("MISCONF Redis is configured to save RDB snapshots.", "MISCONF", Fault.PASSING),
        ("NOREPLICAS Not enough good replicas to write.", "NOREPLICAS", Fault.PASSING),
        ("BUSY Redis is busy running a script.", "BUSY", Fault.PASSING),
        ("LOADING Redis is loading the dataset in memory", "LOADING", Fault.PASSING),
        ("CLUSTERDOWN Hash slot not served", "CLUSTERDOWN", Fault.PASSING),
        ("MASTERDOWN Link with MASTER is down.", "MASTERDOWN", Fault.PASSING),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "TRYAGAIN", Fault.PASSING),
        ("ASK 7 127.0.0.1:7001", "ASK", Fault.PASSING),
        ("MOVED 7 127.0.0.1:7001", "MOVED", Fault.PASSING),
        ("NOSCRIPT No matching script. Please use EVAL.", "NOSCRIPT", Fault.PASSING),
        (f"ERR value is not an integer: {SECRET}", "ERR", Fault.OURS),
        (f"STRANGE {SECRET}", "ERR", Fault.OURS),
    ],
)  # fmt: skip
def test_each_reason_is_known_and_nothing_of_its_own_words_is_repeated(text: str, code: str, fault: Fault) -> None:
    error = answered(text)
    assert (code_of(error), fault_of(error)) == (code, fault)
    said = describe(error) + advice_for(error)
    assert len(set(text.lower().split(" ")) & set(said.lower().split(" "))) < 10
    assert SECRET not in said
    if fault is not Fault.PASSING:
        assert advice_for(error), "nobody else can end it"


def test_what_the_server_did_not_say_needs_no_advice() -> None:
    for error in (redis_py.ConnectionError("x"), redis_py.TimeoutError("x"), OSError("x")):
        assert advice_for(error) == ""


class Trouble:
    """A way in which a Redis refuses, and its end."""

    words: str
    code: str

    def __init__(self, server: RedisServer, admin: Any) -> None:
        self.server, self.admin = server, admin

    def begin(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError


class Setting(Trouble):
    """A setting of the server."""

    name: str
    bad: str
    good: str

    def begin(self) -> None:
        self.admin.config_set(self.name, self.bad)

    def end(self) -> None:
        self.admin.config_set(self.name, self.good)


class Full(Setting):
    words, code, name, bad, good = "no memory left", "OOM", "maxmemory", "1", "0"


class Unreplicated(Setting):
    words, code, name, bad, good = "too few replicas", "NOREPLICAS", "min-replicas-to-write", "1", "0"


class Permission(Trouble):
    """Something that the user may not do (any more)."""

    words, code = "no permission", "NOPERM"
    bad: tuple[str, ...]
    good: tuple[str, ...]

    def begin(self) -> None:
        self.admin.execute_command("ACL", "SETUSER", "poor", *self.bad)

    def end(self) -> None:
        self.admin.execute_command("ACL", "SETUSER", "poor", *self.good)


class NoScripts(Permission):
    bad, good = ("-@scripting",), ("+@scripting",)


class NoStreams(Permission):
    bad, good = ("-xadd",), ("+xadd",)


class NoKeys(Permission):
    bad, good = ("resetkeys",), ("~*",)


class NoChannels(Permission):
    """The script has kept the entry when it is refused."""

    bad, good = ("resetchannels",), ("&*",)


class Replica(Trouble):
    words, code = "it is a replica", "READONLY"

    def begin(self) -> None:
        self.admin.replicaof("127.0.0.1", "1")

    def end(self) -> None:
        self.admin.replicaof("no", "one")


class Orphan(Replica):
    words, code = "lost its master", "MASTERDOWN"

    def begin(self) -> None:
        self.admin.config_set("replica-serve-stale-data", "no")
        super().begin()


class Unsaved(Trouble):
    words, code = "cannot save its data", "MISCONF"

    def begin(self) -> None:
        self.admin.config_set("save", "3600 1")
        shutil.rmtree(self.server.folder)
        self.admin.bgsave()

    def end(self) -> None:
        self.server.folder.mkdir()
        self.admin.config_set("stop-writes-on-bgsave-error", "no")


class Busy(Trouble):
    words, code = "busy with somebody's script", "BUSY"

    def begin(self) -> None:
        self.admin.config_set("lua-time-limit", 50)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self.server.admin() as client, suppress(redis_py.ResponseError):
            client.eval("while true do end", 0)

    def end(self) -> None:
        self.admin.script_kill()
        self._thread.join(5)


TROUBLES = [Full, Unreplicated, NoScripts, NoStreams, NoKeys, NoChannels, Replica, Orphan, Unsaved, Busy]


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[Any]:
    with redis_server.admin() as client:
        client.acl_setuser("poor", enabled=True, passwords=["+pw"], keys=["*"], channels=["*"], commands=["+@all"])
        yield client


def poor(server: RedisServer) -> str:
    return f"redis://poor:pw@127.0.0.1:{server.port}"


async def refused(node: RedisJournal, number: int, words: str) -> OutsideError:
    """This draft, when it is refused in these words."""
    async with asyncio.timeout(15):
        while True:
            try:
                await node.append(draft(number, "lobby"))
            except OutsideError as error:
                if words in error.message:
                    return error
            else:  # it is not so far
                number += 1


@pytest.mark.process
@pytest.mark.parametrize("kind", TROUBLES)
@pytest.mark.asyncio
async def test_it_is_kept_when_that_is_over_and_the_log_says_why(
    redis_server: RedisServer, admin: Any, kind: type[Trouble], caplog: pytest.LogCaptureFixture
) -> None:
    """Without a new connection and without a restart: the same draft, in the same log."""
    trouble = kind(redis_server, admin)
    node = journal(poor(redis_server), "a")
    try:
        first = await keep(node, draft(1, "lobby"))
        trouble.begin()
        try:
            for _ in range(2):
                failure = await refused(node, 2, trouble.words)
                assert failure.retry_after is not None, "it is to be offered again"
        finally:
            trouble.end()
        newest = await stubbornly(lambda: node.newest("/chat"))
        kept = await keep(node, draft(1 << 40, "lobby"))
        assert kept.position.epoch == first.position.epoch == newest.epoch
        assert kept.offset == newest.offset + 1
    finally:
        await node.close()
    lines = [record.getMessage() for record in caplog.records if f"({trouble.code}, " in record.getMessage()]
    assert len(lines) == 1, "a line a minute, not one for each"
    assert trouble.words in lines[0]
    assert lines[0].endswith(advice_for(answered(f"{trouble.code} x")))


@pytest.mark.process
@pytest.mark.asyncio
async def test_a_defect_is_said_and_the_next_one_may_do_better(
    redis_server: RedisServer, admin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    head = Keys("test", "/chat").of[0]
    node = journal(redis_server.url, "a")
    try:
        await keep(node, draft(1, "lobby"))
        admin.hset(head, "o", "nonsense")
        failure = await refused(node, 2, "refused the command")
        assert failure.retry_after is None, "asking again would be answered likewise"
        admin.hset(head, "o", "1")
        assert (await keep(node, draft(3, "lobby"))).offset == 2
    finally:
        await node.close()
    assert "(ERR, 0 more since then); this is a defect" in caplog.text


@pytest.mark.process
@pytest.mark.asyncio
async def test_where_somebody_else_has_written_under_our_keys(redis_server: RedisServer, admin: Any) -> None:
    head = Keys("test", "/chat").of[0]
    node = journal(redis_server.url, "a")
    try:
        first = await keep(node, draft(1, "lobby"))
        admin.delete(head)
        admin.set(head, "x")
        assert (await refused(node, 2, "something else")).retry_after is not None
        admin.delete(head)
        kept = await keep(node, draft(2, "lobby"))
        assert (kept.offset, kept.position.epoch > first.position.epoch) == (1, True)
    finally:
        await node.close()


@pytest.mark.process
@pytest.mark.asyncio
async def test_a_server_that_leaves_the_cluster_refuses_nothing_for_good(redis_server: RedisServer) -> None:
    """What was on its way there is offered to whoever has its keys now."""
    node = journal(redis_server.url, "a")
    try:
        await keep(node, draft(1))
        redis_server.freeze()
        appending = asyncio.ensure_future(node.append(draft(2)))
        [there] = node._shards._publishers.values()
        await until(lambda: not there._waiting and not appending.done())
        await there.close()
        with pytest.raises(OutsideError) as failure:
            await appending
        assert failure.value.retry_after is not None
    finally:
        redis_server.thaw()
        await node.close()


class RealNode(Node):
    """On a real Redis."""

    url: str

    def _open(self, own: str, logs: MemoryLogs) -> Any:
        made: Journal = journal(self.url, own)
        return made


@pytest.mark.process
@pytest.mark.asyncio
async def test_what_is_said_without_permission_is_owed_and_handed_over_in_order(
    redis_server: RedisServer, admin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    nodes = []
    for name, url in (("a", poor(redis_server)), ("b", redis_server.url)):
        node = RealNode(name, MemoryLogs(), bus_patience_seconds=0.5)
        node.url = url
        node.server._initialize()
        nodes.append(node)
    a, b = nodes
    try:
        ann, ben = await a.client("den"), await b.client("den")
        assert (await a.emit("before", "den")).durable
        admin.execute_command("ACL", "SETUSER", "poor", "-@scripting")
        for words in ("one", "two", "three"):
            emitted = await a.emit(words, "den")
            assert (emitted, emitted.durable, emitted.bus) == (1, False, BusState.AWAY)
        assert heard(ann) == ["before", "one", "two", "three"]
        assert heard(ben) == ["before"]
        backplane = a.server.backplane
        assert backplane is not None
        with pytest.raises(OutsideError) as failure:
            await backplane.check()
        assert failure.value.details == "this instance goes on alone: Redis refused the command (no permission)"
        admin.execute_command("ACL", "SETUSER", "poor", "+@scripting")
        await until(lambda: heard(ben) == ["before", "one", "two", "three"])
        await until(lambda: not a.lane.alone)
        assert (await a.emit("after", "den")).durable
        await until(lambda: heard(ben)[-1] == "after")
        assert heard(ann) == heard(ben) == ["before", "one", "two", "three", "after"]
    finally:
        for node in nodes:
            await node.server.shutdown()
    assert caplog.text.count("for EVALSHA (NOPERM, 0 more since then); its user needs") == 1
    assert "(Redis refused the command (no permission)): this instance goes on alone" in caplog.text
    assert "the bus is back" in caplog.text


def least(server: RedisServer, prefix: str) -> str:
    """The URL of a user who may do what the README says, and no more."""
    text = (ROOT / "adapters" / "README.md").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("ACL SETUSER realtime")]
    with server.admin() as client:
        client.execute_command(*line.replace("PASSWORD", "pw").replace("PREFIX", prefix).split(" "))
        client.execute_command("ACL", "LOG", "RESET")
    return f"redis://realtime:pw@127.0.0.1:{server.port}"


class Least:
    """With the permissions of the README everything is as ever."""

    place: str

    @pytest.fixture(autouse=True)
    def _server(self, shared_redis: RedisServer) -> Iterator[None]:
        self._url = least(shared_redis, f"{self.place}*")
        yield
        with shared_redis.admin() as client:
            assert client.execute_command("ACL", "LOG") == []


@pytest.mark.process
class TestJournalWithTheLeastPermissions(Least, JournalContract):
    def journal(self, node: str) -> RedisJournal:
        return journal(self._url, node, prefix=self.place)


@pytest.mark.process
class TestSessionsWithTheLeastPermissions(Least, SessionsContract):
    def sessions(self, node: str) -> RedisSessions:
        return RedisSessions(Address.parse(self._url), node, Metrics(), prefix=self.place, signing=SECRETS)


@pytest.mark.process
class TestAnswersWithTheLeastPermissions(Least, AnswersContract):
    def answers(self) -> RedisAnswers:
        return RedisAnswers(Address.parse(self._url), Metrics(), prefix=self.place, signing=SECRETS)


@pytest.mark.process
class TestNamesWithTheLeastPermissions(Least, SharedNamesContract):
    def names(self) -> NameHolders:
        return open_name_holders(self._url, self.place, Metrics())
