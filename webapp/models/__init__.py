"""The tables. Re-exported here for Alembic and the shell."""

from webapp.models.base import Base
from webapp.models.batch import BatchItem, BatchWindow, Queue, StrayBatch, WindowEvent
from webapp.models.benchmark import BenchmarkRun, BenchmarkSample, BenchmarkStatus
from webapp.models.document import Document
from webapp.models.job import Job, JobAnswer, JobDocument, JobEvent, JobRequest, JobResult, ProfileVersion
from webapp.models.ledger import Budget, CostDay, CostHour, LedgerEntry, RollUp
from webapp.models.operation import (
    AuditEvent,
    ClockOffset,
    ExecutionFailure,
    Heartbeat,
    ProviderModel,
    RetentionReceipt,
)
from webapp.models.submission import IdempotencyKey, Submission
from webapp.models.user import ApiToken, Person, SignInFailure, User
from webapp.models.webhook import Webhook, WebhookDelivery

__all__ = [
    "ApiToken", "AuditEvent", "Base", "BatchItem", "BatchWindow", "BenchmarkRun", "BenchmarkSample",
    "BenchmarkStatus", "Budget", "ClockOffset", "CostDay", "CostHour", "Document", "ExecutionFailure", "Heartbeat",
    "IdempotencyKey", "Job", "JobAnswer", "JobDocument", "JobEvent", "JobRequest", "JobResult", "LedgerEntry",
    "Person", "ProfileVersion", "ProviderModel", "Queue", "RetentionReceipt", "RollUp", "SignInFailure", "StrayBatch",
    "Submission", "User", "Webhook", "WebhookDelivery", "WindowEvent",
]  # fmt: skip
