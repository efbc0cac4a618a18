"""Who calls: a bearer token in the headers."""

from __future__ import annotations

import grpc

from serving.auth.tokens import ANONYMOUS, Principal, TokenFile
from serving.core.errors import ErrorKind, ServingError
from serving.rpc.interceptors.policy import Policy

_PREFIX = "bearer "


class Authenticator:
    """Finds the principal of a call. Without a token file everyone is the same principal."""

    def __init__(self, tokens: TokenFile | None) -> None:
        self._tokens = tokens

    def identify(self, details: grpc.HandlerCallDetails, policy: Policy) -> Principal:
        """The caller. Raises ServingError for a token that is missing, malformed or unknown."""
        if self._tokens is None or policy.public:
            return ANONYMOUS
        values = [
            value
            for key, value in details.invocation_metadata or ()
            if key.lower() == "authorization"
        ]
        if len(values) != 1 or not isinstance(values[0], str):
            raise ServingError(ErrorKind.UNAUTHENTICATED, "a bearer token is needed")
        if values[0][: len(_PREFIX)].lower() != _PREFIX:
            raise ServingError(ErrorKind.UNAUTHENTICATED, "a bearer token is needed")
        principal = self._tokens.find(values[0][len(_PREFIX) :].strip())
        if principal is None:
            raise ServingError(ErrorKind.UNAUTHENTICATED, "the token is not known")
        return principal
