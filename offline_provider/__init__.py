"""The offline provider: OpenAI's API on loopback, without a network, a key from outside, or a model.

It imports nothing of the rest of the project: like the real service, it only knows HTTP.
"""

from flask import Blueprint, Flask

from . import admin, batches, clock, errors, files, flavours, http_faults, models, sync, web
from .batch_checks import BatchChecks
from .batch_steps import BatchSteps
from .batch_store import BatchStore
from .batch_worker import BatchWorker
from .db import Database
from .documents import Documents
from .faults import Faults
from .file_store import FileStore
from .limits import Limits
from .rate_limits import ModelLimits, SlidingLimit
from .settings import Settings

__all__ = ["Settings", "create_app"]


class OfflineProvider(Flask):
    request_class = files.StreamingRequest


def create_app(settings: Settings | None = None) -> Flask:
    """The app, with its batch worker not yet started: `app.extensions["batch_worker"].start()`."""
    settings = settings or Settings.from_env()
    app = OfflineProvider(__name__, static_folder=None)
    flavours.use(settings.flavour)
    models.offer(models.read_deployments(settings.deployments) or models.MODELS)
    app.json.sort_keys = False
    _build_parts(app, settings)
    errors.install(app)
    web.install(app)
    http_faults.install(app)
    app.register_blueprint(_v1())
    app.register_blueprint(admin.bp)
    app.add_url_rule("/healthz", "healthz", lambda: {"status": "ok"})
    return app


def _v1() -> Blueprint:
    """The whole API, behind the key."""
    v1 = Blueprint("v1", __name__, url_prefix=flavours.current().base_path)
    v1.before_request(web.check_key)
    for part in (models.bp, files.bp, sync.bp, batches.bp):
        v1.register_blueprint(part)
    return v1


def _build_parts(app: Flask, settings: Settings) -> None:
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(settings.data_dir / "offline.db")
    clock.set_offset(database.control("clock_offset", 0.0))
    limits = Limits(settings, database)
    faults = Faults(database)
    file_store = FileStore(database, settings.data_dir)
    documents = Documents(file_store)
    store = BatchStore(database)
    checks = BatchChecks(limits, store, file_store, faults)
    steps = BatchSteps(limits, store, file_store, documents, faults, checks)
    file_store.sweep()
    steps.sweep()

    def chores() -> None:
        file_store.delete_expired()
        sync.delete_old(database)

    app.config["SETTINGS"] = limits
    app.extensions.update(
        database=database,
        faults=faults,
        files=file_store,
        documents=documents,
        batches=store,
        batch_checks=checks,
        batch_steps=steps,
        batch_worker=BatchWorker(steps, store, chores, settings.data_dir / "worker.lock"),
        model_limits=ModelLimits(),
        upload_limit=SlidingLimit(60, "uploads per minute"),
    )
