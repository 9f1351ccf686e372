"""How far a submission is: a bar on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import shutil
import time
from typing import TextIO

from sluice_client.client import Client, Json

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0  # seconds between two looks
ENDED = ("completed", "failed", "expired", "cancelled")
BAR = 30


def watch(client: Client, submission_id: int, screen: TextIO) -> Json:
    """Look until every job has ended; the submission then. Raises SluiceError."""
    pause, shown, is_terminal = FIRST_PAUSE, "", screen.isatty()
    try:
        while True:
            submission = client.get_submission(submission_id)
            text = progress(submission)
            if is_terminal:
                width = shutil.get_terminal_size().columns - 1
                print(f"\r{text[:width]:{width}}", end="", file=screen, flush=True)
            elif text != shown:
                print(text, file=screen, flush=True)
            if submission["isOver"]:
                return submission
            pause = FIRST_PAUSE if text != shown else min(pause * 1.5, LONGEST_PAUSE)
            shown = text
            time.sleep(pause)
    finally:
        if is_terminal:
            print(file=screen)


def progress(submission: Json) -> str:
    """[#####.....] 12 of 20 · 11 completed, 1 failed, 8 queued"""
    counts, job_count = submission["counts"], submission["jobCount"]
    ended = sum(counts.get(status, 0) for status in ENDED)
    bar = "#" * (BAR * ended // job_count)
    said = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"[{bar:.<{BAR}}] {ended} of {job_count} · {said}"
