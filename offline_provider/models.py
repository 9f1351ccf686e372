"""The models that this provider offers, with the announced shutdown dates. GET /v1/models."""

from dataclasses import dataclass
from datetime import UTC, datetime

from flask import Blueprint

from . import clock
from .errors import model_not_found

bp = Blueprint("models", __name__)


@dataclass(frozen=True)
class Model:
    id: str
    created: int  # unix seconds
    shutdown_date: str | None = None  # ISO date, the first day without the model
    context_window: int = 1_050_000  # tokens
    reasons: bool = True  # puts a `reasoning` item before its message

    @property
    def takes_temperature_while_reasoning(self) -> bool:
        return not self.id.startswith("gpt-6")

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


def find(name: str) -> Model | None:
    """The model, unless it does not exist or its last day has passed."""
    model = MODELS.get(name)
    return None if model is None or model.is_shut_down() else model


@bp.get("/models")
def list_models():
    return {
        "object": "list",
        "data": [model.as_object() for model in MODELS.values() if not model.is_shut_down()],
    }


@bp.get("/models/<name>")
def retrieve_model(name: str):
    model = find(name)
    if model is None:
        raise model_not_found(name)
    return model.as_object()
