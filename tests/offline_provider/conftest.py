"""A real server process on a free port, and the official client. Every test names only what differs."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from openai import OpenAI

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

KEY = "test-key"
ADMIN_TOKEN = "test-admin-token"
FAST = {
    "OFFLINE_PROVIDER_KEY": KEY,
    "OFFLINE_ADMIN_TOKEN": ADMIN_TOKEN,
    "OFFLINE_VALIDATING_SECONDS": "0",
    "OFFLINE_IN_PROGRESS_SECONDS": "0",
    "OFFLINE_FINALIZING_SECONDS": "0",
    "OFFLINE_CANCELLING_SECONDS": "0",
}
TERMINAL = ("completed", "failed", "expired", "cancelled")


def wait_for(condition: Callable, seconds: float = 20):
    """Poll until the condition gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {condition}"
        time.sleep(0.02)
    return result


class Provider:
    """One server process, its data folder, and what tests do with it."""

    def __init__(self, data_dir: Path, base_path: str = "/v1", **settings: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.bind = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{self.bind}"
        self.client = OpenAI(base_url=f"{self.url}{base_path}/", api_key=KEY, max_retries=0, timeout=30)
        self._env = {**os.environ, **FAST, **settings, "OFFLINE_BIND": self.bind}
        self._env["OFFLINE_DATA_DIR"] = str(data_dir)
        self._log = data_dir.with_suffix(".log")
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "offline_provider"]
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self._env, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        try:
            return self.get("/healthz")[0] == 200
        except OSError:
            return False

    def kill(self) -> None:
        """As the power would: all processes at once, no goodbye."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=10)

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.kill()

    def get(self, path: str, **headers: str) -> tuple[int, dict]:
        """A plain GET, without the client: (status, JSON body)."""
        return self._send(urllib.request.Request(self.url + path, headers=headers))

    def _send(self, request: urllib.request.Request) -> tuple[int, dict]:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def admin(self, path: str) -> dict:
        return self.get("/admin" + path, **{"X-Admin-Token": ADMIN_TOKEN})[1]

    def control(self, method: str, path: str, body=None) -> tuple[int, dict]:
        """A request to /admin: (status, JSON body)."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-Admin-Token": ADMIN_TOKEN}
        return self._send(urllib.request.Request(self.url + "/admin" + path, data, headers, method=method))

    def fault(self, kind: str, **more) -> dict:
        """Switch a fault on."""
        status, fault = self.control("POST", "/faults", {"kind": kind, **more})
        assert status == 200, fault
        return fault

    def struck(self, fault: dict) -> int:
        return next(one["struck"] for one in self.admin("/faults")["data"] if one["id"] == fault["id"])

    def calm(self) -> None:
        """No faults, and the real time."""
        self.control("DELETE", "/faults")
        self.control("PUT", "/clock", {"offset_seconds": 0})

    def usage_since(self, last_id: int) -> list[dict]:
        return self.admin(f"/usage?after={last_id}&limit=10000")["data"]

    def last_usage(self) -> int:
        return self.admin("/usage?limit=10000")["last_id"] or 0

    def usage_of(self, batch_id: str) -> list[dict]:
        rows, after = [], 0
        while True:
            page = self.admin(f"/usage?after={after}")
            rows += page["data"]
            if not page["has_more"]:
                return [row for row in rows if row["batch_id"] == batch_id]
            after = page["last_id"]

    def upload(self, content: bytes, purpose: str = "batch", **more):
        return self.client.files.create(file=("lines.jsonl", content), purpose=purpose, **more)

    def create_batch(self, lines: list[dict] | bytes, endpoint: str = "/v1/responses", **more):
        content = lines if isinstance(lines, bytes) else jsonl(lines)
        return self.client.batches.create(
            input_file_id=self.upload(content).id, endpoint=endpoint, completion_window="24h", **more
        )

    def finished(self, batch, seconds: float = 20):
        """The batch, once it has ended."""

        def ended():
            now = self.client.batches.retrieve(batch.id)
            return now if now.status in TERMINAL else None

        return wait_for(ended, seconds)

    def lines_of(self, file_id: str) -> list[dict]:
        return [json.loads(line) for line in self.client.files.content(file_id).text.splitlines()]


