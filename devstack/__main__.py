"""`python3 -m devstack run | test | exec | tool | psql | n8n-export | n8n-import | backup | restore | install`."""

from __future__ import annotations

import argparse
import os
import sys

from devstack import bootstrap, layout
from devstack.errors import StackError

DEVELOPING = ("test", "tool", "install")
WITH_N8N = ("run", "test", "install")


def main(argv: list[str]) -> int:
    arguments = _parser().parse_args(argv)
    folders = layout.for_checkout()
    groups = bootstrap.TEST if arguments.command in DEVELOPING else bootstrap.RUN
    python = bootstrap.ensure(folders, groups, with_n8n=arguments.command in WITH_N8N)
    if not bootstrap.is_inside(folders):
        os.chdir(layout.CHECKOUT)
        os.execv(python, [str(python), "-m", "devstack", *argv])  # noqa: S606
    # Only now: what follows needs the packages that were just installed.
    from devstack import commands

    return commands.COMMANDS[arguments.command](folders, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m devstack", description="Sluice on this machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    verbatim = {"prefix_chars": "\0", "add_help": False}  # every argument belongs to the other command
    commands.add_parser("run", help="bring everything up; Ctrl-C stops it")
    test = commands.add_parser("test", help="run all tests, or pytest with these arguments", **verbatim)
    test.add_argument("rest", nargs="*", metavar="pytest arguments")
    execute = commands.add_parser("exec", help="run a command as the running web app would", **verbatim)
    execute.add_argument("rest", nargs="+", metavar="command")
    tool = commands.add_parser("tool", aliases=["exec-dev"], help="run a command of the environment", **verbatim)
    tool.set_defaults(command="tool")
    tool.add_argument("rest", nargs="+", metavar="command")
    psql = commands.add_parser("psql", help="PostgreSQL's shell on the running database")
    psql.add_argument("database", nargs="?", default="sluice", choices=("sluice", "n8ndb"))
    commands.add_parser("n8n-export", help="bring edits made in n8n's editor into n8n/workflows")
    importing = commands.add_parser("n8n-import", help="bring n8n/workflows into n8n, while everything is stopped")
    importing.add_argument("--force", action="store_true", help="also over edits that were not exported")
    commands.add_parser("backup", help="write a backup into a new folder").add_argument("folder")
    commands.add_parser("restore", help="bring a backup into a checkout without data").add_argument("folder")
    commands.add_parser("install", help="install everything, for tests too, and start nothing")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except StackError as error:
        print(f"\n{error}", file=sys.stderr, flush=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
