"""Certificates as libvirt wants them: an authority of the laboratory's own, and what it issues.

In: names, and days. Out: directories of PEM files under the names that libvirt looks for them by
(`pkipath` of a URI), readable by every user. Nothing here is secret.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID, EXPIRED, NOT_YET = (-2, 2), (-4, -1), (1, 4)
"""Days from now: from, and to."""

_BASE = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
_REST = ("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")


class Issued(NamedTuple):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Authority:
    """Issues certificates for servers and clients."""

    def __init__(self, name: str) -> None:
        self._own = _issue(name, VALID, None)

    def issue(
        self, name: str, days: tuple[int, int] = VALID, also: Sequence[x509.GeneralName] = ()
    ) -> Issued:
        """A certificate for a host of this name, or a client; `also`: more names of it."""
        return _issue(name, days, self._own, also)

    def put(
        self, directory: Path, *, server: Issued | None = None, client: Issued | None = None
    ) -> Path:
        """This authority, as the one that is trusted, and a certificate of one or the other."""
        directory.mkdir(mode=0o755, parents=True)
        files = {"cacert": _pem(self._own)}
        for kind, issued in {"server": server, "client": client}.items():
            if issued is not None:
                files |= {f"{kind}cert": _pem(issued), f"{kind}key": _key_pem(issued)}
        for name, content in files.items():
            path = directory / f"{name}.pem"
            path.write_bytes(content)
            path.chmod(0o644)
        return directory


def _issue(
    name: str,
    days: tuple[int, int],
    issuer: Issued | None,
    also: Sequence[x509.GeneralName] = (),
) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    begin, end = (now + datetime.timedelta(days=each) for each in days)
    uses = {"key_cert_sign", "crl_sign"} if issuer is None else set(_BASE[::2])
    usage = {use: use in uses for use in (*_BASE, *_REST)}
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(issuer is None, None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
    )
    if issuer is None:
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(own, critical=False)
    else:
        # Python 3.13 and later refuse a certificate that does not name its issuer's key.
        theirs = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(theirs, critical=False)
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        names = x509.SubjectAlternativeName([x509.DNSName(name), *also])
        builder = builder.add_extension(names, critical=False)
    return Issued(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def _pem(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(issued: Issued) -> bytes:
    return issued.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
