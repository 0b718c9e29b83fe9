"""Redis and Valkey: bus, journal, sessions and answers. A URL's scheme finds them among the entry points."""

from __future__ import annotations

from adapters.redis.address import Address
from adapters.redis.answers import RedisAnswers
from adapters.redis.bus import RedisBus, open_bus
from adapters.redis.journal import RedisJournal
from adapters.redis.scripts import LogLimits
from adapters.redis.seal import Signer
from adapters.redis.sessions import RedisSessions
from adapters.redis.signed_bus import SignedBus
from realtime.errors import UsageError
from realtime.metrics import Metrics
from realtime.ports import Answers, Bus, Journal, Sessions
from realtime.settings import Settings

__all__ = ["open_answers", "open_bus", "open_journal", "open_sessions", "open_signed_bus"]


def open_journal(url: str, node: str, settings: Settings, metrics: Metrics) -> Journal:
    """Connects to nothing yet. ``node`` is another one at each start. Raises UsageError for a URL that cannot be read
    (it is never repeated), and in production for a key that is no secret."""
    limits = LogLimits(settings.log_limit_entries, settings.log_limit_seconds, settings.log_limit_bytes)
    signing = signing_keys(settings)
    return RedisJournal(
        Address.parse(url), node, metrics, prefix=settings.redis_channel, signing=signing, limits=limits
    )


def open_sessions(url: str, node: str, settings: Settings, metrics: Metrics) -> Sessions:
    """As ``open_journal``."""
    return RedisSessions(
        Address.parse(url), node, metrics, prefix=settings.redis_channel, signing=signing_keys(settings)
    )


def open_answers(url: str, node: str, settings: Settings, metrics: Metrics) -> Answers:
    """As ``open_journal``."""
    return RedisAnswers(Address.parse(url), metrics, prefix=settings.redis_channel, signing=signing_keys(settings))


def open_signed_bus(url: str, channel: str, settings: Settings, metrics: Metrics) -> Bus:
    """As ``open_journal``, for what instances say to one another outside the journal."""
    return SignedBus(RedisBus(Address.parse(url), channel, metrics), Signer(signing_keys(settings)), metrics, channel)


def signing_keys(settings: Settings) -> list[str]:
    """Raises UsageError in production when there is none, one is known to everybody, or one is too short."""
    problems = settings.problems_with_bus_keys()
    if problems:
        raise UsageError("; ".join(problems))
    return settings.signing_keys
