"""Pure: no I/O, no clock, no task. What is counted, and where the numbers are kept.

The runtime adds to plain numbers here; an exporter (adapters/prometheus.py) reads them when asked.
A counter therefore costs one dictionary addition on the hot path, and a test can read it back.
Label values come only from registered names: a client must not be able to grow a table.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from copy import copy
from typing import Final

Labels = tuple[str, ...]

SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bucket bounds in seconds: a fan-out takes a fraction of a millisecond, a stuck handler seconds."""


class Tally:
    """One number of a counter, to be kept by whoever counts on a hot path: ``tally.count += 1``."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0.0


class Counter:
    """A number that only grows, one for each combination of label values."""

    kind = "counter"

    def __init__(self, name: str, help: str, labels: Labels = ()) -> None:
        self.name, self.help, self.labels = name, help, labels
        self._tallies: dict[Labels, Tally] = {} if labels else {(): Tally()}

    def bound(self, *labels: str) -> Tally:
        """The tally of these label values; the same one each time."""
        tally = self._tallies.get(labels)
        if tally is None:
            tally = self._tallies.setdefault(labels, Tally())
        return tally

    def add(self, *labels: str, amount: float = 1) -> None:
        self.bound(*labels).count += amount

    def value(self, *labels: str) -> float:
        tally = self._tallies.get(labels)
        return tally.count if tally is not None else 0

    @property
    def values(self) -> dict[Labels, float]:
        """A copy."""
        return {labels: tally.count for labels, tally in self._tallies.copy().items()}


class Gauge:
    """A number that goes both ways; or, with ``read``, one that is computed when somebody looks."""

    kind = "gauge"

    def __init__(self, name: str, help: str, labels: Labels = ()) -> None:
        self.name, self.help, self.labels = name, help, labels
        self.values: dict[Labels, float] = {} if labels else {(): 0}
        self.read: Callable[[], dict[Labels, float]] | None = None

    def add(self, *labels: str, amount: float = 1) -> None:
        self.values[labels] = self.values.get(labels, 0) + amount

    def set(self, value: float, *labels: str) -> None:
        self.values[labels] = value

    def value(self, *labels: str) -> float:
        return (self.read() if self.read else self.values).get(labels, 0)


class Series:
    """The observations of one combination of labels: ``[bucket counts…, over]`` and their sum in seconds."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds


class Histogram:
    """Observed seconds in buckets, for each combination of label values."""

    kind = "histogram"

    def __init__(self, name: str, help: str, labels: Labels = (), bounds: tuple[float, ...] = SECONDS) -> None:
        self.name, self.help, self.labels, self.bounds = name, help, labels, bounds
        self._series: dict[Labels, Series] = {}

    def bound(self, *labels: str) -> Series:
        """The series of these label values; the same one each time."""
        series = self._series.get(labels)
        if series is None:
            series = self._series.setdefault(labels, Series(self.bounds))
        return series

    def observe(self, seconds: float, *labels: str) -> None:
        self.bound(*labels).observe(seconds)

    @property
    def counts(self) -> dict[Labels, list[int]]:
        """A copy."""
        return {labels: list(series.counts) for labels, series in self._series.copy().items()}

    @property
    def sums(self) -> dict[Labels, float]:
        """A copy."""
        return {labels: series.sum for labels, series in self._series.copy().items()}


HTTP_REFUSED: Final = Counter(
    "realtime_http_refused_total",
    "HTTP requests ended below every application of this process, by reason",
    ("reason",),
)
"""An HTTP class belongs to the process: it refuses before anybody knows whose request that would have been."""


