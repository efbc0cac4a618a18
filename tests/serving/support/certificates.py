"""Principals and certificates made for tests."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ALICE, ROOT, SLOW = "token-of-alice", "token-of-root", "token-of-slow"


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def write_tokens(path: Path, **changes: Any) -> Path:
    """Alice may embed, root may do both, slow has a quota."""
    principals = [
        {"name": "alice", "sha256": [digest(ALICE)]},
        {"name": "root", "sha256": [digest(ROOT)], "roles": ["embed", "admin"]},
        {"name": "slow", "sha256": [digest(SLOW)], **changes},
    ]
    path.write_text(json.dumps({"principals": principals}))
    return path


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


@dataclass(frozen=True)
class Pem:
    """A certificate and its key, in memory and as files."""

    certificate: bytes
    key: bytes
    certificate_path: str
    key_path: str


class Authority:
    """A certificate authority that lives as long as a test."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._build(name, self._key, days=1, authority=True)
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM)
        self.path = str(directory / f"{name}.pem")
        Path(self.path).write_bytes(self.pem)

    def issue(self, name: str, days: float = 1) -> Pem:
        """A certificate for loopback; expired when `days` is negative."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._build(name, key, days=days, authority=False)
        stem = self._directory / f"{self._name}-{name}"
        pem = Pem(
            certificate=certificate.public_bytes(serialization.Encoding.PEM),
            key=key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            certificate_path=f"{stem}.pem",
            key_path=f"{stem}.key",
        )
        Path(pem.certificate_path).write_bytes(pem.certificate)
        Path(pem.key_path).write_bytes(pem.key)
        return pem

    def _build(
        self, name: str, key: ec.EllipticCurvePrivateKey, *, days: float, authority: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)])
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=10))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256())
