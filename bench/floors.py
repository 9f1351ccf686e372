"""What the batch rows are held against: the same rows in our schema, written by as little as can write them."""

from __future__ import annotations

CLAIM = """
    WITH first_jobs AS MATERIALIZED (
        SELECT id, attempt FROM jobs WHERE queue_id = :queue AND status = 'queued'
        ORDER BY queued_at, id LIMIT :take FOR UPDATE SKIP LOCKED
    ), opened AS (
        INSERT INTO batch_windows (queue_id, status, job_count, opened_because, opened_at, due_at)
        SELECT :queue, 'open', count(*), 'full', now(), now() FROM first_jobs HAVING count(*) = :take
        RETURNING id
    ), told AS (
        INSERT INTO window_events (window_id, at, event, actor) SELECT id, now(), 'opened', 'floor' FROM opened
    ), items AS (
        INSERT INTO batch_items (custom_id, window_id, job_id, attempt)
        SELECT 'w' || opened.id || '-j' || first_jobs.id || '-a' || attempt, opened.id, first_jobs.id, attempt
        FROM first_jobs, opened
    ), moved AS (
        UPDATE jobs SET status = 'claimed', claimed_at = now() FROM first_jobs, opened WHERE jobs.id = first_jobs.id
    )
    SELECT count(*) FROM opened
"""
INPUT = """
    COPY (SELECT i.custom_id, r.endpoint, r.body FROM batch_items i JOIN job_requests r ON r.job_id = i.job_id
          WHERE i.window_id = %s ORDER BY i.job_id) TO STDOUT
"""
INGEST = {
    "table": """CREATE TEMPORARY TABLE line (custom_id text, job_id bigint, answer_key text, status_code integer,
                    raw text, text text, error_code text, error_message text) ON COMMIT DROP""",
    "copy": "COPY line FROM STDIN",
    "apply": [
        "ANALYZE line",
        """INSERT INTO job_answers (job_id, attempt, answer_key, status_code, request_id, raw, received_at)
           SELECT job_id, 1, answer_key, status_code, 'req', raw, now() FROM line ON CONFLICT DO NOTHING""",
        """INSERT INTO ledger (job_id, attempt, answer_key, reason, user_id, profile_id, execution_mode, model,
                   answered_at, recorded_at, input_tokens, cached_input_tokens, output_tokens, input_price,
                   cached_input_price, output_price, amount, sync_amount)
           SELECT job_id, 1, answer_key, 'answer', user_id, profile_id, 'batch', 'gpt-6-luna', now(), now(), 1000, 0,
                  200, 0.05, 0.005, 0.25, 0.0001, 0.0002
           FROM line JOIN jobs ON jobs.id = job_id WHERE text IS NOT NULL ON CONFLICT DO NOTHING""",
        """UPDATE batch_items SET outcome = CASE WHEN text IS NULL THEN 'failed' ELSE 'completed' END,
                  error_code = line.error_code, error_message = line.error_message
           FROM line WHERE batch_items.custom_id = line.custom_id""",
        """UPDATE jobs SET status = CASE WHEN text IS NULL THEN 'failed' ELSE 'completed' END, finished_at = now(),
                  failure_code = line.error_code, failure_message = line.error_message
           FROM line WHERE jobs.id = line.job_id AND status = 'processing'""",
        """INSERT INTO job_events (job_id, at, from_status, to_status, actor, reason, attempt)
           SELECT job_id, now(), 'processing', CASE WHEN text IS NULL THEN 'failed' ELSE 'completed' END,
                  'window:' || :window, 'answered', 1 FROM line""",
        """INSERT INTO job_results (job_id, attempt, answer_key, text, is_cut, model, input_tokens,
                   cached_input_tokens, output_tokens, provider_ms, provider_ms_source, queue_ms, total_ms, created_at)
           SELECT job_id, 1, answer_key, text, false, 'gpt-6-luna', 1000, 0, 200, 1000, 'batch', 1, 1, now()
           FROM line WHERE text IS NOT NULL ON CONFLICT DO NOTHING""",
        """UPDATE batch_windows SET status = 'completed', finished_at = now() WHERE id = :window""",
    ],
}  # fmt: skip
_JOB = ("status, created_at, queued_at, user_id, profile_id, profile_version_id, execution_mode, batch_strategy,"
        " queue_id, inputs, need_by, retry_of, submission_id")  # fmt: skip
_REQUEST = ("endpoint, model, body, body_bytes, file_pages, most_input_tokens, max_output_tokens,"
            " estimated_input_tokens, estimated_output_tokens, estimated_amount, ceiling")  # fmt: skip
_EVENT = "at, to_status, actor, reason, attempt"
_NEWEST = "ORDER BY {} DESC LIMIT %s"
NEW_JOBS = {
    "read": {
        "jobs": f"SELECT {_JOB} FROM jobs {_NEWEST.format('id')}",
        "job_events": f"SELECT {_EVENT} FROM job_events WHERE to_status = 'queued' {_NEWEST.format('id')}",
        "job_requests": f"SELECT {_REQUEST} FROM job_requests {_NEWEST.format('job_id')}",
    },
    "copy": {
        "jobs": f"COPY jobs (id, {_JOB}) FROM STDIN",
        "job_events": f"COPY job_events (job_id, {_EVENT}) FROM STDIN",
        "job_requests": f"COPY job_requests (job_id, {_REQUEST}) FROM STDIN",
    },
}  # fmt: skip
