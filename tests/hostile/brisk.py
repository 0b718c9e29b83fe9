"""The bounded HTTP class with short times: what a client may hold open for ten seconds is over in one."""

from __future__ import annotations

from adapters.fast.http import BoundedHttp


class Brisk(BoundedHttp):
    TICK_SECONDS = 0.1
    HEAD_SECONDS = PAUSE_SECONDS = 1.0
    BODY_SECONDS = 1.5
