"""The ports of the parts, all on loopback. PostgreSQL has none."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Mapping

from devstack.errors import StackError

DEFAULT_PORTS = {
    "WEB_PORT": 8000,
    "INTERNAL_PORT": 8001,
    "N8N_PORT": 5678,
    "N8N_BROKER_PORT": 5679,
    "PROVIDER_PORT": 8088,
}


# Linux gives those above to connections that go out: one that is free now may be taken when a part wants to listen.
LASTING = range(20_000, 32_768)


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nothing has now. Raises StackError where there are not so many."""
    found: list[int] = []
    for port in random.SystemRandom().sample(LASTING, len(LASTING)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise StackError(f"There are no {count} free ports from {LASTING.start} to {LASTING.stop - 1}.")


def chosen_ports(env: Mapping[str, str]) -> dict[str, int]:
    """The ports by their settings' names. Raises StackError for a wrong or double one."""
    chosen = {}
    for name, default in DEFAULT_PORTS.items():
        value = env.get(name) or str(default)
        if not value.isdigit() or not 0 < int(value) < 65536:
            raise StackError(f"{name} is {value!r} but must be a port number.")
        chosen[name] = int(value)
    twice = [name for name, port in chosen.items() if list(chosen.values()).count(port) > 1]
    if twice:
        raise StackError(f"{' and '.join(twice)} are the same port: give each part its own.")
    return chosen


def check_free(ports: Mapping[str, int]) -> None:
    """Raises StackError when another program has one of the ports."""
    for setting, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise StackError(
                    f"Port {port} is in use by another program: set {setting} to a free one ({error.strerror})."
                ) from None
