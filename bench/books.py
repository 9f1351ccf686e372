"""A million jobs on the books, made by PostgreSQL itself: what the measured work has to find its way through."""

from __future__ import annotations

from sqlalchemy import Connection, text

# Jobs of a hundred users over the last 30 days, newest last: nine of ten in a batch, three in a hundred failed.
FINISHED = """
    INSERT INTO jobs (user_id, profile_id, profile_version_id, execution_mode, batch_strategy, queue_id, status,
                      inputs, created_at, queued_at, claimed_at, started_at, first_started_at, finished_at,
                      failure_code, failure_message)
    SELECT 1 + n % 100, 'text_classification', :version, mode, CASE mode WHEN 'batch' THEN 'count_only' END,
           CASE mode WHEN 'batch' THEN CAST(:queue AS bigint) END, status, '{"text": "Paid twice.", "labels": "a, b"}',
           at, CASE mode WHEN 'batch' THEN at END, CASE mode WHEN 'batch' THEN at + interval '20 minutes' END,
           at + interval '21 minutes', at + interval '21 minutes', at + interval '50 minutes',
           CASE status WHEN 'failed' THEN 'code' || n % 7 END, CASE status WHEN 'failed' THEN 'It did not work.' END
    FROM generate_series(1, :count) AS n,
         LATERAL (SELECT now() - interval '1 hour' - (:count - n) * (interval '30 days' / :count) AS at,
                         CASE n % 10 WHEN 0 THEN 'sync' ELSE 'batch' END AS mode,
                         CASE WHEN n % 33 = 0 THEN 'failed' ELSE 'completed' END AS status) AS job
"""
OF_FINISHED = (
    """INSERT INTO job_requests (job_id, endpoint, model, body, body_bytes, most_input_tokens, max_output_tokens,
                                 estimated_input_tokens, estimated_output_tokens, estimated_amount, ceiling)
       SELECT id, '/v1/responses', 'gpt-6-luna', '{"model":"gpt-6-luna","input":"Paid twice."}', 44, 30, 400, 25, 60,
              0.00001, 0.0001
       FROM jobs WHERE id > :after""",
    """INSERT INTO job_results (job_id, attempt, answer_key, text, is_cut, model, input_tokens, cached_input_tokens,
                                output_tokens, provider_ms, provider_ms_source, queue_ms, total_ms, created_at)
       SELECT id, 1, 'resp_' || id, '{"label": "a", "confidence": 0.5, "reason": "'
                          || repeat('It says so. ', 20) || '"}',
              false, 'gpt-6-luna', 25, 0, 60, 800 + id % 700, 'batch', 1260000, 3000000, finished_at
       FROM jobs WHERE id > :after AND status = 'completed'""",
    """INSERT INTO ledger (job_id, attempt, answer_key, reason, user_id, profile_id, execution_mode, model,
                           answered_at, recorded_at, input_tokens, cached_input_tokens, output_tokens, input_price,
                           cached_input_price, output_price, amount, sync_amount)
       SELECT id, 1, 'resp_' || id, 'answer', user_id, profile_id, execution_mode, 'gpt-6-luna', finished_at,
              finished_at, 25, 0, 60, 0.05, 0.005, 0.25, 0.00001625, 0.0000325
       FROM jobs WHERE id > :after AND status = 'completed'""",
    """INSERT INTO job_events (job_id, at, from_status, to_status, actor, reason, attempt)
       SELECT id, created_at, NULL, CASE execution_mode WHEN 'sync' THEN 'created' ELSE 'queued' END,
              'user:' || user_id, 'submitted by the user', 1
       FROM jobs WHERE id > :after
       UNION ALL
       SELECT id, finished_at, 'processing', status, 'window:1', 'answered', 1 FROM jobs WHERE id > :after""",
    """INSERT INTO batch_windows (queue_id, status, job_count, opened_because, opened_at, submitted_at, finished_at,
                                  due_at, provider_batch_id, provider_status)
       SELECT :queue, 'completed', 1000, 'full', at, at + interval '1 minute', at + interval '30 minutes', at,
              'batch_books_' || :after || '_' || n, 'completed'
       FROM generate_series(1, greatest(1, :count / 1000)) AS n,
            LATERAL (SELECT now() - interval '1 hour' - n * interval '30 minutes' AS at) AS window_""",
    """INSERT INTO batch_items (custom_id, window_id, job_id, attempt, outcome)
       SELECT 'w' || w || '-j' || j.id || '-a1', w, j.id, 1, j.status
       FROM (SELECT *, 1 + row_number() OVER (ORDER BY id) / 1000 AS place FROM jobs
             WHERE id > :after AND execution_mode = 'batch') AS j
       JOIN (SELECT id AS w, row_number() OVER (ORDER BY id) AS place FROM batch_windows
             WHERE starts_with(provider_batch_id, 'batch_books_' || :after || '_')) AS windows USING (place)""",
)
QUEUED = """
    INSERT INTO jobs (user_id, profile_id, profile_version_id, execution_mode, batch_strategy, queue_id, status,
                      inputs, created_at, queued_at)
    SELECT 1 + n % 100, 'text_classification', :version, 'batch', 'count_only', :queue, 'queued',
           '{"text": "Paid twice.", "labels": "a, b"}', at, at
    FROM generate_series(1, :count) AS n, LATERAL (SELECT now() - (:count - n) * interval '1 millisecond' AS at) AS job
"""
OF_QUEUED = (
    """INSERT INTO job_requests (job_id, endpoint, model, body, body_bytes, most_input_tokens, max_output_tokens)
       SELECT id, '/v1/responses', 'gpt-6-luna', body, length(body), length(body), 400
       FROM jobs, LATERAL (SELECT '{"model":"gpt-6-luna","input":"' || id || ' '
                                  || left(CAST(:filling AS text), greatest(0, :bytes - 60)) || '"}' AS body) AS made
       WHERE id > :after""",
    """INSERT INTO job_events (job_id, at, to_status, actor, reason, attempt)
       SELECT id, created_at, 'queued', 'user:' || user_id, 'submitted by the user', 1 FROM jobs WHERE id > :after""",
)


def finished_jobs(connection: Connection, version: int, queue: int, count: int) -> None:
    """So many more jobs that ended, with requests, results, ledger, events, windows and items."""
    after = _last_job(connection)
    values = {"version": version, "queue": queue, "count": count, "after": after}
    for statement in (FINISHED, *OF_FINISHED):
        connection.execute(text(statement), {name: values[name] for name in values if f":{name}" in statement})


def queued_jobs(connection: Connection, version: int, queue: int, count: int, body_bytes: int) -> None:
    """So many jobs that wait, each with a request of so many bytes (text that does not compress away)."""
    filling = " ".join(f"{number * 7919 % 99991:x}" for number in range(body_bytes // 3))
    values = {"version": version, "queue": queue, "count": count, "after": _last_job(connection),
              "bytes": body_bytes, "filling": filling}  # fmt: skip
    for statement in (QUEUED, *OF_QUEUED):
        connection.execute(text(statement), {name: values[name] for name in values if f":{name}" in statement})


def _last_job(connection: Connection) -> int:
    return int(connection.execute(text("SELECT coalesce(max(id), 0) FROM jobs")).scalar_one())
