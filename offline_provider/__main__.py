"""python -m offline_provider: one gunicorn process with threads, and the batch worker beside them."""

import sys

from gunicorn.app.base import BaseApplication

from . import create_app, engine
from .flavours import FLAVOURS
from .settings import BadSettings, Settings

STOP_SECONDS = 2


class Server(BaseApplication):
    def __init__(self, settings: Settings):
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        options = {
            "bind": self._settings.bind,
            "workers": 1,  # the batch worker and its wake-ups live in this one process
            "worker_class": "gthread",
            "threads": self._settings.threads,
            "timeout": 120,
            "graceful_timeout": STOP_SECONDS,
            "keepalive": 30,
            "loglevel": "warning",
            "control_socket_disable": True,
            "proc_name": "offline-provider",
            "worker_exit": _stop_batch_worker,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self):
        """Runs in the worker process: neither a thread nor a database connection survives a fork."""
        self.app = create_app(self._settings)
        engine.summarise("Warm up.", "")  # reads the stop words, so that no caller waits for them
        self.app.extensions["batch_worker"].start()
        return self.app


def _stop_batch_worker(server, worker) -> None:
    app = getattr(worker.app, "app", None)
    if app is not None:
        app.extensions["batch_worker"].stop(STOP_SECONDS)


def main() -> None:
    try:
        settings = Settings.from_env()
    except BadSettings as fault:
        sys.exit(f"The offline provider cannot start:\n{fault}")
    print(f"Offline provider on http://{settings.bind}{FLAVOURS[settings.flavour].base_path}", flush=True)
    Server(settings).run()


if __name__ == "__main__":
    main()
