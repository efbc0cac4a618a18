"""Addresses, TLS and mTLS against a real TLS port; the wire contract's method names."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf import descriptor_pool

from sparseclip import CallError, Client, Health, RetryPolicy, Tls, _admin, _methods
from sparseclip.v1 import admin_pb2, chat_pb2, concepts_pb2, embedding_pb2
from tests.sparseclip.conftest import limits
from tests.sparseclip.scripted import Scripted, start


@dataclass(frozen=True)
class Pair:
    """A certificate and its key as PEM files."""

    certificate: Path
    key: Path


def issue(folder: Path, name: str, issuer: Pair | None) -> Pair:
    """A certificate for localhost: signed by `issuer`, or by itself as an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer, authority = key, subject
    if issuer is not None:
        loaded = serialization.load_pem_private_key(issuer.key.read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signer = loaded
        authority = x509.load_pem_x509_certificate(issuer.certificate.read_bytes()).subject
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(signer, hashes.SHA256())
    )
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pair.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pair


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return issue(tmp_path_factory.mktemp("tls"), "authority", None)


@pytest.fixture(scope="module")
def caller(authority: Pair, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return issue(tmp_path_factory.mktemp("tls"), "caller", authority)


@pytest.fixture(params=[False, True], ids=["tls", "mtls"])
def port(
    request: pytest.FixtureRequest, authority: Pair, tmp_path: Path
) -> Iterator[tuple[int, bool]]:
    pair = issue(tmp_path, "server", authority)
    credentials = grpc.ssl_server_credentials(
        [(pair.key.read_bytes(), pair.certificate.read_bytes())],
        root_certificates=authority.certificate.read_bytes(),
        require_client_auth=request.param,
    )
    server, number = start(Scripted(limits=limits()), "127.0.0.1:0", credentials)
    yield number, request.param
    server.stop(None).wait()


NO_RETRY = RetryPolicy(attempts=1)


def works(port: int, tls: Tls | None) -> bool:
    with Client(f"localhost:{port}", tls=tls, token="s3cret", retry=NO_RETRY) as client:
        try:
            return client.embed([b"abc"], timeout=5)[0].ok
        except CallError as error:
            if error.code is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False


def test_a_trusted_server_is_reached_and_others_are_not(
    port: tuple[int, bool], authority: Pair, caller: Pair, tmp_path: Path
) -> None:
    number, mutual = port
    stranger = issue(tmp_path, "stranger", None)
    identity = Tls(ca=authority.certificate, certificate=caller.certificate, key=caller.key)
    assert works(number, identity)
    assert works(number, Tls(ca=authority.certificate)) is not mutual
    assert not works(number, Tls(ca=stranger.certificate))
    assert not works(number, Tls())
    assert not works(number, None)


def test_tls_files_are_named_by_option_not_by_path(tmp_path: Path, caller: Pair) -> None:
    with pytest.raises(ValueError, match="^tls ca: the file cannot be read$"):
        Client("localhost:1", tls=Tls(ca=tmp_path / "missing"))
    with pytest.raises(ValueError, match="together"):
        Client("localhost:1", tls=Tls(certificate=caller.certificate))


@pytest.mark.parametrize(
    "address", ["localhost:0", "127.0.0.1:65536", "[::1]:99999", "a:" + "9" * 5000]
)
def test_a_port_is_never_another_one(address: str) -> None:
    """gRPC would take the number modulo 65,536."""
    with pytest.raises(ValueError, match="address: the port must be"):
        Client(address)


@pytest.mark.parametrize("address", ["", " ", "http://localhost:50051"])
def test_an_address_is_host_and_port(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Client(address)


@pytest.mark.parametrize("token", ["two\nlines", "schlüssel"])
def test_a_token_is_printable_ascii(token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        Client("localhost:1", token=token)


def test_a_token_is_not_shown() -> None:
    from sparseclip._connection import Connection

    assert "s3cret" not in repr(Connection(address="localhost:1", token="s3cret"))


def test_every_method_of_the_contract_has_its_operation() -> None:
    declared = {}
    for file in (admin_pb2, chat_pb2, concepts_pb2, embedding_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                declared[f"/{service.full_name}/{method.name}"] = method.output_type.full_name
    methods = [
        value
        for module in (_methods, _admin)
        for value in vars(module).values()
        if isinstance(value, _methods.Method)
    ]
    used = {method.path: method.reply.DESCRIPTOR.full_name for method in methods}
    assert used.pop("/grpc.health.v1.Health/Check")
    assert used == declared


def test_health_messages_are_what_the_client_takes_them_for() -> None:
    from grpc_health.v1 import health_pb2

    assert health_pb2.HealthCheckRequest(service="abc").SerializeToString() == (
        _admin.StringValue(value="abc").SerializeToString()
    )
    states = {state.name: state.value for state in Health}
    assert states == dict(health_pb2.HealthCheckResponse.ServingStatus.items())
    assert descriptor_pool.Default().FindMessageTypeByName("grpc.health.v1.HealthCheckResponse")


def test_calls_go_in_turn_to_all_addresses_of_a_name() -> None:
    scripts = [Scripted(limits=limits(), version=str(i)) for i in (1, 2)]
    started = [start(script, "127.0.0.1:0") for script in scripts]
    # What a resolver makes of a name with two addresses.
    name = "ipv4:" + ",".join(f"127.0.0.1:{port}" for _, port in started)
    try:
        with Client(name) as client:
            # The second connection may be made a moment after the first.
            for _ in range(1000):
                if len({client.model_info().model.version for _ in range(2)}) == 2:
                    break
            else:
                pytest.fail("one of two servers got all calls")
    finally:
        for server, _ in started:
            server.stop(None).wait()
