"""Azurite, Microsoft's emulator of Blob Storage: installed once per user from the lock file here, as n8n is.

It proves the protocol, not Azure's roles: of a token it looks at form, issuer, audience and times, not at who it is.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from devstack import n8n_install
from devstack.errors import StackError
from devstack.network import check_registry
from devstack.ports import free_ports
from devstack.processes import SYSTEM_PATH, Command, Process, hidden, wait_until

HERE = Path(__file__).parent
FILES = ("package.json", "package-lock.json", ".npmrc")
ACCOUNT = "devstoreaccount1"
# The emulator's well-known key: it is in Microsoft's documentation and opens nothing else.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
READY_SECONDS = 60


@dataclass(frozen=True)
class Azurite:
    """A running emulator. `certificate` is the file that a client has to trust (REQUESTS_CA_BUNDLE)."""

    url: str
    certificate: Path
    process: Process

    @property
    def connection_string(self) -> str:
        return f"DefaultEndpointsProtocol=https;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.url};"


def installed() -> Path:
    """The folder with Azurite in it. Without a registry to install it from, the test is skipped; in CI it fails."""
    digest = hashlib.sha256(b"\0".join((HERE / name).read_bytes() for name in FILES)).hexdigest()
    target = n8n_install.cache_dir() / f"azurite-{digest[:12]}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with n8n_install.locked(target.with_suffix(".lock"), print):
        if not target.is_dir():
            _install(target)
    return target


def _install(target: Path) -> None:
    part = target.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for name in FILES:
        shutil.copy(HERE / name, part)
    registry = n8n_install.npm(part, "config", "get", "registry", "--loglevel=silent").stdout.strip()
    try:
        check_registry("npm's registry", registry)
    except StackError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"Azurite is not installed yet: {error}")
    done = n8n_install.npm(part, "ci", *n8n_install.NPM_OPTIONS)
    assert done.returncode == 0, done.stdout[-2000:]
    part.rename(target)


@contextmanager
def running(folder: Path) -> Iterator[Azurite]:
    """Azurite on a free port, over TLS (it takes tokens only so); its data is below `folder`."""
    program = installed() / "node_modules/azurite/dist/src/blob/main.js"
    [port] = free_ports(1)
    certificate, key = _certificate(folder)
    argv = [
        str(n8n_install.node()), str(program), "--blobPort", str(port), "--location", str(folder / "data"),
        "--cert", str(certificate), "--key", str(key), "--oauth", "basic", "--skipApiVersionCheck",
        "--disableTelemetry", "--silent",
    ]  # fmt: skip
    command = Command("azurite", argv, {"PATH": SYSTEM_PATH, "HOME": str(folder)}, folder, show=hidden)
    process = Process(command, folder / "azurite.log")
    process.start()
    try:
        wait_until(lambda: _answers(port), what="An answer of Azurite", seconds=READY_SECONDS, processes=[process])
        yield Azurite(f"https://127.0.0.1:{port}/{ACCOUNT}", certificate, process)
    finally:
        process.stop()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that lives for a day, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Azurite in a test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files
