"""What the server counts, in the format that Prometheus reads."""

from collections.abc import Iterable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from app.galleries import Galleries
from app.thumbnails import Thumbnails

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds. A search takes milliseconds, a thumbnail of a large photo a second, a batch many.
_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """The counters of one server. Labels are taken from routes and indexes, never from what a client sends."""

    def __init__(self, galleries: Galleries, thumbnails: Thumbnails) -> None:
        self.registry = CollectorRegistry()
        requests = Counter("hdml_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry)
        seconds = Histogram(
            "hdml_request_seconds", "Time until an answer was sent.", ("route",), buckets=_BUCKETS, registry=self.registry
        )
        # Looking a label up takes longer than counting.
        self._counter, self._histogram = cache(requests.labels), cache(seconds.labels)
        self.under_way = Gauge("hdml_requests_under_way", "Requests that are worked on or wait.", registry=self.registry)
        self.waiting = Gauge("hdml_requests_waiting", "Those that wait for a thread.", registry=self.registry)
        ProcessCollector(registry=self.registry)
        self.registry.register(_Indexes(galleries))
        self.registry.register(_ThumbnailCache(thumbnails))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self._counter(method, route, status).inc()
        self._histogram(route).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Indexes(Collector):
    """What is open: read when it is asked for."""

    def __init__(self, galleries: Galleries) -> None:
        self._galleries = galleries

    def collect(self) -> Iterable[GaugeMetricFamily]:
        labels = ("index", "model")
        generation = GaugeMetricFamily("hdml_index_generation", "Number of the last change that is searched.", labels=labels)
        items = GaugeMetricFamily("hdml_index_items", "Photos that can be found.", labels=labels)
        for name, moment in self._galleries.moments():
            generation.add_metric((name, moment.model), moment.sequence)
            items.add_metric((name, moment.model), moment.size)
        return generation, items


class _ThumbnailCache(Collector):
    def __init__(self, thumbnails: Thumbnails) -> None:
        self._thumbnails = thumbnails

    def collect(self) -> Iterable[CounterMetricFamily]:
        asked = CounterMetricFamily("hdml_thumbnails", "Thumbnails asked for, by whether they were kept.", labels=("cache",))
        asked.add_metric(("hit",), self._thumbnails.hits)
        asked.add_metric(("miss",), self._thumbnails.misses)
        return (asked,)
