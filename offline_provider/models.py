"""The models that this provider offers, with the announced shutdown dates. GET /v1/models."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from flask import Blueprint

from . import clock, flavours
from .errors import ApiError

bp = Blueprint("models", __name__)


@dataclass(frozen=True)
class Model:
    id: str
    created: int  # unix seconds
    shutdown_date: str | None = None  # ISO date, the first day without the model
    context_window: int = 1_050_000  # tokens
    reasons: bool = True  # puts a `reasoning` item before its message
    deployed: str | None = None  # the model behind a deployment, whose name is the id
    sku: str | None = None  # of a deployment

    @property
    def base_name(self) -> str:
        return self.deployed or self.id

    @property
    def takes_temperature_while_reasoning(self) -> bool:
        return not self.base_name.startswith("gpt-6")

    def serves(self, mode: str) -> bool:
        """`mode`: sync or batch. Only a deployment is for one of them alone."""
        return self.sku is None or SKUS[self.sku] == mode

    def wrong_sku(self, mode: str) -> ApiError:
        takes = ", ".join(sku for sku, its_mode in SKUS.items() if its_mode == mode)
        message = (
            f"The deployment '{self.id}' has the sku {self.sku}. For this operation its sku must be one of: {takes}."
        )
        return ApiError(message, param="model", code="OperationNotSupported")

    def is_shut_down(self) -> bool:
        if self.shutdown_date is None:
            return False
        return clock.now() >= datetime.fromisoformat(self.shutdown_date).replace(tzinfo=UTC).timestamp()

    def as_object(self) -> dict:
        return {
            "id": self.id,
            "object": "model",
            "created": self.created,
            "owned_by": "openai",
            "shutdown_date": self.shutdown_date,
        }


MODELS = {
    model.id: model
    for model in (
        Model("gpt-6-luna", 1_790_035_200),
        Model("gpt-6-astra", 1_790_035_200),
        Model("gpt-6.1-terra", 1_793_059_200),
        Model("gpt-6.1-sol", 1_793_059_200),
        Model("gpt-5.6-luna", 1_781_568_000),
        Model("gpt-5.4-mini", 1_773_705_600, context_window=400_000),
        Model("gpt-5.4-nano", 1_773_705_600, "2027-04-01", 400_000),
        Model("gpt-5", 1_754_524_800, "2026-12-11", 400_000),
        Model("gpt-5-mini", 1_754_524_800, "2026-12-11", 400_000),
        Model("gpt-5-nano", 1_754_524_800, "2026-12-11", 400_000),
        Model("gpt-4.1", 1_744_588_800, "2027-01-14", 1_047_576, reasons=False),
        Model("gpt-4.1-mini", 1_744_588_800, "2027-01-14", 1_047_576, reasons=False),
        Model("gpt-4o-mini", 1_721_260_800, "2027-01-14", 128_000, reasons=False),
    )
}


# A deployment answers callers who wait, or batches.
SKUS = {
    "Standard": "sync",
    "GlobalStandard": "sync",
    "DataZoneStandard": "sync",
    "GlobalBatch": "batch",
    "DataZoneBatch": "batch",
}
_offered = MODELS  # of this process: MODELS, or deployments of them


def read_deployments(text: str) -> dict[str, Model]:
    """`name=model:Standard,name2=model:GlobalBatch`. ValueError says what is wrong with it."""
    deployments = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, rest = item.partition("=")
        model, _, sku = rest.partition(":")
        if not name or model not in MODELS or sku not in SKUS:
            raise ValueError(f"{item!r} must be name=model:sku, the sku one of {', '.join(SKUS)}")
        deployments[name] = replace(MODELS[model], id=name, deployed=model, sku=sku)
    return deployments


def offer(models: dict[str, Model]) -> None:
    """For the start of the process."""
    global _offered
    _offered = models


def not_found(name: str) -> ApiError:
    code, message = flavours.current().unknown_model
    return ApiError(message.format(model=name), status=404, param="model", code=code)


def find(name: str) -> Model | None:
    """The model, unless it does not exist or its last day has passed."""
    model = _offered.get(name)
    return None if model is None or model.is_shut_down() else model


@bp.get("/models")
def list_models():
    return {
        "object": "list",
        "data": [model.as_object() for model in _offered.values() if not model.is_shut_down()],
    }


@bp.get("/models/<name>")
def retrieve_model(name: str):
    model = find(name)
    if model is None:
        raise not_found(name)
    return model.as_object()
