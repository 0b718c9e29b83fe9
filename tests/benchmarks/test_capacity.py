from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.capacity import CONSTANTS, PAGE, from_results, written
from benchmarks.capacity_measured import measure
from benchmarks.capacity_model import (
    CONNECTIONS,
    PROFILES,
    UNITS,
    House,
    Profile,
    as_markdown,
    first_to_break,
    need,
    return_seconds,
    spread,
)
from benchmarks.contestants import Missing

ROUND = {
    "delivery_us": 10.0,
    "say_us": 100.0,
    "hear_us": 50.0,
    "connect_us": 500.0,
    "ping_us": 20.0,
    "connection_kb": 6.0,
    "kernel_kb": 4.0,
    "redis_emission_us": 20.0,
    "redis_subscriber_us": 2.0,
    "redis_session_us": 10.0,
    "redis_session_kb": 1.0,
    "redis_entry_kb": 0.5,
}
HOUSE = House(churn_per_hour=0, ping_seconds=1e9)


def test_the_page_says_what_the_constants_say() -> None:
    assert PAGE.read_text() == written(PAGE.read_text(), json.loads(CONSTANTS.read_text()))


def test_every_constant_has_a_value_and_says_where_it_comes_from() -> None:
    constants = json.loads(CONSTANTS.read_text())["constants"]
    assert constants.keys() == UNITS.keys()
    for name, each in constants.items():
        assert each["value"] >= 0, name
        assert each["from"], name


def test_members_of_a_room_are_anywhere() -> None:
    assert spread(1, 20) == 1
    assert spread(2, 1) == pytest.approx(1)
    assert spread(2, 2) == pytest.approx(1.5)
    assert spread(10_000, 20) == pytest.approx(20, rel=0.01)
    assert spread(3, 5_000) == pytest.approx(3)


def test_one_node_is_enough_for_few() -> None:
    one = need(1_000, Profile("few", "", 0.1, 100), HOUSE, ROUND)
    assert (one.nodes, one.because, one.heard_by) == (1, "one is enough", 1)
    assert one.deliveries == pytest.approx(100)
    assert one.emissions == pytest.approx(1)
    assert one.node_core == pytest.approx((100 * 10 + 1 * 100) / 1e6), "nobody else hears it"
    assert one.redis_log_core == pytest.approx(20 / 1e6)
    assert one.node_memory_gb == pytest.approx(0.09 + 1_000 * 10 / 1e6)
    assert one.bandwidth_mbit == pytest.approx(100 * 420 * 8 / 1e6)


def test_memory_decides_where_nobody_says_anything() -> None:
    silent = Profile("silent", "", 0.0, 10)
    one = need(1_000_000, silent, replace(HOUSE, node_memory_gb=1.09), ROUND)
    assert (one.nodes, one.because) == (10, "memory")
    assert one.node_memory_gb == pytest.approx(1.09)


def test_cpu_decides_where_much_is_said_and_what_others_hear_is_counted() -> None:
    busy = Profile("busy", "", 1.0, 20)
    one = need(100_000, busy, HOUSE, ROUND)
    assert one.because == "CPU"
    hearing = one.emissions * (spread(one.nodes, 20) - 1) * 50
    assert one.node_core * one.nodes == pytest.approx((100_000 * 10 + 5_000 * 100 + hearing) / 1e6)
    assert one.node_core <= 0.5 < one.node_core * one.nodes / (one.nodes - 1)


def test_the_others_can_carry_what_one_did() -> None:
    crowd = Profile("crowd", "", 1.0, 5_000)
    one = need(95_000, crowd, HOUSE, ROUND | {"hear_us": 0.0, "say_us": 0.0})
    assert (one.nodes, one.because) == (3, "CPU"), "two would have half a core to do, and one of them all of it"
    assert need(75_000, crowd, HOUSE, ROUND | {"hear_us": 0.0, "say_us": 0.0}).nodes == 2


def test_pings_and_those_who_come_anew_take_their_part() -> None:
    silent = Profile("silent", "", 0.0, 10)
    one = need(1_000, silent, House(ping_seconds=10, churn_per_hour=36), ROUND)
    assert one.node_core == pytest.approx((100 * 20 + 10 * 500) / 1e6)


def test_what_fits_no_number_of_nodes_is_said() -> None:
    with pytest.raises(ValueError, match="fit no number of nodes"):
        need(10**12, PROFILES[2], HOUSE, ROUND)


def test_the_clients_of_a_dead_node_are_taken_over_with_what_is_free() -> None:
    one = need(100_000, Profile("busy", "", 1.0, 20), HOUSE, ROUND)
    free = one.nodes - 1 - one.node_core * one.nodes
    assert return_seconds(one, HOUSE, ROUND) == pytest.approx(100_000 / one.nodes * 500 / 1e6 / free)
    assert return_seconds(replace(one, node_core=1.0), HOUSE, ROUND) == math.inf
    alone = need(1_000, Profile("few", "", 0.1, 100), HOUSE, ROUND)
    assert return_seconds(alone, HOUSE, ROUND) == pytest.approx(0.5)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_what_breaks_first_is_just_full_there(profile: Profile) -> None:
    at, what = first_to_break(profile, House(), ROUND)
    assert "log" in what
    assert need(at, profile, House(), ROUND).redis_log_core <= 0.5
    if at < 10**8:
        assert need(int(at * 1.2), profile, House(), ROUND).redis_log_core > 0.5


def test_the_page_marks_what_is_too_much() -> None:
    page = as_markdown(ROUND, dict.fromkeys(UNITS, "here"))
    for connections in CONNECTIONS:
        assert f"### {connections:,} connections" in page
    assert "too much**" in page
    assert "| here |" in page
    for profile in PROFILES:
        assert profile.words in page


def measured(**figures: float) -> dict[str, Any]:
    return {figure: {"fast": value, "durable": value} for figure, value in figures.items()}


def test_constants_come_from_the_results(tmp_path: Any) -> None:
    results = {
        "results": {
            "connect and join, 10,000 clients": measured(cpu_us=343.0),
            "idle, 10,000 connections": measured(kb=6.5),
        },
        "fan-out-and-echo": {"fan-out, 100 B to 500": measured(cpu_us=7.0)},
        "cluster": {
            "– saying, 1,000 emissions/s": measured(cpu_us=100.0),
            "– hearing, 1,000 emissions/s for one member": measured(cpu_us=57.0),
            "– Redis, 1,000 emissions/s": measured(cpu_us=20.0),
        },
    }
    for name, medians in results.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"medians": medians}))
    found = {name: each["value"] for name, each in from_results(tmp_path).items()}
    assert found == {
        "delivery_us": 7.0,
        "say_us": 100.0,
        "hear_us": 50.0,
        "connect_us": 343.0,
        "connection_kb": 6.5,
        "redis_emission_us": 20.0,
    }


@pytest.mark.process
def test_the_small_ones_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"CLIENTS": 50, "SECONDS": 1.0, "MESSAGES": 100, "RECORDS": 100, "ENTRIES": 100}
    for name, size in sizes.items():
        monkeypatch.setattr(f"benchmarks.capacity_measured.{name}", size)
    try:
        found = measure()
    except Missing as reason:
        pytest.skip(str(reason))
    assert found.keys() == UNITS.keys() - {"delivery_us", "say_us", "hear_us", "connect_us", "connection_kb"} - {
        "redis_emission_us"
    }
    assert all(each["from"] for each in found.values())
    assert found["ping_us"]["value"] > 0
    assert found["redis_session_kb"]["value"] > 0
