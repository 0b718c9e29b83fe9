"""Pure: no I/O, no clock, no task. Why Redis refuses a command: what it is called, when that ends, what to do.

What is refused was not carried out, or its script ended in the middle, and the same command again finds how far it was.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple

from redis import exceptions


class Fault(Enum):
    """When it ends."""

    PASSING = "passing"
    """By itself, or when somebody acts on the server: asking again helps."""
    LASTING = "lasting"
    """When somebody changes what we may do or are told to use: asking again helps only then."""
    OURS = "ours"
    """Never, for this command: a defect, ours or the server's. The next one may do better."""


class _Refusal(NamedTuple):
    fault: Fault
    words: str
    """The end of a sentence that begins with "Redis"."""
    advice: str = ""


_LOGIN: Final = _Refusal(
    Fault.LASTING, "refused the user or the password", "put right REALTIME_REDIS_URL, or the user in Redis"
)
_REFUSALS: Final = {
    "NOPERM": _Refusal(
        Fault.LASTING,
        "refused the command (no permission)",
        "its user needs what adapters/README.md lists under 'What its user may do'",
    ),
    "NOAUTH": _LOGIN,
    "WRONGPASS": _LOGIN,
    "WRONGTYPE": _Refusal(
        Fault.LASTING, "has something else under one of our keys", "nobody else may write under REALTIME_REDIS_CHANNEL"
    ),
    "UNKNOWN": _Refusal(
        Fault.LASTING, "does not know the command", "it has to be Redis 6.2 or Valkey, with scripts, nothing renamed"
    ),
    "OOM": _Refusal(Fault.PASSING, "has no memory left", "free some, or raise its maxmemory"),
    "READONLY": _Refusal(
        Fault.PASSING, "takes no writes: it is a replica", "REALTIME_REDIS_URL has to lead to the master"
    ),
    "MISCONF": _Refusal(Fault.PASSING, "takes no writes: it cannot save its data", "look at its disk and its log"),
    "NOREPLICAS": _Refusal(
        Fault.PASSING, "takes no writes: too few replicas are there", "start them, or lower its min-replicas-to-write"
    ),
    "BUSY": _Refusal(Fault.PASSING, "is busy with somebody's script", "SCRIPT KILL or FUNCTION KILL ends it"),
    "LOADING": _Refusal(Fault.PASSING, "is still loading its data"),
    "CLUSTERDOWN": _Refusal(Fault.PASSING, "has a Cluster that is not whole", "CLUSTER INFO and CLUSTER NODES say why"),
    "MASTERDOWN": _Refusal(Fault.PASSING, "is a replica that has lost its master", "look after the master"),
    "TRYAGAIN": _Refusal(Fault.PASSING, "is just moving these keys"),
    "ASK": _Refusal(Fault.PASSING, "is just moving these keys"),
    "MOVED": _Refusal(Fault.PASSING, "has these keys elsewhere"),
    "NOSCRIPT": _Refusal(Fault.PASSING, "has forgotten the script"),
}
_OTHER: Final = _Refusal(
    Fault.OURS, "refused the command", "this is a defect; MONITOR shows what was asked, its log perhaps why"
)
_KNOWN_BY_CLASS: Final = {
    exceptions.NoPermissionError: "NOPERM",
    exceptions.AuthenticationError: "NOAUTH",
    exceptions.AuthorizationError: "NOAUTH",
    exceptions.BusyLoadingError: "LOADING",
}
_IN_SCRIPT: Final = re.compile(r"user_script: ?\d+: -?([A-Z]+) ")
"""How a server before Redis 7 says why a call of a script failed."""
_DENIED: Final = ("ACL failure in script", "The user executing the script can't")
_UNKNOWN: Final = ("unknown command", "unknown redis command", "unknown subcommand")


def code_of(error: BaseException) -> str:
    """The first word of what Redis says, or the one that is meant; ``ERR`` for what has no word of its own."""
    text = str(error)
    by_class = next((code for kind, code in _KNOWN_BY_CLASS.items() if isinstance(error, kind)), None)
    code = getattr(error, "status_code", None) or by_class or text.split(" ", 1)[0]
    if code in _REFUSALS:
        return str(code)
    inside = _IN_SCRIPT.search(text)
    if inside is not None and inside[1] in _REFUSALS:
        return inside[1]
    if any(words in text for words in _DENIED):
        return "NOPERM"
    return "UNKNOWN" if any(words in text.lower() for words in _UNKNOWN) else "ERR"


def fault_of(error: BaseException) -> Fault:
    return _REFUSALS.get(code_of(error), _OTHER).fault


def words_of(error: BaseException) -> str:
    """The end of a sentence that begins with "Redis": made of our own words, never of the error's, in which a server
    repeats arguments."""
    return _REFUSALS.get(code_of(error), _OTHER).words


def advice_for(error: BaseException) -> str:
    """What an operator can do, as the end of a line of the log; nothing where it ends by itself."""
    if not isinstance(error, (exceptions.ResponseError, *_KNOWN_BY_CLASS)):
        return ""
    advice = _REFUSALS.get(code_of(error), _OTHER).advice
    return f"; {advice}" if advice else ""
