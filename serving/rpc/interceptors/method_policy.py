"""What each method demands of its caller, and how long a call of it may take."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from serving.auth.tokens import Principal, PrincipalRole
from serving.core.errors import ErrorKind, ServingError, expired
from serving.core.limits import LimitsConfig

DeadlineLimit = Literal["default_deadline_s", "chat_default_deadline_s", "max_deadline_s"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The rules of one method."""

    role: PrincipalRole = "embed"
    """The role that the caller needs."""
    public: bool = False
    """Whether the method may be called without a token."""
    admission: bool = True
    """Whether calls count towards the bounds, and are refused while starting and draining."""
    bounded: bool = True
    """Whether a call ends at its deadline."""
    default_deadline: DeadlineLimit = "default_deadline_s"
    """The limit that bounds a call which sets no deadline."""

    def check(self, principal: Principal) -> None:
        """Raises ServingError for a caller without the role."""
        if not self.public and self.role not in principal.roles:
            raise ServingError(ErrorKind.FORBIDDEN, "this needs another role")

    def seconds(self, remaining: float | None, limits: LimitsConfig) -> float:
        """How long a call may take, when its caller's deadline leaves `remaining` seconds.

        None stands for no deadline. Raises ServingError for a deadline that has passed.
        """
        if remaining is None:
            default: float = getattr(limits, self.default_deadline)
            remaining = default
        if remaining <= 0:
            raise expired()
        return min(remaining, limits.max_deadline_s)


_ADMIN = Policy(role="admin", default_deadline="max_deadline_s")
_INFERENCE = "/inference.GRPCInferenceService"

# A method that is not listed here gets the strictest rules: a known caller with the embed role.
_METHODS: dict[str, Policy] = {
    "/grpc.health.v1.Health/Check": Policy(public=True, admission=False),
    "/grpc.health.v1.Health/Watch": Policy(admission=False, bounded=False),
    "/sparseclip.v1.EmbeddingService/EmbedStream": Policy(default_deadline="max_deadline_s"),
    "/sparseclip.v1.ChatService/Chat": Policy(default_deadline="chat_default_deadline_s"),
    f"{_INFERENCE}/ServerLive": Policy(public=True, admission=False),
    f"{_INFERENCE}/ServerReady": Policy(public=True, admission=False),
    f"{_INFERENCE}/ModelReady": Policy(admission=False),
    f"{_INFERENCE}/ModelStreamInfer": Policy(default_deadline="max_deadline_s"),
    f"{_INFERENCE}/RepositoryModelLoad": _ADMIN,
    f"{_INFERENCE}/RepositoryModelUnload": _ADMIN,
}
_SERVICES: dict[str, Policy] = {
    "sparseclip.v1.AdminService": _ADMIN,
}
_DEFAULT = Policy()


@functools.cache
def policy_of(method: str) -> Policy:
    """The policy of `/package.Service/Method`, one of those that the server has."""
    service = method.removeprefix("/").partition("/")[0]
    return _METHODS.get(method) or _SERVICES.get(service, _DEFAULT)
