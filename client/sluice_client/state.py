"""What `sluice submit` remembers of a folder, in a file in it: so that nothing is sent, or bought, twice."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sluice_client.errors import SluiceError
from sluice_client.files import write_whole

VERSION = 1
KEYS_LIVE = timedelta(hours=20)  # the server forgets an Idempotency-Key after 24


@dataclass
class Asked:
    """A submission that was asked for; `id` is None as long as nobody has heard the answer."""

    profile: str
    inputs: dict[str, Any]  # the same for each job
    document_field: str
    as_file: bool
    files: dict[str, str]  # name: sha256
    documents: list[int]  # in the order of `files`
    name: str
    key: str
    asked_at: str
    id: int | None = None

    @property
    def is_old(self) -> bool:
        """The server may have forgotten the key."""
        return is_old(self.asked_at)

    def rows(self) -> list[dict[str, Any]]:
        """The inputs of each job."""
        return [{**self.inputs, self.document_field: document} for document in self.documents]


@dataclass
class State:
    """Of one folder, on one server."""

    path: Path
    server: str
    documents: dict[str, tuple[int, str]] = field(default_factory=dict)  # sha256 and name: (id, since when)
    submissions: list[Asked] = field(default_factory=list)

    def save(self) -> None:
        """Raises SluiceError."""
        others = _read(self.path)
        others[self.server] = {
            "documents": {key: one for key, one in self.documents.items() if not is_old(one[1])},
            "submissions": [asdict(one) for one in self.submissions],
        }
        text = json.dumps({"version": VERSION, "servers": others}, indent=1, ensure_ascii=False)
        write_whole(self.path, text.encode("utf-8", "surrogateescape"))


def load(path: Path, server: str) -> State:
    """Raises SluiceError."""
    own = _read(path).get(server, {})
    try:
        documents = {key: (int(id_), str(since)) for key, (id_, since) in own.get("documents", {}).items()}
        return State(path, server, documents, [Asked(**one) for one in own.get("submissions", [])])
    except (TypeError, ValueError, AttributeError):
        raise SluiceError(f"{path} is not what `sluice submit` left there: move it away to start anew.") from None


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def is_old(moment: str) -> bool:
    return datetime.now(UTC) - datetime.fromisoformat(moment) > KEYS_LIVE


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
        if found["version"] != VERSION:
            raise SluiceError(f"{path} is of another version of this client: use that one, or move it away.")
        return dict(found["servers"])
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SluiceError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError):
        raise SluiceError(f"{path} is not what `sluice submit` left there: move it away to start anew.") from None
