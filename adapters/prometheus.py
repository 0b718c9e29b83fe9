"""Shows the numbers of `realtime.metrics` to Prometheus, as text.

The runtime only ever adds to plain numbers; everything that Prometheus wants to know about them (types,
cumulative buckets, escaping) happens here, once for each scrape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from realtime.metrics import Counter, Gauge, Histogram, Metrics

_Encoder = Callable[[CollectorRegistry], bytes]

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = openmetrics.CONTENT_TYPE_LATEST
_encode_openmetrics: Final[_Encoder] = openmetrics.generate_latest


class Exporter:
    """The `/metrics` page of one server.

    The registry is the exporter's own: two servers in a process do not clash, and nothing that some other
    library put into prometheus_client's global registry is shown. CPU, memory and file descriptors are those of
    the whole process, shown by each exporter.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Translation(metrics))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self, accept: str | None = None) -> tuple[bytes, str]:
        """The body and its content type: OpenMetrics where the Accept header names it, the plain text format otherwise.

        Counters may grow meanwhile, on any thread. A gauge with ``read`` is read on the calling thread, and what it
        raises is raised here: then the scrape fails, and Prometheus sets ``up`` to 0.
        """
        if _wants_openmetrics(accept or ""):
            return _encode_openmetrics(self._registry), OPENMETRICS
        return generate_latest(self._registry), TEXT


def _wants_openmetrics(accept: str) -> bool:
    """Whether the Accept header names OpenMetrics at all.

    The library's own choice repeats the version that the header asks for; here it is always 1.0, which
    every scraper that knows OpenMetrics reads, and nothing of the request gets into the answer.
    """
    return any(part.split(";")[0].strip().lower() == "application/openmetrics-text" for part in accept.split(","))


class _Translation(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Families without a value are left out: `realtime_bus_up` is absent, not 0, where no bus is configured."""
        for metric in self._metrics.all():
            family = _family(metric)
            if family.samples:
                yield family


def _family(metric: Counter | Gauge | Histogram) -> Metric:
    # dict.copy() runs no Python code on its way, so no other thread can add a key in the middle of it;
    # a loop over the dictionary itself would raise as soon as one did.
    if isinstance(metric, Histogram):
        return _histogram(metric)
    if isinstance(metric, Counter):
        counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in metric.values.copy().items():
            counter.add_metric(labels, value)
        return counter
    gauge = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in (metric.read() if metric.read else metric.values).copy().items():
        gauge.add_metric(labels, value)
    return gauge


def _histogram(metric: Histogram) -> Metric:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    bounds = [*(str(float(bound)) for bound in metric.bounds), "+Inf"]
    for labels, counts in metric.counts.copy().items():
        # A bucket of Prometheus counts everything up to its bound; ours count what fell between two bounds.
        buckets = list(zip(bounds, accumulate(counts.copy()), strict=True))
        family.add_metric(labels, buckets, sum_value=metric.sums.get(labels, 0.0))
    return family
