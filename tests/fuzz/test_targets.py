"""The targets themselves, with what is kept; Atheris is not needed for it."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.fast.frames import FrameReader
from realtime.clients.connection import Connection
from realtime.encoding.packets import Decoder, MsgPackDecoder
from tests.fuzz import keeping
from tests.fuzz.targets import TARGETS
from tests.realtime.fuzz_packets import mutate_bytes
from tests.serving import ROOT


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_once_is_handled(name: str) -> None:
    kept = keeping.kept(name)
    assert len(kept) > 10
    for data in [*kept, *keeping.seeds(name), b""]:
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run_finds_nothing(name: str) -> None:
    dice = random.Random(7)
    kept = keeping.kept(name)
    fed = {mutate_bytes(dice.choice(kept), dice) for _ in range(1_000)}
    assert len(fed - set(kept)) > 500, "hardly anything was mutated"
    for data in fed:
        TARGETS[name](data)  # raises what it finds


@pytest.mark.parametrize(
    ("name", "owner", "method"),
    [
        ("text", Decoder, "feed"),
        ("msgpack", MsgPackDecoder, "feed"),
        ("payload", Connection, "_frame"),
        ("frames", FrameReader, "_header"),
    ],
)
def test_a_foreign_exception_is_a_finding(monkeypatch: pytest.MonkeyPatch, name: str, owner: type, method: str) -> None:
    def fail(*_: object) -> None:
        raise KeyError("foreign")

    monkeypatch.setattr(owner, method, fail)
    with pytest.raises(KeyError, match="foreign"):
        TARGETS[name](keeping.seeds(name)[0])


def test_a_quick_way_that_takes_something_else_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    TARGETS["text"](b'2["a"]')
    monkeypatch.setattr(Decoder, "quick", lambda self, frame: (["b"], "/", None))
    with pytest.raises(AssertionError):
        TARGETS["text"](b'2["a"]')


def test_a_message_that_depends_on_how_it_was_cut_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = keeping.masked(0x81, b"hello")
    TARGETS["frames"](whole)
    feed = FrameReader.feed
    monkeypatch.setattr(FrameReader, "feed", lambda self, data: feed(self, data if len(data) > 3 else b""))
    with pytest.raises(AssertionError):
        TARGETS["frames"](whole)


def test_what_is_kept_comes_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(keeping, "CORPUS", tmp_path)
    assert keeping.kept("text") == []
    assert keeping.keep("text", [b"long\n\xff'\"", b"\0", b"", b"\0"]) == 3
    assert keeping.kept("text") == [b"", b"\0", b"long\n\xff'\""]
    assert (tmp_path / "text.txt").read_text().isascii()


def test_only_what_takes_a_new_step_is_worth_keeping() -> None:
    shortest, longer, other = b'2["a"]', b'2["ab"]', b"0"
    assert keeping.worth_keeping("text", [longer, other, shortest]) == [other, shortest]
    assert len(keeping.worth_keeping("frames", keeping.seeds("frames"))) > 3


def test_the_command_runs() -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("no Atheris in this environment (the extra `fuzz`)")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--runs", "4000"], cwd=ROOT, capture_output=True, text=True, timeout=55
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"findings": 0' in done.stdout
