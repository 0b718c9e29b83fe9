from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from realtime.metrics import SECONDS, Counter, Gauge, Histogram, Metrics

label_values = st.sampled_from(["a", "b", "c"])


def test_a_counter_without_labels_is_there_from_the_start() -> None:
    counter = Counter("c_total", "help")
    assert counter.values == {(): 0}
    counter.add()
    counter.add(amount=2)
    assert counter.value() == 3


def test_a_counter_with_labels_has_only_what_was_counted() -> None:
    counter = Counter("c_total", "help", ("reason",))
    assert counter.values == {}
    assert counter.value("never") == 0
    assert counter.values == {}  # looking does not count
    counter.add("slow")
    assert counter.values == {("slow",): 1}


def test_what_is_bound_once_is_the_number_itself() -> None:
    counter = Counter("c_total", "help", ("reason",))
    tally = counter.bound("slow")
    assert counter.bound("slow") is tally
    tally.count += 2
    counter.add("slow")
    assert counter.value("slow") == 3


def test_what_is_read_is_a_copy() -> None:
    counter = Counter("c_total", "help", ("reason",))
    counter.values[("mine",)] = 1
    assert counter.values == {}
    histogram = Histogram("h", "help")
    histogram.observe(1)
    histogram.counts[()][0] = 99
    histogram.sums[()] = 99
    assert histogram.counts[()][0] == 0
    assert histogram.sums == {(): 1}


@given(st.lists(st.tuples(label_values, st.integers(0, 100))))
def test_a_counter_adds_up_for_each_label(additions: list[tuple[str, int]]) -> None:
    counter = Counter("c_total", "help", ("x",))
    for label, amount in additions:
        counter.add(label, amount=amount)
    assert sum(counter.values.values()) == sum(amount for _, amount in additions)
    for label in "abc":
        assert counter.value(label) == sum(amount for name, amount in additions if name == label)


def test_a_gauge_goes_both_ways() -> None:
    gauge = Gauge("g", "help", ("wire",))
    assert gauge.values == {}
    gauge.add("websocket")
    gauge.add("websocket")
    gauge.add("websocket", amount=-1)
    gauge.set(7, "polling")
    assert (gauge.value("websocket"), gauge.value("polling"), gauge.value("sse")) == (1, 7, 0)


def test_a_gauge_without_labels_begins_at_zero() -> None:
    gauge = Gauge("g", "help")
    assert gauge.values == {(): 0}
    gauge.set(0.5)
    assert gauge.value() == 0.5


def test_a_gauge_may_be_computed_when_somebody_looks() -> None:
    gauge, rooms = Gauge("g", "help", ("namespace",)), ["lobby"]
    gauge.read = lambda: {("/chat",): len(rooms)}
    assert gauge.value("/chat") == 1
    rooms.append("den")
    assert gauge.value("/chat") == 2
    assert gauge.value("/other") == 0


def test_an_observation_on_a_bound_belongs_below_it() -> None:
    """As Prometheus has it: a bucket counts what is less than or equal to its bound."""
    histogram = Histogram("h", "help", bounds=(1.0, 2.0))
    for seconds in (0, 1.0, 1.5, 2.0, 2.1):
        histogram.observe(seconds)
    assert histogram.counts == {(): [2, 2, 1]}
    assert histogram.sums == {(): 6.6}


@given(st.lists(st.tuples(label_values, st.floats(0, 100))))
def test_every_observation_is_in_one_bucket(observations: list[tuple[str, float]]) -> None:
    histogram = Histogram("h", "help", ("x",))
    for label, seconds in observations:
        histogram.observe(seconds, label)
    assert set(histogram.counts) == set(histogram.sums) == {(label,) for label, _ in observations}
    for (label,), counts in histogram.counts.items():
        mine = [seconds for name, seconds in observations if name == label]
        assert counts == [sum(bisect_left(SECONDS, one) == place for one in mine) for place in range(len(SECONDS) + 1)]


def test_what_is_bound_once_is_the_series_itself() -> None:
    histogram = Histogram("h", "help", ("event",))
    series = histogram.bound("message")
    assert histogram.bound("message") is series
    series.observe(0.3)
    assert sum(histogram.counts[("message",)]) == 1


def test_bounds_grow() -> None:
    assert all(low < high for low, high in pairwise(SECONDS))


def test_every_number_of_a_server_is_exported_once_under_a_good_name() -> None:
    found = Metrics().all()
    names = [one.name for one in found]
    assert len(set(names)) == len(names) == len(vars(Metrics()))
    for one in found:
        assert one.name.startswith("realtime_")
        assert one.help
        assert one.name.endswith("_total") == (one.kind == "counter")
    assert {one.kind for one in found} == {"counter", "gauge", "histogram"}


def test_two_servers_share_no_number() -> None:
    one, other = Metrics(), Metrics()
    one.drops.add("slow")
    assert other.drops.value("slow") == 0


def test_what_is_refused_below_every_server_is_one_number_of_the_process() -> None:
    assert Metrics().http_refused is Metrics().http_refused


def test_without_a_bus_nothing_is_said_about_it() -> None:
    assert Metrics().bus_up.values == {}


def test_a_bus_with_two_ways_is_up_while_both_stand() -> None:
    metrics = Metrics()
    other = metrics.with_its_own_bus()
    assert metrics.bus_up.read is not None
    assert metrics.bus_up.read() == {}, "nothing has said anything yet"
    metrics.bus_up.set(1)
    assert metrics.bus_up.value() == 1
    other.bus_up.set(0)
    assert metrics.bus_up.value() == 0
    other.bus_up.set(1)
    assert metrics.bus_up.value() == 1
    other.drops.add("bus")
    assert metrics.drops.value("bus") == 1
    assert other.bus_up not in metrics.all()
