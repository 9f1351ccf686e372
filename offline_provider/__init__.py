"""The offline provider: OpenAI's API on loopback, without a network, a key from outside, or a model.

It imports nothing of the rest of the project: like the real service, it only knows HTTP.
"""

from flask import Blueprint, Flask

from . import admin, batches, errors, files, models, sync, web
from .batch_steps import BatchSteps
from .batch_store import BatchStore
from .batch_worker import BatchWorker
from .db import Database
from .documents import Documents
from .file_store import FileStore
from .rate_limits import ModelLimits, SlidingLimit
from .settings import Settings

__all__ = ["Settings", "create_app"]


class OfflineProvider(Flask):
    request_class = files.StreamingRequest


def create_app(settings: Settings | None = None) -> Flask:
    """The app, with its batch worker not yet started: `app.extensions["batch_worker"].start()`."""
    settings = settings or Settings.from_env()
    app = OfflineProvider(__name__, static_folder=None)
    app.config["SETTINGS"] = settings
    app.json.sort_keys = False
    _build_parts(app, settings)
    errors.install(app)
    web.install(app)
    app.register_blueprint(_v1())
    app.register_blueprint(admin.bp)
    app.add_url_rule("/healthz", "healthz", lambda: {"status": "ok"})
    return app


def _v1() -> Blueprint:
    """The whole API, behind the key."""
    v1 = Blueprint("v1", __name__, url_prefix="/v1")
    v1.before_request(web.check_key)
    for part in (models.bp, files.bp, sync.bp, batches.bp):
        v1.register_blueprint(part)
    return v1


def _build_parts(app: Flask, settings: Settings) -> None:
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(settings.data_dir / "offline.db")
    file_store = FileStore(database, settings.data_dir)
    documents = Documents(file_store)
    store = BatchStore(database)
    steps = BatchSteps(settings, store, file_store, documents)
    file_store.sweep()
    steps.sweep()

    def chores() -> None:
        file_store.delete_expired()
        sync.delete_old(database)

    app.extensions.update(
        database=database,
        files=file_store,
        documents=documents,
        batches=store,
        batch_steps=steps,
        batch_worker=BatchWorker(steps, store, chores, settings.data_dir / "worker.lock"),
        model_limits=ModelLimits(),
        upload_limit=SlidingLimit(settings.uploads_per_minute, 60, "uploads per minute"),
    )
