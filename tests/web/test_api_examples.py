"""Each example of docs/api.md, run in a shell against a server, as a reader would."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from werkzeug.serving import make_server

from tests.conftest import DATA
from tests.factories import make_user
from tests.web.test_api_jobs import GOOD, AnsweringN8n
from webapp.config import ROOT
from webapp.domain.scopes import Scope
from webapp.parts import Parts
from webapp.services import accounts
from webapp.views.api import OPERATIONS

PAGE = (ROOT / "docs/api.md").read_text()


@pytest.fixture
def n8n(tables: Engine) -> Iterator[AnsweringN8n]:
    made = AnsweringN8n(tables)
    yield made
    for thread in made.threads:
        thread.join()


@pytest.fixture
def address(make_app: Any) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, make_app(), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_examples_work(
    address: str, session: Session, parts: Parts, n8n: AnsweringN8n, tmp_path: Path
) -> None:  # fmt: skip
    n8n.parts = parts
    shutil.copy(DATA / "two-pages.pdf", tmp_path / "report.pdf")
    token = accounts.create_token(session, make_user(session), "docs")
    examples = re.findall(r"^```\n(.+?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    environment = {"SLUICE": address, "SLUICE_TOKEN": token, "PATH": "/usr/bin:/bin"}
    said = [
        subprocess.run(["bash", "-ec", one], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
        for one in examples
    ]  # fmt: skip
    job, documents, submission = (json.loads(one.stdout) for one in said[:3])
    assert (job["status"], job["result"]["text"]) == ("completed", GOOD)
    assert documents["documents"][0]["filename"] == "report.pdf"
    assert (submission["id"], submission["counts"]) == (1, {"queued": 2})
    assert (len(said), said[3].stdout) == (4, "")


def test_the_page_names_every_scope_and_call(make_app: Any) -> None:
    for scope in {operation.scope for operation in OPERATIONS.values() if operation.scope}:
        assert f"`{scope}`" in PAGE
    assert set(re.findall(r"`(\w+:\w+)`", PAGE)) <= set(Scope)
    for rule in make_app().url_map.iter_rules():
        if rule.endpoint.startswith("api."):
            path = re.sub(r"<int:\w+>", "<id>", str(rule).removeprefix("/api/v1"))
            assert path.replace("/submissions/<id>/results", "…/results") in PAGE, path
