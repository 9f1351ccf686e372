"""Makes the two database roles, the app's and n8n's, and lets each into its own database only.

The migration job runs this before the migrations, as the server's administrator, who on Azure is no superuser. It is
safe to run again, and sets the passwords to those of the vault: so a rotated one reaches the server.

Environment: `PGHOST`, `PGUSER`, `PGPASSWORD`, `PGSSLMODE`, `PGSSLROOTCERT` for the administrator (libpq reads them);
`DATABASE_URL` with the app's role, password and database; `DB_POSTGRESDB_USER`, `DB_POSTGRESDB_PASSWORD` and
`DB_POSTGRESDB_DATABASE`, as n8n has them. The three with a password may each be given as a file, too (`NAME_FILE`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg import sql


@dataclass(frozen=True)
class Tenant:
    """A role and the database that is its own."""

    role: str
    password: str
    database: str


def read_secret(environ: Mapping[str, str], name: str) -> str:
    """A variable, or the content of the file that NAME_FILE names. Raises KeyError if neither is set, OSError."""
    if path := environ.get(f"{name}_FILE"):
        return Path(path).read_text(encoding="utf-8").strip()
    return environ[name]


def read_tenants(environ: Mapping[str, str]) -> list[Tenant]:
    """The app's and n8n's. Raises KeyError for a variable that is not set, ValueError for an incomplete address."""
    url = urlsplit(read_secret(environ, "DATABASE_URL"))
    if not url.username or not url.password or len(url.path) < 2:
        raise ValueError("DATABASE_URL must name role, password and database")
    return [
        Tenant(unquote(url.username), unquote(url.password), unquote(url.path[1:])),
        Tenant(
            environ["DB_POSTGRESDB_USER"],
            read_secret(environ, "DB_POSTGRESDB_PASSWORD"),
            environ["DB_POSTGRESDB_DATABASE"],
        ),
    ]  # fmt: skip


def ensure(connection: psycopg.Connection, tenant: Tenant) -> None:
    """Make the role if it is not there, set its password, and close its database to everybody else.

    `connection` is the administrator's, to `tenant.database`, in autocommit mode.
    """
    role, database = sql.Identifier(tenant.role), sql.Identifier(tenant.database)
    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [tenant.role]).fetchone():
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    # Hashed here: the password itself must not be in a statement that the server may log.
    verifier = connection.pgconn.encrypt_password(tenant.password.encode(), tenant.role.encode(), b"scram-sha-256")
    for statement in (
        sql.SQL("ALTER ROLE {role} LOGIN NOCREATEDB NOCREATEROLE PASSWORD {verifier}"),
        sql.SQL("REVOKE ALL ON DATABASE {database} FROM PUBLIC"),
        sql.SQL("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {database} TO {role}"),
        sql.SQL("REVOKE ALL ON SCHEMA public FROM PUBLIC"),
        sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {role}"),
    ):
        connection.execute(statement.format(role=role, database=database, verifier=sql.Literal(verifier.decode())))


def main() -> None:
    password = read_secret(os.environ, "PGPASSWORD")
    for tenant in read_tenants(os.environ):
        with psycopg.connect(dbname=tenant.database, password=password, autocommit=True) as connection:
            ensure(connection, tenant)
        print(f"{tenant.role} may use {tenant.database}, and nobody else may.")


if __name__ == "__main__":
    main()
