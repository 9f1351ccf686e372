"""Sluice's API for Python: `Client`, and `SluiceError` for whatever it refuses (`client/README.md`)."""

from sluice_client.client import Client
from sluice_client.errors import SluiceError

__all__ = ["Client", "SluiceError"]
