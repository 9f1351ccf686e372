"""A file of rows as a submission: JSON Lines, the inputs of a job on each. It is bought once, as a folder is."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sluice_client import state
from sluice_client.client import Client, Json
from sluice_client.errors import SluiceError
from sluice_client.state import Asked, State
from sluice_client.submitting import Order, Say, ask, file_of, key_of


def submit_rows(client: Client, known: State, path: Path, order: Order, say: Say) -> int:
    """The submission that these rows are in. Raises SluiceError."""
    file = file_of(path)
    files = {path.name: file.sha256}
    same = [one for one in known.submissions if order.is_of(one) and one.files == files]
    unheard = next((one for one in same if one.id is None), None)
    if same and not unheard and not order.again:
        say(f"{path.name} is in submission {same[-1].id} already (--again: once more).")
        return int(same[-1].id or 0)
    if unheard and unheard.is_old:
        known.submissions.remove(unheard)
        if not order.again:
            raise SluiceError(
                f"Nobody heard what became of {path.name} on {unheard.asked_at}: look at `sluice jobs --profile "
                f"{order.profile}`. If there are none of it, --again makes them."
            )
        unheard = None
    nonce = secrets.token_hex(8) if order.again else ""
    asked = unheard or Asked(
        profile=order.profile, inputs=dict(order.inputs), document_field="", as_file=False, files=files, documents=[],
        name=order.name, key=key_of("rows", order.profile, order.name, file.sha256, dict(order.inputs), nonce),
        asked_at=state.now(),
    )  # fmt: skip
    return ask(client, known, asked, _rows_of(path, order.inputs), say)


def _rows_of(path: Path, inputs: Mapping[str, Any]) -> Iterator[Json]:
    """What a row does not say is as in `inputs`. Raises SluiceError."""
    number = 0
    try:
        with path.open("rb") as lines:
            for line in lines:
                number += 1
                row = json.loads(line.decode("utf-8-sig"))
                if not isinstance(row, dict):
                    raise ValueError
                yield {**inputs, **row}
    except OSError as error:
        raise SluiceError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError):
        raise SluiceError(f"{path.name}: line {max(1, number)} is not a JSON object. Nothing was submitted.") from None
