"""What each command of `sluice` does. Each returns the exit code (`cli.EPILOG`) and may raise SluiceError."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from sluice_client import downloading, rows, state, submitting, watching
from sluice_client import login as logins
from sluice_client.client import Client, Json
from sluice_client.errors import SluiceError

MODES = {"now": "sync", "batch": "batch"}
WAITING = ("created", "queued")  # nobody has started these
STATE_NAME = ".sluice.json"


def say(text: str, *, to_stdout: bool = False) -> None:
    """What others wrote cannot steer the terminal."""
    shown = "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    stream = sys.stdout if to_stdout else sys.stderr
    encoding = stream.encoding or "utf-8"
    print(shown.encode(encoding, "replace").decode(encoding), file=stream, flush=True)


def login(_: argparse.Namespace) -> int:
    if sys.stdin.isatty():
        url, token = input("Address of Sluice: "), getpass.getpass("API token (from the account page): ")
    else:
        url, token = sys.stdin.readline(), sys.stdin.readline()
    url, token = url.strip(), token.strip()
    Client(url, token, patience=5).openapi()
    say(f"Kept in {logins.save(url, token)}.")
    if url.startswith("http://"):
        say("This address is not https: on the way there others may read the token.")
    return 0


def profiles(_: argparse.Namespace) -> int:
    for one in _client().profiles():
        say(f"{one['id']}  {one['name']}: {one['description']}", to_stdout=True)
        needed = one["inputs"].get("required", [])
        for key, field in one["inputs"]["properties"].items():
            said = ["needed"] * (key in needed) + ["document"] * (key in one["documentFields"])
            if choices := _choices(field):
                said.append(" | ".join(map(str, choices)))
            if field.get("default") is not None:
                said.append(f"default {field['default']}")
            say(f"  {key}  {'; '.join(said)}".rstrip(), to_stdout=True)
    return 0


def submit(arguments: argparse.Namespace) -> int:
    client, path = _client(), Path(arguments.path)
    profile = next((one for one in client.profiles() if one["id"] == arguments.profile), None)
    if profile is None:
        raise SluiceError(f"There is no profile {arguments.profile}: see `sluice profiles`.")
    try:
        ids = _submitted(client, profile, path, arguments)
    except submitting.BadFiles as bad:
        say(f"Nothing was submitted. These files are not taken (--skip-bad leaves them out):\n{bad}")
        return 3
    for id_ in ids:
        print(id_, flush=True)
    named = " ".join(f"`sluice watch {id_}`" for id_ in ids)
    arguments.after_stop = f"The jobs go on: {named}."
    out = Path(arguments.out) if arguments.out else None
    return max((_follow(client, id_, out) for id_ in ids), default=0) if arguments.watch or out else 0


def _submitted(client: Client, profile: Json, path: Path, arguments: argparse.Namespace) -> list[int]:
    """The submissions of a folder or a file of rows. Raises SluiceError, or BadFiles."""
    inputs = _inputs(profile, arguments.values, arguments.mode)
    are_rows = path.suffix.lower() in (".jsonl", ".ndjson") and not path.is_dir()
    fields = [key for key in profile["documentFields"] if key not in inputs]
    order = submitting.Order(
        profile["id"], inputs, "" if are_rows else ",".join(fields), _printable(arguments.name or path.resolve().name),
        as_file=arguments.as_file, again=arguments.again, skip_bad=arguments.skip_bad,
    )  # fmt: skip
    known = state.load(Path(arguments.state or (path.parent if are_rows else path) / STATE_NAME), client.url)
    if are_rows:
        return [rows.submit_rows(client, known, path, order, say)]
    if len(fields) != 1:
        many = f"takes {len(fields) or 'no'} documents, not one for each job"
        raise SluiceError(f"The profile {profile['id']} {many}: give it a file of rows, .jsonl.")
    files = submitting.files_of(path)
    if not files:
        raise SluiceError(f"There is no PDF in {path}.")
    return submitting.submit(client, known, files, order, say)


def watch(arguments: argparse.Namespace) -> int:
    return _follow(_client(), arguments.submission, None)


def results(arguments: argparse.Namespace) -> int:
    return _download(_client(), arguments.submission, Path(arguments.out))


def jobs(arguments: argparse.Namespace) -> int:
    found = _client().list_jobs(
        status=arguments.status, profile=arguments.profile, submission=arguments.submission,
        mode=MODES.get(arguments.mode),
    )  # fmt: skip
    for one in islice(found, max(0, arguments.limit)):
        if arguments.json:
            print(json.dumps(one), flush=True)
        else:
            why = one["error"]["message"] if one["error"] else ""
            what = f"{one['id']:>8}  {one['status']:10}  {one['executionMode']:5}"
            say(f"{what}  {one['createdAt'][:19]}  {one['profile']}  {why}".rstrip(), to_stdout=True)
    return 0


def cancel(arguments: argparse.Namespace) -> int:
    """A job that was started meanwhile goes on, and is said: code 1."""
    client, code = _client(), 0
    if not arguments.jobs and arguments.submission is None:
        raise SluiceError("Say which: the ids of jobs, or --submission.")
    wanted = list(arguments.jobs)
    for status in WAITING if arguments.submission is not None else ():
        wanted += [one["id"] for one in client.list_jobs(submission=arguments.submission, status=status)]
    for job_id in wanted:
        try:
            client.cancel_job(job_id)
            say(f"Job {job_id} is cancelled.")
        except SluiceError as error:
            if error.status not in (404, 409):
                raise
            say(f"Job {job_id}: {error.detail}")
            code = 1
    return code


def _printable(name: str) -> str:
    return "".join(c for c in name if c.isprintable())[:200].strip() or "documents"


def _client() -> Client:
    return Client(*logins.load(), tell=say)


def _inputs(profile: Json, values: list[str], mode: str | None) -> Json:
    """Of `--set` and `--mode`. What does not fit the field's type is left as it is: the server says what is wrong."""
    inputs: Json = {}
    for given in values:
        key, is_pair, value = given.partition("=")
        field = profile["inputs"]["properties"].get(key)
        if not is_pair or field is None:
            known = ", ".join(profile["inputs"]["properties"])
            raise SluiceError(f"--set {given}: write KEY=VALUE, KEY one of {known}.")
        if "array" in _types(field):
            inputs.setdefault(key, []).append(value)
        else:
            inputs[key] = _typed(value, _types(field))
    if mode:
        if MODES[mode] not in profile["executionModes"]:
            raise SluiceError(f"The profile {profile['id']} cannot run so: --mode {mode}.")
        if "executionMode" in profile["inputs"]["properties"]:
            inputs["executionMode"] = MODES[mode]
    return inputs


def _types(field: Json) -> set[str]:
    return {str(one.get("type")) for one in (field, *field.get("anyOf", ()))}


def _choices(field: Json) -> list[Any]:
    parts = (field, field.get("items", {}), *field.get("anyOf", ()))
    return next((one["enum"] for one in parts if "enum" in one), [])


def _typed(value: str, types: set[str]) -> Any:
    """JSON for what is no text: 8, 0.5, true."""
    if "string" in types:
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _follow(client: Client, submission_id: int, out: Path | None) -> int:
    over = watching.watch(client, submission_id, sys.stderr)
    if out is not None:
        return _download(client, submission_id, out)
    return 0 if over["counts"].get("completed") == over["jobCount"] else 1


def _download(client: Client, submission_id: int, out: Path) -> int:
    tally = downloading.download(client, submission_id, out)
    parts = {
        f"answers written to {out}": tally.written, "there before": tally.there,
        "ended without an answer (*.error.json)": tally.failed, "not ended yet": tally.left,
    }  # fmt: skip
    say("; ".join(f"{what}: {count}" for what, count in parts.items() if count) + ".")
    return 1 if tally.failed or tally.left else 0
