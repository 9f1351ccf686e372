"""50,000 jobs on the books, and all that goes with them: made by PostgreSQL itself, in seconds."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from bench import books
from tests.factories import make_user
from webapp.parts import Parts
from webapp.services import costs
from webapp.services.registry import store_version

JOBS = {"finished": 46_000, "by_deadline": 300, "sync": 700, "riding": 1_500, "queued": 1_500}  # 50,000
COUNTS = {"users": 100, "documents": 10_000, "old_windows": 5_000, "riding": JOBS["riding"]}

USERS = """
    INSERT INTO users (email, password_hash)
    SELECT 'user' || n || '@example.org', 'none' FROM generate_series(1, :users) AS n
"""
QUEUES = """
    INSERT INTO queues (profile_id, endpoint, model, strategy)
    SELECT 'text_classification', '/v1/responses', 'gpt-6-luna', unnest(ARRAY['count_only', 'deadline']) RETURNING id
"""
# In the order of the ids: finished, with a deadline, sync (one of fifty runs, some were handed to n8n), riding, queued.
UNFINISHED = (
    """UPDATE jobs SET batch_strategy = 'deadline', queue_id = :deadline_queue,
              need_by = now() + interval '1 day' + id * interval '1 second' WHERE id BETWEEN :deadline AND :sync - 1""",
    """UPDATE jobs SET execution_mode = 'sync', batch_strategy = NULL, queue_id = NULL, queued_at = NULL,
              status = CASE WHEN id % 50 = 0 THEN 'processing' ELSE 'created' END,
              execution_id = CASE WHEN id % 50 = 0 THEN 'e' || id END,
              first_started_at = CASE WHEN id % 50 = 0 THEN now() END,
              lease_until = CASE WHEN id % 50 = 0 THEN now() + interval '1 minute' END,
              dispatched_at = CASE WHEN id % 20 = 0 THEN now() END WHERE id BETWEEN :sync AND :riding_from - 1""",
    """INSERT INTO batch_windows (queue_id, status, job_count, opened_because, opened_at, submitted_at, due_at,
                                  input_file_id, provider_batch_id, provider_status)
       SELECT :queue, 'submitted', :riding / 3, 'full', now(), now(), now() + n * interval '1 hour', 'file_' || n,
              'batch_rides_' || n, 'in_progress' FROM generate_series(1, 3) AS n""",
    """INSERT INTO batch_items (custom_id, window_id, job_id, attempt)
       SELECT 'w' || w.id || '-j' || j.id || '-a1', w.id, j.id, 1
       FROM (SELECT id, 1 + id % 3 AS place FROM jobs WHERE id BETWEEN :riding_from AND :queued - 1) AS j
       JOIN (SELECT id, row_number() OVER (ORDER BY id) AS place FROM batch_windows WHERE finished_at IS NULL) AS w
       USING (place)""",
    """UPDATE jobs SET status = 'processing', started_at = now(), first_started_at = now(), claimed_at = now()
       WHERE id BETWEEN :riding_from AND :queued - 1""",
)
AROUND = (
    # Submission 1 is large and waits; those of user 3 (102, 202, …) have a hundred jobs, and have ended.
    """INSERT INTO submissions (user_id, profile_id, source, name, job_count, created_at, finished_at)
       SELECT 1 + n % :users, 'text_classification', 'rows', 'rows.csv', 100, now() - n * interval '1 hour',
              CASE WHEN n > 20 THEN now() END FROM generate_series(1, 1000) AS n""",
    """UPDATE jobs SET submission_id = 102 + place / 100 * 100
       FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM jobs WHERE user_id = 3) AS own
       WHERE own.id = jobs.id AND place < 900 AND finished_at IS NOT NULL""",
    "UPDATE jobs SET submission_id = 1, user_id = 2 WHERE id >= :riding_from",
    "UPDATE jobs SET retry_of = id - 1000 WHERE id > 1000 AND id % 500 = 0",
    # Retention has come to all documents that are old enough, but for ten.
    """INSERT INTO documents (user_id, filename, content_type, bytes, sha256, storage_key, pages, text, created_at,
                              deleted_at, bytes_deleted_at)
       SELECT 1 + n % :users, 'report-' || n || '.pdf', 'application/pdf', 1000, '', 'key-' || n, 1, '', at, gone, gone
       FROM generate_series(1, :documents) AS n, LATERAL (SELECT n * interval '90 days' / :documents AS age) AS a,
            LATERAL (SELECT now() - age AS at, CASE WHEN age > interval '30 days' + interval '2 hours' THEN now() END
                     AS gone) AS b""",
    """INSERT INTO job_documents (job_id, document_id) SELECT id, 1 + id % :documents FROM jobs WHERE id % 3 = 0""",
    """INSERT INTO job_answers (job_id, attempt, answer_key, status_code, raw, received_at)
       SELECT id, 1, 'resp_' || id, CASE status WHEN 'failed' THEN 400 ELSE 200 END, '{}', finished_at
       FROM jobs WHERE finished_at IS NOT NULL""",
    """INSERT INTO batch_windows (queue_id, status, job_count, opened_because, opened_at, submitted_at, finished_at,
                                  due_at, provider_batch_id, provider_status, files_deleted_at, needs_attention)
       SELECT :queue, CASE WHEN n % 100 = 0 THEN 'failed' ELSE 'completed' END, 1, 'full', at, at, at, at,
              'batch_old_' || n, 'completed', CASE WHEN n > 168 THEN now() END, CASE WHEN n % 1000 = 0 THEN 'a line' END
       FROM generate_series(1, :old_windows) AS n, LATERAL (SELECT now() - n * interval '1 hour' AS at) AS old""",
    """INSERT INTO window_events (window_id, at, event, actor)
       SELECT id, opened_at, unnest(ARRAY['opened', 'submitted', 'settled']), 'app' FROM batch_windows""",
    """INSERT INTO webhooks (user_id, url, event_types, salt, created_at)
       SELECT n, 'https://example.org/' || n, ARRAY['job.completed'], 'salt', now() FROM generate_series(1, 20) AS n""",
    """INSERT INTO webhook_deliveries (webhook_id, event_type, target_id, created_at, due_at, delivered_at)
       SELECT user_id, 'job.completed', id, finished_at, CASE WHEN id % 7 = 0 THEN finished_at END,
              CASE WHEN id % 7 > 0 THEN finished_at END FROM jobs WHERE status = 'completed' AND user_id <= 20""",
    """INSERT INTO idempotency_keys (user_id, key, request_hash, target, created_at)
       SELECT 1 + n % :users, 'key-' || n, '', 'job:' || n, now() - n * interval '9 seconds'
       FROM generate_series(1, 10000) AS n""",
    """INSERT INTO api_tokens (user_id, name, token_hash, scopes)
       SELECT 1 + n % :users, 'token', 'hash-' || n, '{}' FROM generate_series(1, 2000) AS n""",
    """INSERT INTO audit_events (at, user_id, action, target, reason)
       SELECT now() - n * interval '1 hour', 1, 'hold_queue', 'queue:' || n % 100, 'Because.'
       FROM generate_series(1, 5000) AS n""",
    """INSERT INTO execution_failures (execution_id, workflow, last_node, message, reported_at)
       SELECT 'e' || n, 'run', 'Ask', 'It failed.', now() - n * interval '1 hour' FROM generate_series(1, 5000) AS n""",
    """INSERT INTO benchmark_runs (user_id, profile_id, note, tiers, modes, jobs_per_step, repetitions, status,
                                   created_at, finished_at)
       SELECT 1, 'pdf_summary', '', '[]', '[]', 1, 1, 'completed', now(), now() FROM generate_series(1, 20)""",
    """INSERT INTO benchmark_samples (job_id, run_id, repetition, execution_mode, tier)
       SELECT id, 1 + id % 20, 1, execution_mode, 'S' FROM jobs WHERE id % 20 = 0""",
    "UPDATE ledger SET amount = NULL WHERE id % 500 = 0",
)  # fmt: skip


@dataclass(frozen=True)
class Books:
    """Ids of what is there of each kind, and where each kind of jobs begins."""

    queue: int
    deadline_queue: int
    admin: int
    deadline: int = JOBS["finished"] + 1
    sync: int = JOBS["finished"] + JOBS["by_deadline"] + 1
    riding: int = JOBS["finished"] + JOBS["by_deadline"] + JOBS["sync"] + 1
    queued: int = JOBS["finished"] + JOBS["by_deadline"] + JOBS["sync"] + JOBS["riding"] + 1
    user: int = 3
    finished: int = 22_502  # a job of this user, which rode in …
    window: int = 21
    submission: int = 302  # of this user: a hundred jobs
    large_submission: int = 1
    document: int = 102  # of this user


def fill(engine: Engine, parts: Parts) -> Books:
    """Commits. Does not ANALYZE."""
    with Session(engine) as session:
        session.execute(text(USERS), COUNTS)
        queues = session.scalars(text(QUEUES)).all()
        version = store_version(session, parts.profiles.get("text_classification"))
        found = Books(*queues, make_user(session, "admin@example.org", role="admin").id)
    with engine.begin() as connection:
        books.finished_jobs(connection, version, found.queue, JOBS["finished"])
        books.queued_jobs(connection, version, found.queue, sum(JOBS.values()) - JOBS["finished"], 300)
        values = COUNTS | {"queue": found.queue, "deadline_queue": found.deadline_queue, "deadline": found.deadline,
                           "sync": found.sync, "riding_from": found.riding, "queued": found.queued}  # fmt: skip
        for statement in (*UNFINISHED, *AROUND):
            connection.execute(text(statement), values)
    with Session(engine) as session:
        costs.roll_up(session)
    return found