def jsonl(lines: list[dict]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@pytest.fixture(scope="session")
def start_provider(tmp_path_factory):
    """start_provider(OFFLINE_X="1") → a Provider of its own."""
    started = []

    def start(base_path: str = "/v1", **settings: str) -> Provider:
        started.append(Provider(tmp_path_factory.mktemp("provider") / "data", base_path, **settings))
        return started[-1]

    yield start
    for provider in started:
        provider.close()


@pytest.fixture(scope="session")
def provider(start_provider) -> Provider:
    """The server that most tests share: no waiting anywhere."""
    return start_provider()


@pytest.fixture(scope="session")
def client(provider) -> OpenAI:
    return provider.client


@pytest.fixture(scope="session")
def slow_provider(start_provider) -> Provider:
    """Its batches take 30 s for their lines: time to look, to cancel, to be killed."""
    return start_provider(OFFLINE_IN_PROGRESS_SECONDS="30")


@pytest.fixture(scope="session")
def wild_provider(start_provider) -> Provider:
    return start_provider()


@pytest.fixture
def wild(wild_provider):
    """A server to play havoc with: after each test it is calm again."""
    yield wild_provider
    wild_provider.calm()


@pytest.fixture
def make_app(tmp_path):
    """make_app(OFFLINE_X="1") → the app in this process. Its batch worker is not started."""
    from offline_provider import Settings, create_app

    def make(**settings: str):
        return create_app(Settings.from_env({**FAST, "OFFLINE_DATA_DIR": str(tmp_path / "data"), **settings}))

    return make


@pytest.fixture
def make_browser(make_app):
    """make_browser(OFFLINE_X="1") → a Flask test client that sends the key."""

    def make(**settings: str):
        return browser_of(make_app(**settings))

    return make


@pytest.fixture
def app(make_app):
    return make_app()


@pytest.fixture
def browser(app):
    return browser_of(app)


def browser_of(app):
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {KEY}"
    return client


class Advance:
    """Takes batches through their steps in this process: no thread, no waiting."""

    def __init__(self, app, browser):
        self._app, self._browser = app, browser

    def __call__(self, lines: list[dict], until: str):
        return self.run(self.create(lines), until)

    def create(self, lines: list[dict]):
        form = {"purpose": "batch", "file": (BytesIO(jsonl(lines)), "lines.jsonl")}
        file_id = self._browser.post("/v1/files", data=form).json["id"]
        body = {"input_file_id": file_id, "endpoint": "/v1/responses", "completion_window": "24h"}
        return self.now(self._browser.post("/v1/batches", json=body).json)

    def now(self, batch):
        return self._app.extensions["batches"].get(batch["id"])

    def step(self, batch) -> None:
        self._app.extensions["batch_steps"].advance(self.now(batch))

    def run(self, batch, until: str):
        for _ in range(100):
            if self.now(batch)["status"] == until:
                return self.now(batch)
            self.step(batch)
        raise AssertionError(f"the batch is {self.now(batch)['status']}, not {until}")

    def lines(self, file_id: str) -> list[dict]:
        content = self._app.extensions["files"].path(file_id).read_text()
        return [json.loads(line) for line in content.splitlines()]


@pytest.fixture
def advance(app, browser) -> Advance:
    return Advance(app, browser)


@pytest.fixture(scope="session")
def wait():
    """wait(condition) polls until the condition gives something true."""
    return wait_for


@pytest.fixture(scope="session")
def multipart():
    """multipart(purpose=b"batch", file=b"..") → a form for the test client, which would leave a temporary
    file behind if it had to write a large one itself."""

    def make(**fields: bytes) -> dict:
        parts = [
            b'--line\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
            % (name.encode(), b'; filename="x.jsonl"' if name == "file" else b"", value)
            for name, value in fields.items()
        ]
        return {"data": b"".join(parts) + b"--line--\r\n", "content_type": "multipart/form-data; boundary=line"}

    return make


@pytest.fixture
def benchmark_seconds():
    """benchmark_seconds(work) → how long it took."""

    def measure(work: Callable) -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return measure


@pytest.fixture(scope="session")
def make_line():
    """make_line("a", input=...) → one good line of /v1/responses, with changes to its body."""

    def make(custom_id: str, **body) -> dict:
        body = {"model": "gpt-6-luna", "input": "The cat sat on the mat. It was warm.", **body}
        return {"custom_id": custom_id, "method": "POST", "url": "/v1/responses", "body": body}

    return make


@pytest.fixture(scope="session")
def article() -> str:
    """Some real sentences."""
    return ARTICLE


@pytest.fixture(scope="session")
def make_pdf():
    """make_pdf("some text") → a PDF of one page with that text."""

    def make(text: str) -> bytes:
        stream = b"BT /F1 12 Tf 40 700 Td (" + text.encode("latin-1") + b") Tj ET"
        objects = [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R"
            b" /Resources << /Font << /F1 5 0 R >> >> >>",
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        ]
        body, offsets = b"%PDF-1.4\n", []
        for number, content in enumerate(objects, start=1):
            offsets.append(len(body))
            body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
        table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
        return (
            body
            + b"xref\n0 6\n0000000000 65535 f \n%strailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF"
            % (
                table,
                len(body),
            )
        )

    return make


ARTICLE = """The canal at Teddington

The lock at Teddington was built in 1811 and rebuilt several times since. It is the largest lock
on the river, and it marks the place where the tidal river ends. Dr. Hall measured the flow of the
river in March. He found that the flow had fallen by 12 percent in ten years, e.g. because of dry
winters. The lock keeper opens the gates when enough boats have gathered. A single boat has to
wait until others come, unless the keeper decides otherwise. Boats pay less when they pass together.
The keeper writes every passage into a book. The book shows which boats waited and for how long.
Visitors like the place for its calm. In summer the lock is crowded with small boats.
"""
