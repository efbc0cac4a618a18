"""What methods demand: roles, tokens, and how long a call may take."""

from __future__ import annotations

import pytest

from serving.auth.tokens import Principal
from serving.core.errors import ErrorKind, ServingError
from serving.core.limits import LimitsConfig
from serving.rpc.interceptors.method_policy import Policy, policy_of

LIMITS = LimitsConfig(default_deadline_s=10, chat_default_deadline_s=60, max_deadline_s=120)


@pytest.mark.parametrize(
    ("method", "policy"),
    [
        ("/sparseclip.v1.EmbeddingService/Embed", Policy()),
        ("/no.such.Service/Method", Policy()),
        ("", Policy()),
        (
            "/sparseclip.v1.AdminService/LoadModel",
            Policy(role="admin", default_deadline="max_deadline_s"),
        ),
        ("/grpc.health.v1.Health/Check", Policy(public=True, admission=False)),
        ("/inference.GRPCInferenceService/ServerLive", Policy(public=True, admission=False)),
        ("/inference.GRPCInferenceService/ModelReady", Policy(admission=False)),
        ("/inference.GRPCInferenceService/ModelInfer", Policy()),
        (
            "/inference.GRPCInferenceService/RepositoryModelUnload",
            Policy(role="admin", default_deadline="max_deadline_s"),
        ),
    ],
)
def test_a_method_that_is_not_listed_has_the_strictest_policy(method: str, policy: Policy) -> None:
    assert policy_of(method) == policy


def test_a_role_opens_its_own_methods_only() -> None:
    embed, admin = Principal(name="a"), Principal(name="b", roles=("admin",))
    Policy().check(embed)
    Policy(role="admin").check(admin)
    Policy(role="admin", public=True).check(embed)
    for policy, principal in ((Policy(role="admin"), embed), (Policy(), admin)):
        with pytest.raises(ServingError) as caught:
            policy.check(principal)
        assert caught.value.kind is ErrorKind.FORBIDDEN


@pytest.mark.parametrize(
    ("method", "remaining", "seconds"),
    [
        ("/sparseclip.v1.EmbeddingService/Embed", None, 10),
        ("/sparseclip.v1.EmbeddingService/Embed", 3.0, 3),
        ("/sparseclip.v1.EmbeddingService/Embed", 1e9, 120),
        ("/sparseclip.v1.EmbeddingService/EmbedStream", None, 120),
        ("/sparseclip.v1.ChatService/Chat", None, 60),
        ("/sparseclip.v1.ChatService/Chat", 90.0, 90),
    ],
)
def test_a_call_gets_its_deadline_or_the_default_within_the_bound(
    method: str, remaining: float | None, seconds: float
) -> None:
    assert policy_of(method).seconds(remaining, LIMITS) == seconds


@pytest.mark.parametrize("remaining", [0.0, -1.0])
def test_a_deadline_that_has_passed_is_refused(remaining: float) -> None:
    with pytest.raises(ServingError) as caught:
        Policy().seconds(remaining, LIMITS)
    assert caught.value.kind is ErrorKind.EXPIRED
