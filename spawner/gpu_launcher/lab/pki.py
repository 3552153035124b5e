"""Keys, certificates and tokens of one lab, made anew for each start."""

from __future__ import annotations

import datetime
import ipaddress
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gpu_launcher.lab.paths import write_atomically

_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
)
# The first address of the service range belongs to the API server.
_ADDRESSES = ("127.0.0.1", "10.96.0.1")
_USERS = ("admin", "kube-scheduler", "kube-controller-manager", "karpenter", "kwok")


@dataclass(frozen=True, slots=True)
class Pki:
    """The files of one lab's identity. ``tokens`` maps a user to its bearer token: never log it."""

    directory: Path
    tokens: Mapping[str, str]

    @property
    def authority(self) -> Path:
        """The certificate that everything trusts."""
        return self.directory / "ca.crt"

    @property
    def certificate(self) -> Path:
        """The API server's certificate."""
        return self.directory / "apiserver.crt"

    @property
    def key(self) -> Path:
        """The API server's key."""
        return self.directory / "apiserver.key"

    @property
    def service_account_key(self) -> Path:
        """The key that signs ServiceAccount tokens."""
        return self.directory / "service-account.key"

    @property
    def token_file(self) -> Path:
        """The API server's static tokens."""
        return self.directory / "tokens.csv"

    def kubeconfig(self, user: str, server: str) -> Path:
        """The kubeconfig of ``user``, written if need be."""
        path = self.directory / f"{user}.kubeconfig"
        write_kubeconfig(path, server=server, authority=self.authority, user=user, token=self.tokens[user])
        return path


def make_pki(directory: Path) -> Pki:
    """New keys, certificates and tokens in ``directory``; every file is readable by the owner only."""
    # Elliptic curves: a pair takes a millisecond, RSA a tenth of a second and more.
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("gpu-launcher-lab", authority_key, None, None)
    server_key = ec.generate_private_key(ec.SECP256R1())
    server = _certificate("kube-apiserver", server_key, authority, authority_key)
    pki = Pki(directory, {user: secrets.token_urlsafe(32) for user in _USERS})
    write_atomically(pki.authority, _pem(authority))
    write_atomically(pki.certificate, _pem(server))
    write_atomically(pki.key, _key_pem(server_key))
    write_atomically(pki.service_account_key, _key_pem(ec.generate_private_key(ec.SECP256R1())))
    # The servers are trusted with everything; the hub and the controller get tokens of their own ServiceAccounts.
    lines = [f'{token},{user},{user},"system:masters"\n' for user, token in pki.tokens.items()]
    write_atomically(pki.token_file, "".join(lines))
    return pki


def write_kubeconfig(
    path: Path, *, server: str, authority: Path, user: str, token: str, namespace: str = "default"
) -> None:
    """Write a kubeconfig with one context; JSON is YAML too."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority": str(authority)}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user, "namespace": namespace}}],
        "current-context": "lab",
    }
    write_atomically(path, json.dumps(document, indent=1) + "\n")


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey | None,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A clock that was just set back must not make the lab unreachable.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(_usage(authority=issuer is None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None and issuer_key is not None:
        alternatives: list[x509.GeneralName] = [x509.DNSName(item) for item in _NAMES]
        alternatives += [x509.IPAddress(ipaddress.ip_address(item)) for item in _ADDRESSES]
        builder = (
            builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            # The API server shows the same certificate to etcd, as its client.
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        )
    return builder.sign(issuer_key or key, hashes.SHA256())


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()
