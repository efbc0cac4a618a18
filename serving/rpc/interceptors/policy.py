"""What each method demands of its caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from serving.auth.tokens import Principal, PrincipalRole
from serving.core.errors import ErrorKind, ServingError

Deadline = Literal["default_deadline_s", "chat_default_deadline_s", "max_deadline_s"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The rules of one method."""

    role: PrincipalRole = "embed"
    """What the caller must be."""
    public: bool = False
    """Callable without a token."""
    gated: bool = True
    """Counts towards the bounds on calls in work, and is refused while starting and draining."""
    bounded: bool = True
    """Ends at its deadline."""
    deadline: Deadline = "default_deadline_s"
    """The limit that ends a call without a deadline of its own."""

    def check(self, principal: Principal) -> None:
        """Raises ServingError for a caller without the role."""
        if not self.public and self.role not in principal.roles:
            raise ServingError(ErrorKind.FORBIDDEN, "this needs another role")


# Whatever is not listed here has the strictest reading: a known caller with the embed role.
_METHODS: dict[str, Policy] = {
    "/grpc.health.v1.Health/Check": Policy(public=True, gated=False),
    "/grpc.health.v1.Health/Watch": Policy(gated=False, bounded=False),
    "/sparseclip.v1.EmbeddingService/EmbedStream": Policy(deadline="max_deadline_s"),
    "/sparseclip.v1.ChatService/Chat": Policy(deadline="chat_default_deadline_s"),
}
_SERVICES: dict[str, Policy] = {
    "sparseclip.v1.AdminService": Policy(role="admin", deadline="max_deadline_s"),
}
_DEFAULT = Policy()


def policy_of(method: str) -> Policy:
    """The policy of `/package.Service/Method`."""
    return _METHODS.get(method) or _SERVICES.get(method.split("/")[1:2][0], _DEFAULT)
