"""The one client of the provider's API, which the gateways for files, batches and models share."""

from __future__ import annotations

from collections.abc import Callable

from openai import OpenAI

AZURE_DOMAIN = ".azure.com"


def is_azure(client: OpenAI) -> bool:
    return client.base_url.host.endswith(AZURE_DOMAIN)


def make_client(base_url: str, access: str | Callable[[], str]) -> OpenAI:
    """`access` is a key, or a function that gives a token of Entra: it is asked before each call.

    Both go out as `Authorization: Bearer`, which Azure's v1 takes for keys, too.
    max_retries=0: a retried upload is a second file; our own next step repeats what has to be repeated.
    """
    return OpenAI(base_url=base_url, api_key=access, max_retries=0)
