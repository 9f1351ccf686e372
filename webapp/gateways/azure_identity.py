"""Who the app is to Azure: its managed identity (AZURE_CLIENT_ID says which), or whoever has run `az login` here.

Imported only where a setting asks for it: it needs requirements/azure.txt.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from azure.core.exceptions import AzureError
from azure.identity import DefaultAzureCredential, get_bearer_token_provider

from webapp.domain.errors import UnavailableService

OPENAI_SCOPE = "https://cognitiveservices.azure.com/.default"


@cache
def credential() -> DefaultAzureCredential:
    """One for the process: it keeps its tokens, and renews them before they end."""
    return DefaultAzureCredential()


def openai_token() -> Callable[[], str]:
    """A function that gives the present token for Azure OpenAI. It raises UnavailableService."""
    provider = get_bearer_token_provider(credential(), OPENAI_SCOPE)

    def token() -> str:
        try:
            return provider()
        except AzureError as error:
            raise UnavailableService("Entra gave the app no token for Azure OpenAI; try again in a moment.") from error

    return token
