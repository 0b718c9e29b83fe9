from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.encoding.codecs import Encoded, text
from realtime.ports import Link
from realtime.session.outbox import Bounds, Held, Outbox
from realtime.settings import Policy

POLICIES: list[Policy] = ["disconnect", "drop_newest", "drop_oldest", "latest_per_key"]


class Slow:
    """Keeps the port ``Wire``: takes so many frames, and is full with the last of them."""

    name = "slow"
    link: Link

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.sent: list[Encoded] = []

    def send(self, encoded: Encoded) -> bool:
        assert self.room > 0, "the wire said that it was full"
        self.room -= 1
        self.sent.append(encoded)
        return self.room > 0

    def close(self, code: int, reason: str) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def drain(self, outbox: Outbox, room: int) -> None:
        """The client reads: there is room for so many again."""
        if not room:
            return
        while room and (encoded := outbox.take()) is not None:
            self.sent.append(encoded)
            room -= 1
        self.room = room

    @property
    def said(self) -> list[str]:
        return [encoded.payload for encoded in self.sent]


def outbox(
    policy: Policy = "disconnect", messages: int = 3, size_bytes: int = 100, room: int | None = 0
) -> tuple[Outbox, Slow, Counter[str]]:
    """An outbox with a wire that has room for so many frames; None: without a wire."""
    drops: Counter[str] = Counter()
    made = Outbox(Bounds(messages, size_bytes, policy), lambda reason: drops.update([reason]))
    wire = Slow(room or 0)
    if room is not None:
        made.attach(wire, free=room > 0)
    return made, wire, drops


def state(made: Outbox) -> tuple[int, int, bool]:
    """Frames and bytes that wait, and whether one more would leave at once."""
    return len(made), made.waiting_bytes, made.free


def offer_all(made: Outbox, *words: str) -> list[bool]:
    return [made.offer(text(word)) for word in words]


def test_while_the_wire_is_free_a_frame_leaves_at_once() -> None:
    made, wire, _ = outbox(room=10)
    assert offer_all(made, "a", "b") == [True, True]
    assert wire.said == ["a", "b"]
    assert state(made) == (0, 0, True)


def test_a_full_wire_is_given_nothing_until_it_asks() -> None:
    made, wire, _ = outbox(room=1)
    offer_all(made, "a", "bb", "c")
    assert wire.said == ["a"]
    assert state(made) == (2, 3, False)
    assert made.take() is not None
    assert state(made) == (1, 1, False)
    assert made.take() is not None
    assert state(made) == (0, 0, False)
    assert made.take() is None
    assert state(made) == (0, 0, True)


def test_what_did_not_fit_after_all_is_the_first_again() -> None:
    made, wire, _ = outbox()
    offer_all(made, "aa", "b")
    first = made.take()
    assert first is not None
    made.put_back(first)
    assert state(made) == (2, 3, False)
    wire.drain(made, 10)
    assert wire.said == ["aa", "b"]


def test_what_a_free_wire_gives_back_waits_for_it() -> None:
    made, wire, _ = outbox(room=None)
    made.put_back(text("a"))
    assert state(made) == (1, 1, False)
    made.attach(wire, free=False)
    wire.drain(made, 10)
    assert wire.said == ["a"]


def test_without_a_wire_frames_wait_and_none_is_free() -> None:
    made, _, _ = outbox(room=None)
    offer_all(made, "a")
    assert made.take() is not None
    assert made.take() is None
    assert not made.free


def test_a_new_wire_is_given_first_what_waited() -> None:
    made, old, _ = outbox(room=1)
    offer_all(made, "a", "b", "c")
    made.detach()
    new = Slow(5)
    made.attach(new, free=True)
    offer_all(made, "d")
    assert (old.said, new.said) == (["a"], ["b", "c", "d"])
    assert made.free


def test_a_new_wire_that_is_full_soon_keeps_the_rest_waiting() -> None:
    made, _, _ = outbox(room=None)
    offer_all(made, "a", "b", "c")
    wire = Slow(2)
    made.attach(wire, free=True)
    assert wire.said == ["a", "b"]
    assert (len(made), made.free) == (1, False)


def test_a_new_wire_that_is_not_free_is_given_nothing() -> None:
    made, _, _ = outbox(room=None)
    offer_all(made, "a")
    wire = Slow(2)
    made.attach(wire, free=False)
    assert wire.said == []
    assert len(made) == 1


def test_a_wire_on_hold_gets_nothing_until_it_takes() -> None:
    made, wire, _ = outbox(room=5)
    made.hold()
    offer_all(made, "a")
    assert wire.said == []
    wire.drain(made, 5)
    offer_all(made, "b")
    assert wire.said == ["a", "b"]


