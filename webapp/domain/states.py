"""The states of jobs and windows, and which moves between them are allowed.

`docs/lifecycle.md` tells the story; `services/lifecycle.py` is the only writer.
The database repeats the values in CHECK constraints; a test compares both.
"""

from __future__ import annotations

from enum import StrEnum


class ExecutionMode(StrEnum):
    SYNC = "sync"  # the job runs now, its user waits
    BATCH = "batch"  # the job waits for a batch window, at the batch price


class BatchStrategy(StrEnum):
    COUNT_ONLY = "count_only"  # a full window or nothing
    COUNT_OR_WAIT = "count_or_wait"  # full, or the oldest job has waited maxWaitSeconds
    DEADLINE = "deadline"  # the same, most urgent first; what is not back in time runs now


class JobStatus(StrEnum):
    CREATED = "created"  # sync: stored, n8n has not started it
    QUEUED = "queued"  # batch: waits for a window
    CLAIMED = "claimed"  # batch: in a window that the provider does not have yet
    PROCESSING = "processing"  # the provider has it, in both modes
    COMPLETED = "completed"  # an answer is stored
    FAILED = "failed"  # it ended without an answer; failure_message says why
    EXPIRED = "expired"  # the provider's window passed too often
    CANCELLED = "cancelled"  # its user or an admin withdrew it


class WindowStatus(StrEnum):
    OPEN = "open"  # its jobs are claimed; the provider batch does not exist, or we do not know
    SUBMITTED = "submitted"  # the provider batch exists; its own word is in provider_status
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class ItemOutcome(StrEnum):
    """How a job's ride in one window ended; NULL in the database means the item is open."""

    COMPLETED = "completed"  # a good answer
    FAILED = "failed"  # an answer that is an error, or a line that validation refused
    MISSING = "missing"  # the provider ended and has no line for it
    EXPIRED = "expired"  # the provider's window passed before it ran
    RELEASED = "released"  # the window ended without running it


class ProviderStatus(StrEnum):
    """The provider's own word for a batch, lower-cased (OpenAI Batch object, `status`)."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    GONE = "gone"  # our word: it has long denied that it has this batch


_C, _Q, _CL, _P = JobStatus.CREATED, JobStatus.QUEUED, JobStatus.CLAIMED, JobStatus.PROCESSING

JOB_MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    # target: sources
    JobStatus.PROCESSING: frozenset({_C, _CL}),  # start | submit
    JobStatus.CLAIMED: frozenset({_Q}),  # claim
    JobStatus.QUEUED: frozenset({_CL, _P}),  # the window ended without an answer for it
    JobStatus.CREATED: frozenset({_P, _Q, _CL}),  # the attempt was given up | its deadline: to sync
    JobStatus.COMPLETED: frozenset({_P, _C}),  # from created: a good answer to an earlier attempt
    JobStatus.FAILED: frozenset({_P, _C, _Q, _CL}),
    JobStatus.EXPIRED: frozenset({_P}),
    JobStatus.CANCELLED: frozenset({_C, _Q}),
}
WINDOW_MOVES: dict[WindowStatus, frozenset[WindowStatus]] = {
    WindowStatus.SUBMITTED: frozenset({WindowStatus.OPEN}),
    WindowStatus.COMPLETED: frozenset({WindowStatus.SUBMITTED}),
    WindowStatus.FAILED: frozenset({WindowStatus.OPEN, WindowStatus.SUBMITTED}),
    WindowStatus.EXPIRED: frozenset({WindowStatus.SUBMITTED}),
    WindowStatus.CANCELLED: frozenset({WindowStatus.OPEN, WindowStatus.SUBMITTED}),
}

TERMINAL_JOBS = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.EXPIRED, JobStatus.CANCELLED})
TERMINAL_WINDOWS = frozenset(
    {WindowStatus.COMPLETED, WindowStatus.FAILED, WindowStatus.EXPIRED, WindowStatus.CANCELLED}
)
TERMINAL_AT_PROVIDER = frozenset(
    {ProviderStatus.COMPLETED, ProviderStatus.FAILED, ProviderStatus.EXPIRED, ProviderStatus.CANCELLED,
     ProviderStatus.GONE}
)  # fmt: skip
