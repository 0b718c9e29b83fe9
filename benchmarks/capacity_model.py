"""Pure: no I/O, no clock, no task. From what one thing costs to what a hundred thousand connections need."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

UNITS: Final = {
    "delivery_us": "CPU of a node for handing one message to one client",
    "say_us": "CPU of a node for one emission: the event of the client who says it, the journal, its own hearing of it",
    "hear_us": "CPU of a node for one emission that another node said, without the deliveries",
    "connect_us": "CPU of a node for one client that connects and joins",
    "ping_us": "CPU of a node for one ping and its pong",
    "connection_kb": "memory of a node's process for one idle connection, kB",
    "kernel_kb": "memory of its kernel for the same, kB",
    "redis_emission_us": "CPU of Redis for one emission, one node hearing it",
    "redis_subscriber_us": "CPU of Redis for each further node that hears it",
    "redis_session_us": "CPU of Redis for keeping the record of one client once",
    "redis_session_kb": "memory of Redis for the record of one client, kB",
    "redis_entry_kb": "memory of Redis for one entry of the log, kB",
}
"""Constants that are measured; ``results/constants.json`` has each with its value and where it comes from."""
CONNECTIONS: Final = (100_000, 1_000_000)
PORTS: Final = 28_232
"""What Linux has for connections from one address to one other by itself (``ip_local_port_range``)."""
NODES_LIMIT: Final = 100_000
"""Where the search for a number of nodes ends."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What the people of an application do. ``heard`` are messages that one client is told in a second, ``room`` is
    how many are in one, ``size`` the bytes of a message as it is said."""

    name: str
    words: str
    heard: float
    room: float
    size: int = 300


@dataclass(frozen=True, slots=True)
class House:
    """How an operator runs it. A part of a core is what a process is loaded with on purpose, for there are peaks."""

    part_of_core: float = 0.5
    part_with_one_less: float = 0.8
    """What the others may be loaded with when a node has died."""
    node_memory_gb: float = 4.0
    node_process_mb: float = 90.0
    """A process without clients."""
    ping_seconds: float = 25.0
    churn_per_hour: float = 1.0
    """How often one client connects anew."""
    return_seconds: float = 60.0
    """In which those of a node that died are in again at the others."""
    session_seconds: float = 20.0
    """How often a record is refreshed."""
    log_entries: int = 10_000
    frame_bytes: int = 120
    """Around a message: names of event and room, frame, TCP and IP."""


@dataclass(frozen=True, slots=True)
class Need:
    """For one application in one namespace with these connections."""

    connections: int
    deliveries: float
    emissions: float
    """Both in a second."""
    nodes: int
    because: str
    """What decided on the number of nodes."""
    heard_by: float
    """Nodes that hear one emission."""
    node_core: float
    node_memory_gb: float
    """Of each, at work."""
    redis_log_core: float
    """Of the one server on which the namespace's log lies."""
    redis_session_core: float
    session_shards: int
    redis_memory_gb: float
    bandwidth_mbit: float
    """To clients, of all nodes together."""
    redis_bandwidth_mbit: float
    proxies: int
    """Addresses that a proxy needs, one for so many ports to one node."""


PROFILES: Final = (
    Profile("quiet", "notifications: a message a minute for each client, topics of 1,000", 1 / 60, 1_000),
    Profile("chat", "a message every five seconds for each client, rooms of 20", 1 / 5, 20),
    Profile("busy", "a message a second for each client, rooms of 20", 1.0, 20),
    Profile("crowd", "a message a second for each client, rooms of 5,000", 1.0, 5_000),
)

Constants = Mapping[str, float]


def spread(nodes: int, room: float) -> float:
    """How many nodes have a member of a room, its members being anywhere."""
    return float(nodes * (1 - (1 - 1 / nodes) ** room))


def need(connections: int, profile: Profile, house: House, given: Constants) -> Need:
    """The smallest number of nodes on which everything fits. Raises ValueError where none does."""
    deliveries = connections * profile.heard
    emissions = deliveries / profile.room
    each_kb = given["connection_kb"] + given["kernel_kb"]
    by_memory = math.ceil(connections * each_kb / 1e6 / (house.node_memory_gb - house.node_process_mb / 1e3))
    nodes, because = max(1, by_memory), "memory"
    while _cores(nodes, connections, deliveries, emissions, profile, house, given) > _may_take(nodes, house):
        nodes, because = max(nodes + 1, math.ceil(nodes * 1.001)), "CPU"
        if nodes > NODES_LIMIT:
            raise ValueError(f"{profile.name}: {connections:,} connections fit no number of nodes")
    if nodes == 1 and because == "memory":
        because = "one is enough"
    heard_by = spread(nodes, profile.room)
    log_core = emissions * (given["redis_emission_us"] + (heard_by - 1) * given["redis_subscriber_us"]) / 1e6
    session_core = connections / house.session_seconds * given["redis_session_us"] / 1e6
    message = (profile.size + house.frame_bytes) * 8 / 1e6
    return Need(
        connections,
        deliveries,
        emissions,
        nodes,
        because,
        heard_by,
        _cores(nodes, connections, deliveries, emissions, profile, house, given) / nodes,
        connections / nodes * each_kb / 1e6 + house.node_process_mb / 1e3,
        log_core,
        session_core,
        max(1, math.ceil(session_core / house.part_of_core)),
        (connections * given["redis_session_kb"] + house.log_entries * given["redis_entry_kb"]) / 1e6,
        deliveries * message,
        emissions * (1 + heard_by) * message,
        math.ceil(connections / nodes / PORTS),
    )