def test_a_lone_message_fits_an_empty_backlog_whatever_its_size() -> None:
    made, _, drops = outbox(size_bytes=10)
    assert offer_all(made, "x" * 1_000) == [True]
    assert offer_all(made, "y") == [False]
    assert drops == {"slow": 1}


@pytest.mark.parametrize(("messages", "size_bytes"), [(3, 1_000), (1_000, 3)])
def test_over_either_bound_the_client_is_too_slow(messages: int, size_bytes: int) -> None:
    made, wire, drops = outbox(messages=messages, size_bytes=size_bytes)
    assert offer_all(made, "a", "b", "c", "d") == [True, True, True, False]
    assert drops == {"slow": 1}
    wire.drain(made, 10)
    assert wire.said == ["a", "b", "c"]


def test_drop_newest_keeps_what_waits() -> None:
    made, wire, drops = outbox("drop_newest")
    assert offer_all(made, *"abcde") == [True] * 5
    wire.drain(made, 10)
    assert wire.said == ["a", "b", "c"]
    assert drops == {"drop_newest": 2}


def test_drop_oldest_makes_room_for_the_newest() -> None:
    made, wire, drops = outbox("drop_oldest")
    assert offer_all(made, *"abcde") == [True] * 5
    wire.drain(made, 10)
    assert wire.said == ["c", "d", "e"]
    assert drops == {"drop_oldest": 2}


def test_drop_oldest_makes_as_much_room_as_a_big_one_needs() -> None:
    made, wire, drops = outbox("drop_oldest", messages=10, size_bytes=5)
    offer_all(made, *"abcde", "xxx")
    wire.drain(made, 10)
    assert wire.said == ["d", "e", "xxx"]
    offer_all(made, "y")
    made.hold()
    offer_all(made, "y", "z" * 100)
    wire.drain(made, 10)
    assert wire.said[-1] == "z" * 100
    assert drops == {"drop_oldest": 4}


def test_the_latest_of_a_key_takes_the_place_of_the_one_before() -> None:
    made, wire, drops = outbox("latest_per_key")
    for word, key in (("x1", "x"), ("y1", "y"), ("plain", None), ("x2", "x"), ("x3", "x")):
        assert made.offer(text(word), key=key)
    wire.drain(made, 10)
    assert wire.said == ["y1", "plain", "x3"]
    assert drops == {"superseded": 2}


def test_keys_over_the_bound_are_dropped_newest_first() -> None:
    made, wire, drops = outbox("latest_per_key")
    for word in "abcd":
        assert made.offer(text(word), key=word)
    wire.drain(made, 10)
    assert wire.said == ["a", "b", "c"]
    assert drops == {"drop_newest": 1}


@pytest.mark.parametrize("policy", POLICIES[:3])
def test_a_key_means_nothing_to_the_other_policies(policy: Policy) -> None:
    made, wire, drops = outbox(policy)
    for word in "ab":
        made.offer(text(word), key="k")
    wire.drain(made, 10)
    assert wire.said == ["a", "b"]
    assert not drops


@pytest.mark.parametrize("policy", POLICIES)
def test_volatile_frames_are_the_first_to_go(policy: Policy) -> None:
    made, wire, drops = outbox(policy)
    for word in ("typing 1", "a", "typing 2"):
        assert made.offer(text(word), volatile=word.startswith("typing"))
    assert made.offer(text("b"))
    wire.drain(made, 10)
    assert wire.said == ["a", "b"]
    assert drops == {"volatile": 2}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_volatile_frame_harms_nobody_who_waits(policy: Policy) -> None:
    made, wire, drops = outbox(policy)
    offer_all(made, "a", "b", "c")
    assert made.offer(text("typing"), volatile=True)
    wire.drain(made, 10)
    assert wire.said == ["a", "b", "c"]
    assert drops == {"volatile": 1}


def test_what_is_cleared_is_gone() -> None:
    made, wire, drops = outbox()
    offer_all(made, "a", "b")
    made.clear()
    assert (len(made), made.waiting_bytes) == (0, 0)
    wire.drain(made, 10)
    assert wire.said == []
    assert not drops


actions = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(1, 12), st.booleans(), st.sampled_from([None, "x", "y"])),
        st.tuples(st.just("drain"), st.integers(0, 4), st.just(False), st.none()),
        st.tuples(st.just("hold"), st.just(0), st.just(False), st.none()),
    ),
    max_size=60,
)


