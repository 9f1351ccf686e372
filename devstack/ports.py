"""The ports of the parts, all on loopback. PostgreSQL has none."""

from __future__ import annotations

import contextlib
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


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nothing listens on now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


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
