"""Who keeps the names of token holders: this process, or what stands behind the URL of the bus."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

from realtime.errors import UsageError
from realtime.plug import find
from realtime.ports import NameHolders

logger = logging.getLogger("realtime.names")


def open_name_holders(url: str | None, channel: str, metrics: Any) -> NameHolders:
    """The adapter called ``names+SCHEME`` for the scheme of the bus's URL, found as the bus itself is.

    Without a URL, and for a bus whose author wrote none, names are known to this process alone.
    """
    if url is None:
        return _of_this_process()
    try:
        open_names = find(f"names+{urlsplit(url).scheme}")
    except UsageError:
        logger.warning("this bus keeps no names: a guest may have the name of a token holder of another instance")
        return _of_this_process()
    names: NameHolders = open_names(url, channel, metrics)
    return names


def _of_this_process() -> NameHolders:
    names: NameHolders = find("names+memory")()
    return names