@given(st.sampled_from(POLICIES), st.integers(1, 5), st.integers(1, 30), actions)
def test_nothing_is_lost_uncounted_repeated_or_out_of_order_and_nothing_grows(
    policy: Policy, messages: int, size_bytes: int, script: list[tuple[str, int, bool, str | None]]
) -> None:
    made, wire, drops = outbox(policy, messages, size_bytes, room=2)
    offered: list[Encoded] = []
    for action, number, volatile, key in script:
        if action == "offer":
            offered.append(text("x" * number))
            accepted = made.offer(offered[-1], volatile, key)
            assert accepted or policy == "disconnect"
        elif action == "drain":
            wire.drain(made, number)
        else:
            made.hold()
        assert len(made) <= messages
        assert made.waiting_bytes <= size_bytes or len(made) == 1
        assert len(wire.sent) + len(made) + drops.total() == len(offered)
    wire.drain(made, len(offered) + 1)
    assert made.waiting_bytes == 0
    places = [next(place for place, one in enumerate(offered) if one is sent) for sent in wire.sent]
    assert places == sorted(set(places))


def test_held_frames_stay_within_a_backlog_less_the_connect_packet() -> None:
    drops: Counter[str] = Counter()
    held = Held(Bounds(messages=3), lambda reason: drops.update([reason]))
    for word in "abcd":
        held.keep(text(word))
    assert [encoded.payload for encoded in held.frames] == ["a", "b"]
    assert drops == {"held": 2}


def test_held_frames_are_bounded_in_bytes_too_and_the_first_always_fits() -> None:
    drops: Counter[str] = Counter()
    held = Held(Bounds(size_bytes=10), lambda reason: drops.update([reason]))
    held.keep(text("x" * 50))
    held.keep(text("y"))
    assert [encoded.size for encoded in held.frames] == [50]
    assert drops == {"held": 1}


def test_a_replay_leaves_after_what_waits_as_there_is_room_and_is_not_counted() -> None:
    made, wire, drops = outbox(messages=3, room=2)
    for word in ("w1", "w2", "b1", "b2"):
        assert made.offer(text(word))
    made.replay(iter([text(f"r{number}") for number in range(10)]))
    made.replay(iter([text("s")]))
    assert (len(made), made.replays) == (2, 2)
    assert made.offer(text("b3")), "a replay of any length leaves the backlog its room"
    assert wire.said == ["w1", "w2"]
    wire.drain(made, 6)
    assert wire.said[2:] == ["b1", "b2", "r0", "r1", "r2", "r3"]
    made.put_back(wire.sent.pop())
    wire.drain(made, 100)
    assert wire.said[2:] == ["b1", "b2", *(f"r{number}" for number in range(10)), "s", "b3"]
    assert made.free
    assert (made.replays, made.waiting_bytes) == (0, 0)
    assert not drops


def test_what_a_wire_puts_back_of_a_replay_is_the_first_to_leave() -> None:
    made, wire, _ = outbox(room=5)

    def put_back(encoded: Encoded) -> bool:
        made.put_back(encoded)
        return False

    made.way = put_back  # as polling does with what fits no answer
    made.replay(iter([text("a"), text("b")]))
    wire.drain(made, 5)
    assert wire.said == ["a", "b"]


def test_a_replay_is_not_what_gives_way() -> None:
    made, wire, drops = outbox("drop_oldest", messages=2, room=0)
    made.replay(iter([text("r")]))
    for word in ("a", "b", "c"):
        assert made.offer(text(word))
    wire.drain(made, 9)
    assert wire.said == ["r", "b", "c"]
    assert drops == {"drop_oldest": 1}


def test_a_replay_that_is_ended_takes_with_it_what_was_to_follow() -> None:
    made, wire, drops = outbox(room=0)
    assert made.offer(text("before"))
    made.replay(iter([text("a")]))
    assert made.offer(text("behind"))
    made.replay(iter([text("b")]))
    made.end_replays()
    assert (made.replays, made.waiting_bytes) == (0, 6)
    assert made.offer(text("after"))
    wire.drain(made, 9)
    assert wire.said == ["before", "after"]
    assert drops == {"replay": 1}


def test_a_replay_leaves_at_once_while_there_is_room() -> None:
    made, wire, _ = outbox(room=3)
    made.replay(iter([text("a"), text("b")]))
    assert (wire.said, made.free) == (["a", "b"], True)
    made.replay(iter([text("c"), text("d")]))
    assert (wire.said, made.free) == (["a", "b", "c"], False)
    assert made.offer(text("e"))
    made.detach()
    made.attach(other := Slow(5), free=True)
    assert other.said == ["d", "e"]


def test_what_is_cleared_is_not_replayed() -> None:
    made, wire, _ = outbox(room=0)
    made.replay(iter([text("a")]))
    made.clear()
    wire.drain(made, 5)
    assert wire.said == []
