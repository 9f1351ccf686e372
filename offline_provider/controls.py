"""/admin/clock, /admin/faults and /admin/limits: how a test makes this provider misbehave. All of it is kept."""

from flask import Blueprint, current_app

from . import clock, fault_kinds, web
from .db import Database
from .errors import ApiError, invalid_value
from .faults import Faults
from .limits import Limits

bp = Blueprint("controls", __name__)


@bp.get("/clock")
def show_clock():
    return {"now": clock.now(), "offset_seconds": clock.offset()}


@bp.put("/clock")
def set_clock():
    """`{"offset_seconds": n}`: how far this provider is ahead of the real time."""
    seconds = web.read_json().get("offset_seconds")
    if not clock.is_offset(seconds):
        most = f"{clock.MAX_OFFSET_SECONDS:.0f}"
        raise invalid_value("offset_seconds", f"'offset_seconds' must be a number from 0 to {most}.")
    _db().set_control("clock_offset", float(seconds))
    clock.set_offset(float(seconds))
    _wake()
    return show_clock()


@bp.get("/faults")
def list_faults():
    return {"object": "list", "data": [fault.as_object() for fault in _faults().all()]}


@bp.put("/faults")
def replace_faults():
    given = web.as_json(web.read_raw())
    if not isinstance(given, list):
        raise invalid_value("body", "The body must be an array of faults.")
    _faults().replace([fault_kinds.read(fault, f"[{number}].") for number, fault in enumerate(given)])
    _wake()
    return list_faults()


@bp.post("/faults")
def add_fault():
    fault = _faults().add(fault_kinds.read(web.read_json()))
    _wake()
    return fault.as_object()


@bp.delete("/faults")
def remove_all_faults():
    _faults().replace([])
    _wake()
    return list_faults()


@bp.delete("/faults/<int:fault_id>")
def remove_fault(fault_id: int):
    if not _faults().remove(fault_id):
        raise ApiError(f"There is no fault {fault_id}.", status=404, param="id")
    _wake()
    return {"id": fault_id, "deleted": True}


@bp.get("/limits")
def show_limits():
    return _limits().now()


@bp.put("/limits")
def change_limits():
    """An object with the limits and durations to change; the others stay as they are."""
    _limits().change(web.read_json())
    _wake()
    return show_limits()


def _wake() -> None:
    """A batch may have been waiting for just this."""
    current_app.extensions["batch_worker"].wake()


def _faults() -> Faults:
    return current_app.extensions["faults"]


def _limits() -> Limits:
    return current_app.config["SETTINGS"]


def _db() -> Database:
    return current_app.extensions["database"]
