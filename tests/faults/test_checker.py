"""The checker on made-up histories: what is as it should be is let pass, and each kind of violation is seen."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.faults.checker import chains_of, check
from tests.faults.history import Client, Emission, Fate, Heard, History, Leg, Life, read_ledger

ROOM = "/board#r1"


def emission(number: int, place: str | None = "", **more: object) -> Emission:
    """``m1`` at e-1 and so on, a second apart, each by p on the node a-1."""
    place = f"e-{number}" if place == "" else place
    fate = Fate.KEPT if place else Fate.ALONE
    found = Emission(f"m{number}", "p", ROOM, "a-1", number, float(number), number + 0.1, fate, place)
    for name, value in more.items():
        setattr(found, name, value)
    return found


def leg(*heard: int | Heard, asked: bool = False, verdict: bool | None = None, ended: str | None = None) -> Leg:
    found = Leg("a-1", asked, 0.0, opened=True, verdict=verdict, joined={ROOM: 0.5}, ended=ended)
    found.heard = [each if isinstance(each, Heard) else Heard(f"m{each}", f"e-{each}", each + 0.2) for each in heard]
    return found


def history(*legs: Leg, emissions: list[Emission] | None = None, promised: bool = True) -> History:
    client = Client("c", "websocket", promised, (ROOM,), list(legs))
    made = [emission(number) for number in range(1, 6)] if emissions is None else emissions
    return History({each.id: each for each in made}, {"a-1": Life("a-1"), "b-1": Life("b-1")}, [client])


def kinds(found: History) -> list[str]:
    return sorted({violation.kind for violation in check(found)})


def back(*heard: int | Heard) -> Leg:
    return leg(*heard, asked=True, verdict=True)


# ── as it should be ──────────────────────────────────────────────────────────────────────────────


def test_everything_once_over_connections_that_recovered() -> None:
    assert kinds(history(leg(1, 2, ended="cut"), back(3, 4, 5))) == []


def test_who_was_told_that_it_has_not_recovered_may_have_missed_something() -> None:
    clean = leg(5, asked=True, verdict=False)
    clean.joined = {ROOM: 4.5}
    assert kinds(history(leg(1, 2, ended="cut"), clean)) == []


def test_what_was_said_before_it_was_in_the_room_is_not_owed() -> None:
    late = leg(4, 5)
    late.joined = {ROOM: 3.5}
    assert kinds(history(late)) == []


def test_what_is_volatile_is_not_owed_and_may_overtake() -> None:
    made = [emission(1), emission(2, None, fate=Fate.VOLATILE), emission(3)]
    assert kinds(history(leg(1, 3), emissions=made)) == []
    overtaking = leg(Heard("m3", "e-0", 1), Heard("m1", "e-1", 2), Heard("m2", "e-2", 3))
    made = [emission(1), emission(2), emission(3, None, fate=Fate.VOLATILE)]
    assert kinds(history(overtaking, emissions=made)) == []


def test_after_the_log_was_lost_there_is_another_one() -> None:
    made = [emission(1), emission(2), emission(3, "f-1"), emission(4, "f-2")]
    assert kinds(history(leg(1, 2, Heard("m3", "f-1", 3), Heard("m4", "f-2", 4)), emissions=made)) == []


def test_what_was_in_a_lost_log_may_come_late_and_not_twice() -> None:
    def found(*heard: int | Heard, losses: list[float]) -> list[str]:
        one = history(leg(*heard), emissions=[emission(1), emission(2), emission(3, "f-1")])
        one.losses = losses
        return kinds(one)

    late = [Heard("m3", "f-1", 3.1), Heard("m2", "f-2", 3.2)]
    assert found(1, *late, losses=[2.5]) == []
    assert found(1, *late, losses=[]) == ["publisher's order"], "no log was lost"
    assert found(1, *late, Heard("m1", "f-3", 4), losses=[2.5]) == ["twice"]
    plain = [Heard(f"m{number}", None, 3.5) for number in (1, 3, 2)]
    assert found(*plain, losses=[2.5]) == []


def test_what_was_said_alone_is_owed_unless_its_node_was_killed_before_it_could_hand_it_over() -> None:
    def found(killed: float | None, *regained: float) -> list[str]:
        one = history(leg(1, 3), emissions=[emission(1), emission(2, None), emission(3)])
        one.lives["a-1"] = Life("a-1", killed, list(regained))
        return kinds(one)

    assert found(None) == ["missing"]
    assert found(10.0) == []
    assert found(10.0, 9.0) == [], "it had hardly begun"
    assert found(10.0, 5.0) == ["missing"]


def test_what_never_was_answered_may_be_lost_for_all_and_not_for_some() -> None:
    made = [emission(1), emission(2, None, fate=Fate.UNKNOWN, ended=None), emission(3)]
    one = history(leg(1, 3), emissions=made)
    one.lives["a-1"] = Life("a-1", 2.5)
    assert kinds(one) == []
    other = leg(1, Heard("m2", "e-2", 2.2), 3)
    one.clients.append(Client("d", "raw", True, (ROOM,), [other]))
    assert kinds(one) == [], "it was heard on the node that was killed"
    other.life = "b-1"
    assert kinds(one) == ["missing"]


# ── what must not be ─────────────────────────────────────────────────────────────────────────────


def test_missing_at_the_end() -> None:
    assert kinds(history(leg(1, 2, ended="cut"), back(3, 4))) == ["missing"]
    assert kinds(history(leg(1, 2, 3, 4), promised=False)) == ["missing"]
    assert kinds(history(leg(1, 2, 3, 4, ended="cut"), promised=False)) == [], "whoever has gone may miss the last"


def test_a_hole_in_the_middle_also_where_it_did_not_come_back() -> None:
    clean = leg(asked=True, verdict=False)
    clean.joined = {}
    assert kinds(history(leg(1, 2, 4, ended="cut"), clean)) == ["ahead", "hole"]
    assert kinds(history(leg(1, 2, 4, ended="cut"), promised=False)) == ["ahead", "hole"]


def test_twice() -> None:
    assert kinds(history(leg(1, 2, 3, ended="cut"), back(3, 4, 5))) == ["twice"]
    clean = leg(3, 4, 5, asked=True, verdict=False)
    clean.joined = {ROOM: 2.5}
    assert kinds(history(leg(1, 2, 3, ended="cut"), clean)) == [], "it has forgotten what was before"


def test_out_of_order() -> None:
    assert kinds(history(leg(1, 3, 2, 4, 5))) == ["ahead", "backwards", "order", "publisher's order"]
    made = [emission(number, publisher=f"p{number}") for number in range(1, 6)]
    assert kinds(history(leg(1, 3, 2, 4, 5), emissions=made)) == ["ahead", "backwards", "order"]
    plain = [Heard(f"m{number}", None, number) for number in (1, 3, 2)]
    assert kinds(history(leg(*plain), emissions=made[:3], promised=False)) == ["order"]
    alone = [emission(number, None) for number in range(1, 4)]
    heard = [Heard(f"m{number}", None, number) for number in (1, 3, 2)]
    assert kinds(history(leg(*heard), emissions=alone)) == ["publisher's order"]


def test_back_to_a_log_that_is_over() -> None:
    made = [emission(1), emission(2, "f-1"), emission(3)]
    assert kinds(history(leg(1, Heard("m2", "f-1", 2), 3), emissions=made)) == ["backwards"]


def test_a_mark_that_is_ahead_of_what_it_has() -> None:
    """Who is cut off after it would come back with it and miss what is between."""
    made = [emission(1), emission(2), emission(3, None, fate=Fate.VOLATILE)]

    def told(mark: str) -> list[str]:
        return kinds(history(leg(1, Heard("m3", mark, 2), Heard("m2", "e-2", 3)), emissions=made))

    assert told("e-1") == []
    assert told("e-2") == ["ahead"]
    assert told("e-3") == ["ahead", "backwards"]


def test_ahead_of_a_hole_and_healed_later() -> None:
    """It has everything in the end; cut off in between it would not have."""
    made = [emission(number, publisher=f"p{number}") for number in range(1, 4)]
    late = Heard("m2", "e-3", 3)
    assert kinds(history(leg(1, 3, late), emissions=made)) == ["ahead", "order"]
    made.append(emission(9, None))
    assert kinds(history(leg(1, Heard("m9", "e-1", 1.5), 3, late), emissions=made)) == ["order"], (
        "it is not believed any more"
    )


def test_what_was_told_before_it_had_its_place_is_shown_an_older_one() -> None:
    made = [emission(number, publisher=f"p{number}") for number in range(1, 4)]
    assert kinds(history(leg(1, Heard("m3", "e-1", 2), 2), emissions=made)) == []


def test_what_a_node_delivered_alone_and_was_kept_all_the_same_has_its_publishers_order() -> None:
    made = [emission(number, publisher=f"p{number}") for number in range(1, 4)]
    made[2].early = True
    plain = [Heard(f"m{number}", None, number) for number in (1, 3, 2)]
    elsewhere = leg(*plain)
    elsewhere.life = "b-1"
    assert kinds(history(leg(*plain), emissions=made)) == []
    assert kinds(history(elsewhere, emissions=made)) == ["order"]


def test_a_place_twice() -> None:
    made = [emission(1), emission(2, "e-1")]
    assert kinds(history(leg(1, Heard("m2", "e-1", 2)), emissions=made)) == ["ahead", "lied"]


def test_not_told_and_partly_told() -> None:
    untold = leg(3, 4, 5, asked=True)
    untold.joined = {ROOM: 2.5}
    assert kinds(history(leg(1, 2, ended="cut"), untold)) == ["untold"]
    partial = leg(Heard("m3", "e-3", 3, early=True), 4, 5, asked=True, verdict=False)
    partial.joined = {ROOM: 2.5}
    assert kinds(history(leg(1, 2, ended="cut"), partial)) == ["partial"]


def test_for_somebody_else_or_for_nobody() -> None:
    made = [emission(1), emission(2, room="/board#r2")]
    assert kinds(history(leg(1, 2), emissions=made)) == ["stranger"]
    assert kinds(history(leg(1, 9), emissions=[emission(1)])) == ["stranger"]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda one: setattr(one.emissions["m1"], "fate", Fate.RAISED), "lied raised"),
        (lambda one: one.answers.update(m1=("e-2", True)), "lied"),
        (lambda one: one.answers.update(m1=(None, False)), "lied"),
        (lambda one: one.answers.update(m9=("e-9", True)), "lied"),
        (lambda one: setattr(one.emissions["m1"], "fate", Fate.VOLATILE), "lied"),
    ],
    ids=["it raised", "another place", "not kept, and it was", "never emitted", "volatile, with a place"],
)
def test_what_emit_says(change: Callable[[History], None], kind: str) -> None:
    one = history(leg(1, 2), emissions=[emission(1), emission(2)])
    one.answers = {"m1": ("e-1", True)}
    assert kinds(one) == []
    change(one)
    assert kinds(one) == kind.split()


# ── the parts ────────────────────────────────────────────────────────────────────────────────────


def test_a_connection_that_ended_before_it_was_told_belongs_to_what_was_before() -> None:
    cut_short = Leg("a-1", True, 1.0, ended="cut")
    chains = chains_of(history(leg(1, ended="cut"), cut_short, back(2), leg(asked=True, verdict=False)).clients[0])
    assert [len(chain.legs) for chain in chains] == [3, 1]
    assert [chain.stands for chain in chains] == [False, True]


def test_a_ledger_is_read_up_to_its_torn_end() -> None:
    lines = [
        json.dumps(each)
        for each in (
            ["begin", "m1", "p", ROOM, False, 1.0],
            ["begin", "m2", "p", ROOM, False, 1.1],
            ["done", "m1", 1.2, "e-1", 3, "up"],
            ["begin", "m3", "p", ROOM, True, 1.3],
            ["done", "m3", 1.4, None, 2, "up"],
            ["begin", "m4", "p", ROOM, False, 1.5],
            ["raised", "m4", 1.6, "OSError: no"],
            ["regained", 1.7],
            ["begin", "m5", "p", ROOM, False, 1.8],
            ["done", "m5", 1.9, None, 1, "away"],
        )
    ]
    emissions, regained = read_ledger("a-1", [*lines, '["done", "m2", 2.'])
    assert {each.id: (each.fate, each.place) for each in emissions} == {
        "m1": (Fate.KEPT, "e-1"),
        "m2": (Fate.UNKNOWN, None),
        "m3": (Fate.VOLATILE, None),
        "m4": (Fate.RAISED, None),
        "m5": (Fate.ALONE, None),
    }
    assert [each.number for each in emissions] == [0, 1, 2, 3, 4]
    assert [each.id for each in emissions if each.early] == ["m5"]
    assert regained == [1.7]
