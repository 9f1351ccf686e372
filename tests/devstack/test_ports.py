"""Ports for a stack of one's own."""

from __future__ import annotations

import socket

import pytest

from devstack import ports
from devstack.errors import StackError
from devstack.ports import LASTING, free_ports


def test_each_is_another_and_none_that_a_connection_may_be_given() -> None:
    found = free_ports(5)
    assert len(set(found)) == 5
    assert all(port in LASTING for port in found)


def test_one_that_somebody_has_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    [taken] = free_ports(1)
    monkeypatch.setattr(ports, "LASTING", range(taken, taken + 1))
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", taken))
        with pytest.raises(StackError, match=str(taken)):
            free_ports(1)
    assert free_ports(1) == [taken]
