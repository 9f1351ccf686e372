"""`sluice`: the commands. Results go to standard output, what is told on the way to standard error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sluice_client import commands
from sluice_client.errors import SluiceError

EPILOG = """\
exit codes:
  0  done, and every job has its answer
  1  not every job has an answer: failed, cancelled, or not ended yet
  2  this command, a file or the login is not right; nothing was asked
  3  Sluice refused it, and says why
  4  Sluice does not answer, or is in trouble: run the same command again
  130  stopped by Ctrl-C
"""
STATUSES = ("created", "queued", "claimed", "processing", "completed", "failed", "expired", "cancelled")


def main(given: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    arguments = parser().parse_args(given)
    try:
        return int(arguments.command(arguments))
    except SluiceError as error:
        commands.say(f"sluice: {error}")
        return 4 if error.is_passing else 3 if error.is_refusal else 2
    except KeyboardInterrupt:
        commands.say(f"\nStopped. {arguments.after_stop}")
        return 130
    except BrokenPipeError:  # whoever read this has read enough
        sys.stdout = None
        return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="sluice", description="AI jobs now, or in cheaper batch windows.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    found = made.add_subparsers(required=True, metavar="command")

    one = found.add_parser("login", help="keep an address and a token, in a file that only you can read")
    one.set_defaults(command=commands.login, after_stop="Nothing was kept.")

    one = found.add_parser("profiles", help="list the job types and what they want to know")
    one.set_defaults(command=commands.profiles, after_stop="")

    one = found.add_parser("submit", help="make a job of each PDF in a folder, or of each line of a file")
    one.add_argument("path", help="a folder (only the PDFs in it, not in its folders), or .jsonl: inputs on each line")
    one.add_argument("--profile", required=True, help="the job type")
    one.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="values",
        help="a field of the profile, the same for each job; several choices: give it several times",
    )
    one.add_argument("--mode", choices=sorted(commands.MODES), help="run now, or in a batch for half the price")
    one.add_argument("--name", help="of the submission; default: that of the folder or file")
    one.add_argument("--as-file", action="store_true", help="send the files themselves, not their text: for scans")
    one.add_argument("--skip-bad", action="store_true", help="leave out files that Sluice does not take")
    one.add_argument("--again", action="store_true", help="also files that were submitted before; sends them anew")
    one.add_argument("--state", help="where to remember what was submitted; default: .sluice.json, there")
    one.add_argument("--watch", action="store_true", help="stay until every job has ended")
    one.add_argument("--out", metavar="DIR", help="watch, then write the results there")
    after_stop = "Run the same command again: it goes on where it was, and buys nothing twice."
    one.set_defaults(command=commands.submit, after_stop=after_stop)

    one = found.add_parser("watch", help="stay until every job of a submission has ended")
    one.add_argument("submission", type=int)
    one.set_defaults(command=commands.watch, after_stop="The jobs go on.")

    one = found.add_parser("results", help="write a file for each job of a submission that has ended")
    one.add_argument("submission", type=int)
    one.add_argument("--out", metavar="DIR", required=True)
    one.set_defaults(command=commands.results, after_stop="Run it again: it writes what is missing.")

    one = found.add_parser("jobs", help="list your jobs, the newest first")
    one.add_argument("--status", choices=STATUSES)
    one.add_argument("--profile")
    one.add_argument("--mode", choices=sorted(commands.MODES))
    one.add_argument("--submission", type=int)
    one.add_argument("--limit", type=int, default=20, help="at most so many (20)")
    one.add_argument("--json", action="store_true", help="the API's JSON, a job on each line")
    one.set_defaults(command=commands.jobs, after_stop="")

    one = found.add_parser("cancel", help="withdraw jobs that nobody has started")
    one.add_argument("jobs", type=int, nargs="*", metavar="job")
    one.add_argument("--submission", type=int, help="all of its jobs that nobody has started")
    one.set_defaults(command=commands.cancel, after_stop="Run it again for the rest.")
    return made


if __name__ == "__main__":
    sys.exit(main())
