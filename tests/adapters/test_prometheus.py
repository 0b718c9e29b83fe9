from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterable

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from adapters.prometheus import OPENMETRICS, TEXT, Exporter
from realtime.metrics import Histogram, Labels, Metrics

AS_PROMETHEUS_ASKS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)

parse_openmetrics: Callable[[str], Iterable[Metric]] = openmetrics.text_string_to_metric_families

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def families(metrics: Metrics) -> dict[str, Metric]:
    body, _ = Exporter(metrics).render()
    return {family.name: family for family in parse_text(body.decode())}


def samples(metrics: Metrics) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(metrics).values()
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def touched() -> Metrics:
    """Metrics in which everything has at least one value."""
    metrics = Metrics()
    for metric in metrics.all():
        labels = tuple(f"{label} of {metric.name}" for label in metric.labels)
        if isinstance(metric, Histogram):
            metric.observe(0.003, *labels)
        else:
            metric.add(*labels, amount=2)
    return metrics


def test_counters_and_gauges_keep_name_labels_and_value() -> None:
    metrics = Metrics()
    metrics.events_in.add("/chat", "message", amount=3)
    metrics.events_in.add("/chat", "join")
    metrics.connections.add("websocket", amount=5)
    metrics.connections.add("websocket", amount=-1)
    found = samples(metrics)
    assert found[key("realtime_events_received_total", namespace="/chat", event="message")] == 3
    assert found[key("realtime_events_received_total", namespace="/chat", event="join")] == 1
    assert found[key("realtime_connections", wire="websocket")] == 4


def test_types_and_help_arrive() -> None:
    found = families(touched())
    assert found["realtime_connects"].type == "counter"
    assert found["realtime_rooms"].type == "gauge"
    assert found["realtime_handler_seconds"].type == "histogram"
    assert found["realtime_rooms"].documentation == "Rooms with at least one member on this instance"


def test_buckets_are_cumulative_and_end_with_the_count() -> None:
    metrics = Metrics()
    for seconds in (0.0001, 0.0002, 0.3, 99.0):  # the first is on a bound: it belongs to that bucket
        metrics.fanout_seconds.observe(seconds, "/chat")
    found = samples(metrics)

    def bucket(bound: str) -> float:
        return found[key("realtime_fanout_seconds_bucket", namespace="/chat", le=bound)]

    assert [bucket(bound) for bound in ("0.0001", "0.00025", "0.25", "0.5", "10.0", "+Inf")] == [1, 2, 2, 3, 3, 4]
    assert found[key("realtime_fanout_seconds_count", namespace="/chat")] == 4
    assert math.isclose(found[key("realtime_fanout_seconds_sum", namespace="/chat")], 99.3003)


def test_a_gauge_that_is_read_is_read_at_each_scrape() -> None:
    metrics = Metrics()
    rooms: dict[Labels, float] = {("/chat",): 1}
    metrics.rooms.read = lambda: rooms
    exporter = Exporter(metrics)
    assert b'realtime_rooms{namespace="/chat"} 1.0' in exporter.render()[0]
    rooms["/chat",] = 7
    assert b'realtime_rooms{namespace="/chat"} 7.0' in exporter.render()[0]


def test_a_gauge_that_cannot_be_read_fails_the_scrape() -> None:
    metrics = Metrics()

    def broken() -> dict[Labels, float]:
        raise LookupError("no rooms")

    metrics.rooms.read = broken
    with pytest.raises(LookupError, match="no rooms"):
        Exporter(metrics).render()


def test_what_has_no_value_is_left_out() -> None:
    metrics = Metrics()
    metrics.bus_up.read = dict
    found = families(metrics)
    assert "realtime_bus_up" not in found
    assert "realtime_events_sent" not in found, "labels, and none of their values seen yet"
    assert found["realtime_bus_reconnects"].samples[0].value == 0, "no labels: there from the start"


def test_label_values_are_escaped() -> None:
    metrics = Metrics()
    nasty = 'a"b\\c\nrealtime_faked_total 1'
    metrics.drops.add(nasty)
    body, _ = Exporter(metrics).render()
    assert b"\nrealtime_faked_total" not in body
    assert samples(metrics)[key("realtime_drops_total", reason=nasty)] == 1


def test_the_process_is_described_too() -> None:
    found = {name for name, _ in samples(Metrics())}
    assert {"python_info", "python_gc_collections_total"} <= found
    if sys.platform == "linux":
        assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= found


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, TEXT),
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html, text/plain;version=0.0.4", TEXT),
        ("application/openmetrics-text-of-my-own", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("Application/OpenMetrics-Text ; version=0.0.1", OPENMETRICS),
        (AS_PROMETHEUS_ASKS, OPENMETRICS),
        ("application/openmetrics-text; version=nonsense; escaping=\x00", OPENMETRICS),
        (";;,,=;" * 1_000, TEXT),
    ],
)
def test_the_accept_header_chooses_the_format(accept: str | None, content_type: str) -> None:
    body, chosen = Exporter(Metrics()).render(accept)
    assert chosen == content_type
    assert body.endswith(b"# EOF\n") is (content_type == OPENMETRICS)


def test_both_formats_carry_the_same_numbers() -> None:
    exporter = Exporter(touched())

    def numbers(found: list[Metric]) -> Samples:
        ours = (sample for family in found if family.name.startswith("realtime_") for sample in family.samples)
        return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in ours}

    text = numbers(list(parse_text(exporter.render()[0].decode())))
    open_metrics = numbers(list(parse_openmetrics(exporter.render(AS_PROMETHEUS_ASKS)[0].decode())))
    assert text == open_metrics
    assert len(text) > len(Metrics().all())


def test_every_metric_is_exported_under_its_own_name() -> None:
    names = {name for name, _ in samples(touched())}
    for metric in Metrics().all():
        expected = f"{metric.name}_bucket" if isinstance(metric, Histogram) else metric.name
        assert expected in names


def test_two_servers_in_a_process_do_not_clash() -> None:
    one, other = Metrics(), Metrics()
    one.drops.add("backlog")
    first, second = Exporter(one), Exporter(other)
    assert b"realtime_drops_total{" in first.render()[0]
    assert b"realtime_drops_total{" not in second.render()[0]
    assert not [family for family in REGISTRY.collect() if family.name.startswith("realtime_")]


def test_numbers_may_grow_while_they_are_rendered() -> None:
    metrics = Metrics()
    exporter = Exporter(metrics)
    started, enough = threading.Event(), threading.Event()
    added = 0

    def grow() -> None:
        nonlocal added
        while not enough.is_set() and added < 20_000:
            metrics.drops.add(f"reason {added}")
            metrics.handler_seconds.observe(0.01, "/chat", f"event {added % 500}")
            added += 1
            started.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # seconds; at the default of 5 ms the two sides would hardly meet
    grower = threading.Thread(target=grow)
    try:
        grower.start()
        assert started.wait(timeout=10)
        for _ in range(10):
            exporter.render()
    finally:
        enough.set()
        grower.join(timeout=10)
        sys.setswitchinterval(interval)
    found = samples(metrics)
    assert sum(value for (name, _), value in found.items() if name == "realtime_drops_total") == added
    assert sum(value for (name, _), value in found.items() if name == "realtime_handler_seconds_count") == added
