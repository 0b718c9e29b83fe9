"""What the server process costs while it runs, and the page on which a run tells its numbers."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

from tests.hostile.soak.honest import Account, pause
from tests.serving import ServerProcess, fetch

Attacks = Counter[tuple[str, str]]
"""How often each attack went, by how it ended for the attacker."""
SAMPLE_SECONDS = 1.0
MEGABYTE = 1 << 20


@dataclass
class Sample:
    at: float
    """Seconds since the beginning."""
    rss: int
    private_dirty: int
    files: int


@dataclass
class Watch:
    """Samples of one process from /proc, where the system has it."""

    pid: int
    begun: float = field(default_factory=monotonic)
    samples: list[Sample] = field(default_factory=list)

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.samples.append(self.sample())
            await pause(stop, SAMPLE_SECONDS)

    def sample(self) -> Sample:
        sizes: dict[str, int] = {}
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, value, *_ = line.split()
            sizes[name] = int(value) * 1024
        files = len(os.listdir(f"/proc/{self.pid}/fd"))
        return Sample(monotonic() - self.begun, sizes["Rss:"], sizes["Private_Dirty:"], files)

    def fifths(self) -> list[Sample]:
        """The medians of five equal parts of the run: the first is the warm-up."""
        found = []
        end = self.samples[-1].at + 0.001
        for part in range(5):
            of_part = [each for each in self.samples if part <= 5 * each.at / end < part + 1]
            found.append(
                Sample(
                    of_part[-1].at,
                    int(median(sample.rss for sample in of_part)),
                    int(median(sample.private_dirty for sample in of_part)),
                    int(median(sample.files for sample in of_part)),
                )
            )
        return found

    def growth(self) -> int:
        """Bytes of private memory between the second fifth and the last."""
        fifths = self.fifths()
        return fifths[-1].private_dirty - fifths[1].private_dirty


def state_of(server: ServerProcess) -> dict[str, Any]:
    """What the application says lives in it, and how many descriptors the system says it has."""
    status, body = fetch(server.url + "/debug/state")
    assert status == 200
    found: dict[str, Any] = json.loads(body)
    found["files"] = len(os.listdir(f"/proc/{server.pid}/fd"))
    return found


@dataclass
class Result:
    """Everything that one run has to tell."""

    seconds: float
    seed: str
    account: Account
    attacks: Attacks
    watch: Watch
    start: dict[str, Any]
    end: dict[str, Any]

    def page(self) -> str:
        return "\n".join((*self._head(), *self._memory(), *self._left(), *self._attacks(), *self._refused(), ""))

    def _head(self) -> list[str]:
        account = self.account
        times = sorted(account.round_trips)
        rounds = ", ".join(f"{count} of {kind}" for kind, count in sorted(account.rounds.items()))
        return [
            "# What a soak measured",
            "",
            f"Written by the run itself (`SOAK_SECONDS={self.seconds:.0f} SOAK_SEED={self.seed}`): honest and hostile",
            "clients against one `realtime serve`, its fast wire, on a machine that does other work beside it.",
            "",
            "| Honest clients | |",
            "|---|---|",
            f"| rounds | {rounds} |",
            f"| said, and heard once and in order by every member | {account.said:,} messages, "
            f"{account.heard:,} deliveries |",
            "| lost, twice, out of order | 0 (the run ends at the first) |",
            f"| echo on one connection all the time | {len(times):,} times; median "
            f"{1000 * times[len(times) // 2]:.1f} ms, 99 of 100 under {1000 * times[len(times) * 99 // 100]:.0f} ms, "
            f"longest {1000 * times[-1]:.0f} ms |",
            "",
        ]

    def _memory(self) -> list[str]:
        rows = [
            f"| {each.at:.0f} s | {each.private_dirty / MEGABYTE:.1f} | {each.rss / MEGABYTE:.1f} | {each.files} |"
            for each in self.watch.fifths()
        ]
        return [
            "| Up to (medians of a fifth of the run) | private, MB | resident, MB | descriptors |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Growth of the private memory from the second fifth to the last: "
            f"{self.watch.growth() / MEGABYTE:+.1f} MB.",
            "",
        ]

    def _left(self) -> list[str]:
        names = ("sessions", "members", "rooms", "work", "tasks", "idle workers", "threads", "files", "objects")
        return [
            "| When everybody has gone | before | after |",
            "|---|---|---|",
            *(f"| {name} | {self.start[name]:,} | {self.end[name]:,} |" for name in names),
            "",
        ]

    def _attacks(self) -> list[str]:
        rows = []
        for name in sorted({name for name, _ in self.attacks}):
            ends = {end: count for (each, end), count in sorted(self.attacks.items()) if each == name}
            met = ", ".join(f"{end} {count}" for end, count in ends.items())
            rows.append(f"| {name} | {sum(ends.values())} | {met} |")
        total = f"| together | {self.attacks.total():,} | |"
        return ["| Attack | times | how it ended for the attacker |", "|---|---|---|", *rows, total, ""]

    def _refused(self) -> list[str]:
        counted = [
            *((f"violation {name}", count) for name, count in sorted(self.end["violations"].items())),
            *((f"drop {name}", count) for name, count in sorted(self.end["drops"].items())),
        ]
        return ["| Counted by the server | times |", "|---|---|", *(f"| {name} | {n:,.0f} |" for name, n in counted)]
