"""Writes a checkout with the smallest possible app and provider, for tests of what starts and stops them."""

from __future__ import annotations

from pathlib import Path

WSGI = """
import json, os, signal
import click
from flask import Flask
from flask_migrate import Migrate

def wanted(text):
    return {name: os.environ.get(name) for name in text.split()}

def make(name):
    app = Flask(name)
    Migrate(app, db=object(), directory="migrations")

    @app.get("/healthz")
    def healthz():
        return "alive"

    @app.get("/readyz")
    def readyz():
        return "ready"

    @app.get("/environment")
    def environment():
        return dict(os.environ)

    @app.cli.command("create-admin")
    @click.option("--email")
    def create_admin(email):
        assert os.environ["SLUICE_ADMIN_PASSWORD"]
        open(os.path.join(os.environ["STORAGE_DIR"], "admins"), "a").write(email + "\\n")

    @app.cli.command("heartbeat")
    def heartbeat():
        print("the heart beats", flush=True)
        signal.pause()

    return app

app = make("web")
internal = make("internal")
"""

PROVIDER = """
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

host, port = os.environ["OFFLINE_BIND"].split(":")
assert os.path.isdir(os.environ["OFFLINE_DATA_DIR"])
assert os.environ["OFFLINE_PROVIDER_KEY"] and os.environ["OFFLINE_ADMIN_TOKEN"]
HTTPServer((host, int(port)), Handler).serve_forever()
"""

# Starts the stack as `make run` does: with the folder, the checkout and the ports that the arguments name.
DRIVER = """
import json, sys
from pathlib import Path
from devstack import layout
from devstack.commands import supervise
from devstack.errors import StackError
from devstack.processes import Console
from devstack.stack import Stack

folder, checkout, ports = sys.argv[1:]
stack = Stack(
    layout.for_folder(Path(folder)), ports=json.loads(ports), checkout=Path(checkout), durable=False, console=Console()
)
try:
    sys.exit(supervise(stack))
except StackError as error:
    sys.exit(str(error))
"""


def write(folder: Path) -> Path:
    (folder / "offline_provider").mkdir(parents=True)
    (folder / "migrations").mkdir()
    (folder / "wsgi.py").write_text(WSGI)
    (folder / "offline_provider" / "__init__.py").touch()
    (folder / "offline_provider" / "__main__.py").write_text(PROVIDER)
    (folder / "migrations" / "env.py").touch()
    (folder / "migrations" / "alembic.ini").write_text("[alembic]\n")
    return folder
