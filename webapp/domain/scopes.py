"""What an API token may do."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    DOCUMENTS_WRITE = "documents:write"
    USAGE_READ = "usage:read"
    WEBHOOKS_WRITE = "webhooks:write"


SENTENCES = {
    Scope.JOBS_READ: "see jobs, results, submissions and profiles",
    Scope.JOBS_WRITE: "make, repeat and cancel jobs",
    Scope.DOCUMENTS_WRITE: "upload, see and delete documents",
    Scope.USAGE_READ: "see what was used and what it cost",
    Scope.WEBHOOKS_WRITE: "manage webhooks",
}