class Metrics:
    """Every number of one server. A second server in the same process has its own; ``http_refused`` is of both."""

    def __init__(self) -> None:
        self.http_refused = HTTP_REFUSED
        self.connections = Gauge("realtime_connections", "Client connections open now", ("wire",))
        self.members = Gauge("realtime_namespace_connections", "Clients connected to a namespace now", ("namespace",))
        self.connects = Counter(
            "realtime_connects_total", "Namespace connections, by outcome", ("namespace", "outcome")
        )
        self.disconnects = Counter(
            "realtime_disconnects_total", "Namespace disconnections, by reason", ("namespace", "reason")
        )
        self.handshakes_refused = Counter(
            "realtime_handshakes_refused_total", "Handshakes refused, by reason", ("reason",)
        )
        self.rooms = Gauge("realtime_rooms", "Rooms with at least one member on this instance", ("namespace",))
        self.events_in = Counter(
            "realtime_events_received_total", "Events received from clients", ("namespace", "event")
        )
        self.events_out = Counter(
            "realtime_events_sent_total", "Events handed to clients, one for each recipient", ("namespace",)
        )
        self.emissions = Counter(
            "realtime_emissions_total", "Events emitted, whatever the number of recipients", ("namespace",)
        )
        self.errors = Counter("realtime_errors_total", "Errors answered to clients, by code", ("namespace", "code"))
        self.handler_seconds = Histogram("realtime_handler_seconds", "Time in event handlers", ("namespace", "event"))
        self.fanout_seconds = Histogram(
            "realtime_fanout_seconds", "Time to hand one emission to all its local recipients", ("namespace",)
        )
        self.drops = Counter("realtime_drops_total", "Frames, events and messages dropped, by reason", ("reason",))
        self.reading_stopped = Counter(
            "realtime_reading_stopped_total", "Times that a client was read no further because its inbox was full"
        )
        self.violations = Counter(
            "realtime_protocol_violations_total", "Protocol violations by clients, by reason", ("reason",)
        )
        self.ended = Counter(
            "realtime_connections_ended_total", "Connections that the server ended, by reason", ("reason",)
        )
        self.bus_up = Gauge(
            "realtime_bus_up", "1 while the configured bus answers, 0 while it does not; absent without one"
        )
        self.bus_up.values.clear()
        self.bus_reconnects = Counter(
            "realtime_bus_reconnects_total", "Times the subscription to the bus was made anew after a break"
        )
        self.bus_messages = Counter("realtime_bus_messages_total", "Messages over the bus", ("direction",))
        self.bus_refused = Counter(
            "realtime_bus_refused_total", "Messages from the bus that were refused, by reason", ("reason",)
        )
        self._count_emissions_over_the_bus()
        self._count_the_process()
        self.away = Gauge("realtime_recovery_waiting", "Clients that are away and may come back")
        self.recoveries = Counter(
            "realtime_recoveries_total", "Clients that came back, by outcome: recovered, or why not", ("outcome",)
        )
        self.replayed = Counter("realtime_replayed_total", "Events told again to clients that came back")
        self.history_pending = Gauge("realtime_history_pending", "Stored messages not yet written to the database")

    def _count_the_process(self) -> None:
        self.loop_lag_seconds = Gauge(
            "realtime_loop_lag_seconds", "How late the event loop ran a timer, the most in the last interval"
        )
        self.descriptors_used_up = Counter(
            "realtime_descriptors_used_up_total", "Times that this process had no file descriptor left"
        )

    def _count_emissions_over_the_bus(self) -> None:
        self.bus_alone = Gauge(
            "realtime_bus_alone", "1 while this instance goes on alone because its bus does not answer"
        )
        self.emissions_alone = Counter(
            "realtime_emissions_alone_total", "Events delivered here without waiting for the bus", ("namespace",)
        )
        self.emissions_refused = Counter(
            "realtime_emissions_refused_total", "Events that the bus will never keep, by reason", ("reason",)
        )
        self.spool_messages = Gauge("realtime_spool_messages", "Events that the bus has not confirmed yet")
        self.spool_bytes = Gauge("realtime_spool_bytes", "Bytes of those, roughly")
        self.journal_lag = Gauge(
            "realtime_journal_lag_seconds", "How long the oldest event that nobody here has heard has been waiting"
        )
        self.journal_gaps = Counter(
            "realtime_journal_gaps_total", "Holes in what came in: healed from the log, or lost", ("outcome",)
        )
        self.journal_epochs = Counter(
            "realtime_journal_epochs_total",
            "Times a log turned out to be another one: lost, or gone back",
            ("namespace",),
        )

    def with_its_own_bus(self) -> Metrics:
        """The same numbers for another way to the same bus: ``bus_up`` is 1 while all that there are stand."""
        found, ways = copy(self), [self.bus_up]
        found.bus_up = Gauge(self.bus_up.name, self.bus_up.help)
        found.bus_up.values.clear()
        ways.append(found.bus_up)

        def lowest() -> dict[Labels, float]:
            known = [value for way in ways for value in way.values.values()]
            return {(): min(known)} if known else {}

        self.bus_up.read = lowest
        return found

    def all(self) -> list[Counter | Gauge | Histogram]:
        return [value for value in vars(self).values() if isinstance(value, Counter | Gauge | Histogram)]
