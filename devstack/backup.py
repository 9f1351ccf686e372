"""Backup and restore of this machine's system. docs/backup.md says what belongs to it, and what follows a restore.

A backup is a folder:

    sluice.dump, n8ndb.dump   pg_dump's custom format
    documents/                the files that people uploaded
    secrets.json              without n8n's encryption key and the passwords the databases are of little use
    imported.json             what n8n imported last: an edit in its editor can be told from an old file by it
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

from devstack import postgres_programs
from devstack.errors import StackError
from devstack.postgres import OWNERS, Cluster
from devstack.stack import Stack

IMPORTED = "imported.json"
SECRETS = "secrets.json"


def save(stack: Stack, folder: Path) -> None:
    """Write a backup of a stack whose PostgreSQL is up into a new folder. Raises StackError.

    The databases come first: a document that is uploaded meanwhile is a file without a row, not a row without a file.
    The folder has its name once all is in it; what failed leaves none.
    """
    part = folder.with_name(f"{folder.name}.part")
    if folder.exists():
        raise StackError(f"{folder} is there already: name a new folder for the backup.")
    try:
        part.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise StackError(f"{part} is there: a backup is being made, or one was killed: remove it then.") from None
    try:
        _fill(stack, part)
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _fill(stack: Stack, folder: Path) -> None:
    for database in OWNERS:
        dump = folder / f"{database}.dump"
        run_program(stack.cluster, "pg_dump", database, "--format=custom", f"--file={dump}")
    half_uploaded = shutil.ignore_patterns("*.partial")
    shutil.copytree(stack.layout.documents, folder / "documents", ignore=half_uploaded, copy_function=_copy_if_there)
    shutil.copy2(stack.layout.secrets_file, folder / SECRETS)
    if (imported := stack.layout.n8n_home / IMPORTED).exists():
        shutil.copy2(imported, folder)


def _copy_if_there(source: str, target: str) -> None:
    """Retention may delete a document at any moment; a row that still names it then is as old as the dump."""
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(source, target)


def restore(stack: Stack, folder: Path) -> None:
    """Bring a backup into a stack that has no data yet, bring its tables up to date and make it safe to start.

    PostgreSQL is up afterwards, nothing else. Raises StackError; a restore that fails leaves no database.
    """
    wanted = (*(f"{database}.dump" for database in OWNERS), "documents", SECRETS)
    missing = [name for name in wanted if not (folder / name).exists()]
    if missing:
        raise StackError(f"{folder} is no whole backup: {', '.join(missing)} is missing.")
    stack.claim()  # before anything is looked at or written: nobody else may start from this checkout meanwhile
    data, secrets = stack.layout.postgres_dir / "data", stack.layout.secrets_file
    if data.exists():
        stack.stop()
        raise StackError(
            f"There is a database in {data} already, and a backup never replaces one: move that folder away first."
        )
    kept = secrets.with_name(f"{SECRETS}.before-restore")
    if secrets.exists():
        secrets.replace(kept)  # those of the database that was moved away
    try:
        shutil.copy2(folder / SECRETS, secrets)
        stack.start_postgres()
        _load(stack, folder)
        stack.run_flask("migrate", "db", "upgrade")
        stack.run_flask("restored", "restored")
    except BaseException:
        # Half a restore must not be started by mistake; the backup is still there.
        stack.stop()
        shutil.rmtree(data, ignore_errors=True)
        secrets.unlink(missing_ok=True)
        if kept.exists():
            kept.replace(secrets)
        raise


def _load(stack: Stack, folder: Path) -> None:
    for database in OWNERS:
        options = ("--no-owner", "--no-acl", "--exit-on-error", f"--dbname={database}")
        run_program(stack.cluster, "pg_restore", database, *options, str(folder / f"{database}.dump"))
    shutil.copytree(folder / "documents", stack.layout.documents, dirs_exist_ok=True)
    if (folder / IMPORTED).exists():
        shutil.copy2(folder / IMPORTED, stack.layout.n8n_home)


def run_program(cluster: Cluster, program: str, database: str, *arguments: str) -> None:
    """One of PostgreSQL's programs on this database, as its owner; the password is in its environment only."""
    env = {**postgres_programs.environment(), **cluster.libpq_environment(database)}
    done = subprocess.run(
        [cluster.program(program), *arguments], env=env, capture_output=True, text=True, check=False
    )  # fmt: skip
    if done.returncode:
        raise StackError(f"{program} of {database} failed:\n{done.stderr.strip()}")
