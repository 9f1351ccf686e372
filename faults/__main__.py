"""`python -m faults --runs 200 --seed 1`: see README.md."""

from __future__ import annotations

import argparse
import signal
import sys
import time

from devstack import layout
from devstack.errors import StackError
from faults import report
from faults.catalogue import CATALOGUE
from faults.harness import deal, harness


def main() -> int:
    arguments = _arguments()
    if arguments.list:
        print("\n".join(CATALOGUE))
        return 0
    faults = deal(arguments.runs, arguments.seed, arguments.only)
    if not faults:
        print(f"No fault has {arguments.only!r} in its name: --list names them all.", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    path = layout.for_checkout().state_dir / "faults" / f"report-{arguments.seed}.json"
    entries: list[report.Entry] = []
    with harness(arguments.seed) as system:
        started = time.monotonic()
        try:
            for fault in faults:
                entries.append(system.run(fault))
                print(entries[-1].line(), flush=True)
        except KeyboardInterrupt:
            print("Interrupted", flush=True)
        finally:
            tally = system.judge.tally
            print(report.summary(entries, tally, arguments.seed, time.monotonic() - started), flush=True)
            report.write(path, entries, tally, arguments.seed)
            print(f"\n{path}", flush=True)
            if arguments.logs:
                system.stack.keep_logs(path.with_suffix(""))
    is_clean = len(entries) == len(faults) and not any(entry.defects for entry in entries)
    return 0 if is_clean else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faults", description="Faults on a real system, and a judge.")
    parser.add_argument("--runs", type=int, default=10, help="how many faults, one after another")
    parser.add_argument("--seed", type=int, default=1, help="decides which, in which order, and every random choice")
    parser.add_argument("--only", default="", metavar="PART", help="only faults with this in their name")
    parser.add_argument("--list", action="store_true", help="print the catalogue")
    parser.add_argument("--logs", action="store_true", help="keep what the parts have said, beside the report")
    return parser.parse_args()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StackError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)
