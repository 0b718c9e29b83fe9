"""Pure: no I/O, no clock, no task. What a run found, as text and as JSON."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds."""

    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Collection[float]) -> Latency | None:
        """Nearest-rank percentiles; None for nothing at all."""
        if not seconds:
            return None
        found = sorted(seconds)
        last = len(found) - 1
        p50, p99 = found[last // 2], found[min(last, int(len(found) * 0.99))]
        return cls(*(round(value * 1000, 3) for value in (p50, p99, found[last])))


@dataclass(slots=True)
class Result:
    """One scenario on one wire. ``expected`` is what the server owed us, ``counted`` what came.

    ``counted`` are deliveries (fan-out), answers (echo) or connections (connect, idle).
    """

    scenario: str
    wire: str
    clients: int
    seconds: float = 0.0
    sent: int = 0
    expected: int = 0
    counted: int = 0
    missing: int = 0
    repeated: int = 0
    lost: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    latency: Latency | None = None

    @property
    def per_second(self) -> float:
        return self.counted / self.seconds if self.seconds else 0.0

    @property
    def flawless(self) -> bool:
        """Everything came, once, and nobody was cut off or refused."""
        return not (self.missing or self.repeated or self.lost or self.refused)

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self)
        found["seconds"] = round(self.seconds, 3)
        found["per_second"] = round(self.per_second, 1)
        found["flawless"] = self.flawless
        found["latency_ms"] = found.pop("latency")
        return found

    def as_text(self) -> str:
        word = {"fan-out": "deliveries", "echo": "answers"}.get(self.scenario, "connections")
        lines = [
            f"{self.scenario} over {self.wire}: {self.clients:,} clients, {self.seconds:.1f} s",
            f"  {self.counted:,} of {self.expected:,} {word}"
            + (f" from {self.sent:,} messages" if self.scenario == "fan-out" else "")
            + f"; {self.missing:,} missing, {self.repeated:,} repeated, {self.lost:,} connections lost",
        ]
        if self.scenario != "idle":
            lines.append(f"  {self.per_second:,.0f} {word} per second")
        if self.latency:
            latency = self.latency
            lines.append(f"  latency p50 {latency.p50:.2f} ms, p99 {latency.p99:.2f} ms, max {latency.max:.2f} ms")
        for code, count in sorted(self.refused.items()):
            lines.append(f"  refused with {code}: {count:,}" + HINTS.get(code, ""))
        return "\n".join(lines)


HINTS = {"rate_limited": " (a limit of the server: lower --rate, or raise REALTIME_EVENTS_PER_SECOND there)"}
