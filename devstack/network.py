"""Whether a package registry can be reached. Standard library only."""

from __future__ import annotations

import os
import socket
import urllib.parse

from devstack.errors import StackError

CONNECT_SECONDS = 10


def check_registry(name: str, url: str) -> None:
    """Raises StackError when nothing answers there (or at the proxy that leads there). "" is not known: not asked."""
    address = urllib.parse.urlsplit(url)
    if address.scheme not in ("http", "https"):
        return
    proxy = os.environ.get(f"{address.scheme}_proxy") or os.environ.get(f"{address.scheme.upper()}_PROXY")
    hop = urllib.parse.urlsplit(proxy if proxy and "//" in proxy else f"//{proxy}") if proxy else address
    port = hop.port or (80 if hop.scheme == "http" else 443)
    try:
        socket.create_connection((hop.hostname or "", port), CONNECT_SECONDS).close()
    except OSError as error:
        raise StackError(
            f"The first start installs packages and {name} ({url}) cannot be reached ({error}): connect this machine, "
            "or set your own registry."
        ) from None
