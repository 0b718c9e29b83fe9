"""Who a client is: by token, wherever a token may be, or by a name that it gives itself."""

from __future__ import annotations

import time

from pydantic import BaseModel, ConfigDict
from starlette.requests import HTTPConnection

from realtime import AccessError, Identity, PayloadError, Tokens, find_token, problem_with_user


class Credentials(BaseModel):
    """What a client may send with CONNECT."""

    model_config = ConfigDict(extra="ignore")

    token: str | None = None
    username: str | None = None


class Doorman:
    """Verifies tokens; one for all namespaces."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def by_token(self, connection: HTTPConnection, token: str | None = None) -> Identity | None:
        """The token of CONNECT, else that of the handshake; None when there is none.

        Raises AccessError for a bad one.
        """
        scope = connection.scope
        found = token or find_token(scope["headers"], scope["query_string"], scope.get("subprotocols", ()))[0]
        return None if found is None else self._tokens.verify(found, time.time())

    def require(self, connection: HTTPConnection, token: str | None = None) -> Identity:
        identity = self.by_token(connection, token)
        if identity is None:
            raise AccessError("A token is required", code="token_required")
        return identity

    def renew(self, identity: Identity, token: str) -> Identity:
        """A later token of the same user. Raises AccessError for somebody else's."""
        renewed = self._tokens.verify(token, time.time())
        if renewed.user_id != identity.user_id:
            raise AccessError("This token belongs to somebody else", code="invalid_token")
        return renewed


def by_name(username: str | None) -> Identity:
    """An anonymous client under the name it chose. Raises PayloadError for a name nobody may have."""
    if username is None:
        raise AccessError("Send a username or a token", code="unauthorized")
    problem = problem_with_user(username)
    if problem is not None:
        raise PayloadError(problem, code="invalid_username")
    return Identity(username, anonymous=True)
