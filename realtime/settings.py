"""Every setting, from environment variables with the prefix ``REALTIME_``; the unit is in the name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

BUILT_IN_SECRET = "development-secret-that-production-refuses"  # 42 bytes, known to everybody
SHORTEST_HMAC_KEY = 32
"""Bytes. RFC 7518 section 3.2: an HS256 key is at least as long as the hash."""

Policy = Literal["disconnect", "drop_newest", "drop_oldest", "latest_per_key"]
"""What happens with what a client is too slow to read."""
Strings = Annotated[list[str], NoDecode]


class Settings(BaseSettings):
    """What the environment says, read once and never changed; ``realtime check`` prints it.

    Raises pydantic's ValidationError for a value that cannot be read.
    """

    model_config = SettingsConfigDict(env_prefix="REALTIME_", extra="ignore", frozen=True)

    environment: Literal["development", "production"] = "development"
    node: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,32}$")
    redis_url: str | None = None
    redis_channel: str = "socketio"
    bus_keys: SecretStr | None = None
    writers_channel: str | None = Field(None, min_length=1)
    database_url: str = "sqlite+aiosqlite:///realtime.db"

    allowed_origins: Strings = Field(default_factory=list)
    trusted_proxies: Strings = Field(default_factory=list)

    jwt_secret: SecretStr = SecretStr(BUILT_IN_SECRET)
    jwt_public_key: str | None = None
    jwt_algorithm: Literal["HS256", "RS256", "ES256"] = "HS256"
    jwt_private_key: SecretStr | None = None
    jwt_audience: str | None = None
    jwt_issuer: str | None = None
    jwt_leeway_seconds: float = Field(5, ge=0, le=300)

    message_limit_bytes: int = Field(1_000_000, ge=1_000)
    attachment_limit: int = Field(10, ge=0)
    json_depth_limit: int = Field(64, ge=1)
    json_element_limit: int = Field(50_000, ge=100)
    event_name_limit_characters: int = Field(128, ge=1)
    room_name_limit_characters: int = Field(128, ge=1)
    rooms_per_connection: int = Field(100, ge=1)
    namespaces_per_connection: int = Field(100, ge=1)
    events_per_second: float = Field(100, gt=0)
    backlog_limit_bytes: int = Field(1 << 20, ge=1_000)
    backlog_limit_messages: int = Field(1_000, ge=1)
    backlog_policy: Policy = "disconnect"
    inbox_limit_events: int = Field(256, ge=1)
    connect_timeout_seconds: float = Field(10, gt=0)
    upgrade_timeout_seconds: float = Field(10, gt=0)
    ping_interval_seconds: float = Field(25, gt=0)
    ping_timeout_seconds: float = Field(20, gt=0)
    recovery_window_seconds: float = Field(120, gt=0)
    recovery_limit_clients: int = Field(100_000, ge=1)
    recovery_limit_bytes: int = Field(1 << 27, ge=100_000)
    recovery_limit_returns: int = Field(30, ge=1)
    log_limit_entries: int = Field(10_000, ge=1)
    log_limit_seconds: float = Field(3_600, gt=0)
    log_limit_bytes: int = Field(1 << 24, ge=100_000)
    bus_patience_seconds: float = Field(3, ge=0, le=60)
    spool_limit_messages: int = Field(10_000, ge=1)
    spool_limit_bytes: int = Field(1 << 24, ge=100_000)
    spool_policy: Literal["drop_oldest", "drop_newest"] = "drop_oldest"
    handshakes_per_minute_per_address: int | None = Field(None, ge=1)
    connections_per_user: int | None = Field(None, ge=1)

    heartbeat_interval_seconds: float = Field(30, gt=0)
    user_rate_limit_messages: int = Field(10, ge=1)
    user_rate_limit_seconds: float = Field(60, gt=0)
    raw_announce_self: bool = False
    name_hold_seconds: float = Field(120, ge=0)
    chat_text_limit_characters: int = Field(8_000, ge=1)
    history_on_join: int = Field(50, ge=0, le=200)
    shutdown_seconds: float = Field(2.5, gt=0)

    @field_validator("allowed_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """A list is written with commas: ``https://a.example,https://b.example``."""
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _have_schemes(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            if origin not in ("*", "null") and "://" not in origin:
                raise ValueError(f"an origin is written with its scheme, as https://{origin}")
        return origins

    @property
    def production(self) -> bool:
        return self.environment == "production"

    @property
    def signing_keys(self) -> list[str]:
        """What instances sign for one another with: the first signs, all are accepted. Without one, the JWT secret."""
        return self._bus_keys() or [self.jwt_secret.get_secret_value()]

    def _bus_keys(self) -> list[str]:
        given = self.bus_keys.get_secret_value() if self.bus_keys else ""
        return [key.strip() for key in given.split(",") if key.strip()]

    def problems(self) -> list[str]:
        """What makes these settings unsafe in production, a sentence each; empty when nothing does."""
        if not self.production:
            return []
        found = []
        secret = self.jwt_secret.get_secret_value()
        if self.jwt_algorithm == "HS256":
            if secret == BUILT_IN_SECRET:
                found.append("REALTIME_JWT_SECRET is the built-in one, which everybody knows: set your own")
            elif len(secret.encode()) < SHORTEST_HMAC_KEY:
                found.append(
                    f"REALTIME_JWT_SECRET has {len(secret.encode())} bytes: HS256 needs at least {SHORTEST_HMAC_KEY}"
                )
        elif not self.jwt_public_key:
            found.append(f"REALTIME_JWT_ALGORITHM is {self.jwt_algorithm} but REALTIME_JWT_PUBLIC_KEY is not set")
        if not self.allowed_origins:
            found.append("REALTIME_ALLOWED_ORIGINS is empty: name the origins whose pages may connect")
        elif "null" in self.allowed_origins:
            found.append("REALTIME_ALLOWED_ORIGINS contains null, which is every sandboxed frame: name the origins")
        elif "*" in self.allowed_origins:
            found.append("REALTIME_ALLOWED_ORIGINS contains *: name the origins whose pages may connect")
        return found if self.redis_url is None else found + self.problems_with_bus_keys()

    def problems_with_bus_keys(self) -> list[str]:
        """The same of the keys alone with which instances sign for one another: none, one that everybody knows, one
        that is too short. No key is repeated, only its place in the list."""
        if not self.production:
            return []
        keys = self._bus_keys()
        if not keys:
            return ["REALTIME_BUS_KEYS is not set: instances that share a Redis sign what they keep and say there"]
        found = []
        for place, key in enumerate(keys, 1):
            if key == BUILT_IN_SECRET:
                found.append(f"REALTIME_BUS_KEYS: key {place} is the built-in secret, which everybody knows")
            elif (size := len(key.encode())) < SHORTEST_HMAC_KEY:
                found.append(
                    f"REALTIME_BUS_KEYS: key {place} has {size} bytes, at least {SHORTEST_HMAC_KEY} are needed"
                )
        return found