def _may_take(nodes: int, house: House) -> float:
    """Of their cores together. One node alone has nobody to take its clients over."""
    if nodes == 1:
        return house.part_of_core
    return min(nodes * house.part_of_core, (nodes - 1) * house.part_with_one_less)


def _cores(
    nodes: int,
    connections: int,
    deliveries: float,
    emissions: float,
    profile: Profile,
    house: House,
    given: Constants,
) -> float:
    """Of all nodes together. Own hearing is part of saying, so one of those that hear is not counted again."""
    heard = emissions * max(0.0, spread(nodes, profile.room) - 1)
    return (
        deliveries * given["delivery_us"]
        + emissions * given["say_us"]
        + heard * given["hear_us"]
        + connections / house.ping_seconds * given["ping_us"]
        + connections * house.churn_per_hour / 3600 * given["connect_us"]
    ) / 1e6


def return_seconds(one: Need, house: House, given: Constants) -> float:
    """How long the others take over the clients of a node that died, with the part of their cores that is free."""
    if one.nodes == 1:
        return one.connections * given["connect_us"] / 1e6
    free = (one.nodes - 1) * (1 - one.node_core * one.nodes / (one.nodes - 1))
    return one.connections / one.nodes * given["connect_us"] / 1e6 / free if free > 0 else math.inf


def first_to_break(profile: Profile, house: House, given: Constants) -> tuple[int, str]:
    """At how many connections something is full that no further node helps, and what: the log of one namespace lies
    on one server, which is loaded up to the part of a core that the house allows."""
    low, high = 1_000, 1_000
    while _log_fits(high, profile, house, given) and high < 10**9:
        low, high = high, high * 2
    while high - low > max(1, low // 1_000):
        middle = (low + high) // 2
        low, high = (middle, high) if _log_fits(middle, profile, house, given) else (low, middle)
    digits = 10 ** max(0, len(str(low)) - 2)
    return low // digits * digits, "the log of one namespace, on one Redis"


def _log_fits(connections: int, profile: Profile, house: House, given: Constants) -> bool:
    try:
        return need(connections, profile, house, given).redis_log_core <= house.part_of_core
    except ValueError:
        return False


# ── the page ─────────────────────────────────────────────────────────────────────────────────────


def as_markdown(given: Constants, origins: Mapping[str, str], house: House = House()) -> str:
    """Everything on the page that is calculated."""
    lines = ["| Constant | Measured | Of |", "| --- | --: | --- |"]
    for name, words in UNITS.items():
        unit = " µs" if name.endswith("_us") else ""
        lines.append(f"| {words} | {_figure(given[name])}{unit} | {origins[name]} |")
    for connections in CONNECTIONS:
        lines += ["", f"### {connections:,} connections", ""]
        lines += _table([need(connections, profile, house, given) for profile in PROFILES], house, given)
    lines += ["", "### What breaks first", ""]
    lines += ["| Profile | At about | |", "| --- | --: | --- |"]
    for profile in PROFILES:
        at, what = first_to_break(profile, house, given)
        lines.append(f"| {profile.name}: {profile.words} | {at:,} connections | {what} |")
    return "\n".join(lines) + "\n"


def _table(needs: Sequence[Need], house: House, given: Constants) -> list[str]:
    rows: list[tuple[str, list[str]]] = [
        ("deliveries a second", [f"{one.deliveries:,.0f}" for one in needs]),
        ("emissions a second", [f"{one.emissions:,.0f}" for one in needs]),
        ("**nodes** (a process and a core each)", [f"**{one.nodes:,}**" for one in needs]),
        ("decided by", [one.because for one in needs]),
        ("of a node's core", [f"{one.node_core:.0%}" for one in needs]),
        ("memory of a node, GB, kernel included", [_figure(one.node_memory_gb) for one in needs]),
        ("nodes that hear one emission", [_figure(one.heard_by) for one in needs]),
        ("of the core of the Redis with the log", [_share(one.redis_log_core, house) for one in needs]),
        ("Redis servers for who may come back", [f"{one.session_shards:,}" for one in needs]),
        ("memory in Redis, GB", [_figure(one.redis_memory_gb) for one in needs]),
        ("to clients, Mbit/s", [_figure(one.bandwidth_mbit) for one in needs]),
        ("through Redis, Mbit/s", [_figure(one.redis_bandwidth_mbit) for one in needs]),
        ("addresses a proxy needs towards one node", [f"{one.proxies}" for one in needs]),
        ("a node dies: back in after, s", [_figure(return_seconds(one, house, given)) for one in needs]),
    ]  # fmt: skip
    head = ["", *(profile.name for profile in PROFILES)]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " --: |" * len(needs)]
    return [*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows)]


def _share(core: float, house: House) -> str:
    return f"{core:.0%}" if core <= house.part_of_core else f"**{core:.0%}, too much**"


def _figure(value: float) -> str:
    """Two digits that count, and no unit."""
    if value == math.inf:
        return "never"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"
