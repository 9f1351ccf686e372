"""What must hold in the database, each as one query for what breaks it. `services/doctor.py` asks them all.

Some are constraints of the database as well: then a row here means that somebody has worked around them. Those about
time allow the heartbeat a minute, n8n a quarter of an hour.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Invariant:
    """`query` gives one text for each thing that breaks it; it may use the parameters of `doctor._parameters`."""

    name: str
    holds: str  # what is true of a healthy system
    broken_by: str  # what it means if it is not
    query: str


INVARIANTS = (
    Invariant(
        "job_ends",
        "A job has ended exactly when it has a finished time.",
        "A state was written past services/lifecycle.py.",
        """SELECT 'job ' || id FROM jobs
           WHERE (finished_at IS NOT NULL) <> (status IN ('completed', 'failed', 'expired', 'cancelled'))""",
    ),
    Invariant(
        "window_ends",
        "A window has ended exactly when it has a finished time, and then nobody has a lease on it.",
        "A state was written past services/lifecycle.py.",
        """SELECT 'window ' || id FROM batch_windows
           WHERE (finished_at IS NOT NULL) <> (status IN ('completed', 'failed', 'expired', 'cancelled'))
              OR (finished_at IS NOT NULL AND lease_token IS NOT NULL)""",
    ),
    Invariant(
        "end_is_told",
        "Every ended job has an event that tells how.",
        "A job was moved without its event.",
        """SELECT 'job ' || j.id FROM jobs j WHERE j.finished_at IS NOT NULL AND NOT EXISTS
           (SELECT FROM job_events e WHERE e.job_id = j.id AND e.to_status = j.status)""",
    ),
    Invariant(
        "request_is_there",
        "Every job that has not ended has its request.",
        "A request was deleted too early; the job can never be sent.",
        """SELECT 'job ' || j.id FROM jobs j LEFT JOIN job_requests r ON r.job_id = j.id
           WHERE r.job_id IS NULL OR (r.body IS NULL AND j.finished_at IS NULL)""",
    ),
    Invariant(
        "one_ride",
        "A job that is claimed or with the provider in a batch has one open item, of its attempt, in a "
        "window that goes on; no queued job has one.",
        "A claim, a settlement or a return was half done: the job waits for a window that is not coming.",
        """SELECT 'job ' || j.id || ' (' || j.status || ', ' || count(w.id) || ' open items)' FROM jobs j
           LEFT JOIN batch_items i ON i.job_id = j.id AND i.outcome IS NULL AND i.attempt = j.attempt
           LEFT JOIN batch_windows w ON w.id = i.window_id AND w.status = CASE j.status
               WHEN 'claimed' THEN 'open' WHEN 'processing' THEN 'submitted' ELSE w.status END
           WHERE j.execution_mode = 'batch' AND j.status IN ('queued', 'claimed', 'processing')
           GROUP BY j.id HAVING count(w.id) <> CASE j.status WHEN 'queued' THEN 0 ELSE 1 END
               -- a line that was ingested already, with an error to be tried again, waits for its settlement
               AND NOT (j.status = 'processing' AND EXISTS (
                   SELECT FROM batch_items s JOIN batch_windows o ON o.id = s.window_id AND o.finished_at IS NULL
                   WHERE s.job_id = j.id AND s.attempt = j.attempt AND s.outcome IS NOT NULL))""",
    ),
    Invariant(
        "items_close",
        "Every item of an ended window has an outcome; an open item of a window that goes on is of a "
        "job that rides, or that left it for its deadline.",
        "A window was ended past its settlement.",
        """SELECT 'item ' || i.custom_id FROM batch_items i
           JOIN batch_windows w ON w.id = i.window_id JOIN jobs j ON j.id = i.job_id
           WHERE i.outcome IS NULL AND (w.finished_at IS NOT NULL OR NOT (
               (j.execution_mode = 'batch' AND j.status IN ('claimed', 'processing') AND i.attempt = j.attempt)
               OR (j.execution_mode = 'sync' AND j.need_by IS NOT NULL AND i.attempt < j.attempt)))""",
    ),
    Invariant(
        "sum_closes",
        "A window has as many items as jobs; when it has ended, completed + failed + missing + expired "
        "+ released makes the same sum, or the window says that it needs attention.",
        "An item was lost or made twice.",
        """SELECT 'window ' || w.id || ' (' || count(i.custom_id) || ' items, ' || count(i.outcome) || ' outcomes, '
                  || w.job_count || ' jobs)'
           FROM batch_windows w LEFT JOIN batch_items i ON i.window_id = w.id
           GROUP BY w.id HAVING count(i.custom_id) <> w.job_count
              OR (w.finished_at IS NOT NULL AND w.needs_attention IS NULL AND count(i.outcome) <> w.job_count)""",
    ),
    Invariant(
        "result_is_paid",
        "A completed job has one result, and the ledger has exactly one entry for a used answer: "
        "that of the result. No other job has either.",
        "An answer was applied half, or twice.",
        """SELECT 'job ' || j.id || ' (' || j.status || ')' FROM jobs j
           LEFT JOIN job_results r ON r.job_id = j.id
           LEFT JOIN ledger l ON l.job_id = j.id AND l.reason = 'answer'
           GROUP BY j.id, r.job_id, r.attempt, r.answer_key
           HAVING (j.status = 'completed') <> (r.job_id IS NOT NULL)
              OR count(l.id) <> CASE j.status WHEN 'completed' THEN 1 ELSE 0 END
              OR bool_or(l.attempt <> r.attempt OR l.answer_key <> r.answer_key)""",
    ),
    Invariant(
        "paid_once",
        "No answer is in the ledger of two jobs, or twice in that of one.",
        "An answer was written to the wrong job, or billed twice.",
        # an answer without an id is named by its digest, which two equal ones share
        """SELECT 'answer ' || answer_key || ' (' || string_agg(DISTINCT 'job ' || job_id, ', ') || ')' FROM ledger
           WHERE answer_key <> :lost AND answer_key !~ '^[0-9a-f]{64}$' GROUP BY answer_key HAVING count(*) > 1""",
    ),
    Invariant(
        "amounts_are_sums",
        "An amount is known exactly when tokens and prices are, and it is what they make.",
        "An entry was edited, or priced by something else than the price list.",
        """SELECT 'ledger entry ' || id FROM ledger
           WHERE (amount IS NULL) <> (input_tokens IS NULL OR output_tokens IS NULL OR input_price IS NULL)
              OR abs(amount - ((input_tokens - coalesce(cached_input_tokens, 0) - coalesce(cache_write_tokens, 0))
                     * input_price
                     + coalesce(cached_input_tokens, 0) * coalesce(cached_input_price, input_price)
                     + coalesce(cache_write_tokens, 0) * coalesce(cache_write_price, input_price)
                     + output_tokens * output_price) / 1000000) > 0.000000001""",
    ),
    Invariant(
        "roll_ups_are_sums",
        "Each day of the costs is the sum of its ledger entries, as far as they are rolled up.",
        "The ledger was edited, or rolled up past services/costs.py: reports and budgets are wrong.",
        """SELECT 'day ' || day || ', user ' || user_id || ', ' || profile_id || ', ' || execution_mode || ', '
                  || model || ', ' || reason
           FROM (SELECT day, user_id, profile_id, execution_mode, model, reason, entries, without_amount, input_tokens,
                        cached_input_tokens, output_tokens, amount, sync_amount FROM cost_days
                 UNION ALL
                 SELECT CAST(answered_at AT TIME ZONE 'UTC' AS date), user_id, profile_id, execution_mode,
                        coalesce(model, ''), reason, -1, CASE WHEN amount IS NULL THEN -1 ELSE 0 END,
                        -coalesce(input_tokens, 0), -coalesce(cached_input_tokens, 0), -coalesce(output_tokens, 0),
                        -coalesce(amount, 0), CASE WHEN amount IS NULL THEN 0 ELSE -coalesce(sync_amount, amount) END
                 FROM ledger WHERE id <= (SELECT summed_up_to FROM roll_ups)) AS both_sides
           GROUP BY day, user_id, profile_id, execution_mode, model, reason
           HAVING sum(entries) <> 0 OR sum(without_amount) <> 0 OR sum(input_tokens) <> 0
              OR sum(cached_input_tokens) <> 0 OR sum(output_tokens) <> 0 OR sum(amount) <> 0
              OR sum(sync_amount) <> 0""",
    ),
    Invariant(
        "one_batch",
        "No two windows have the same input file or the same provider batch.",
        "A provider batch may have been bought twice.",
        """SELECT 'windows ' || string_agg(id::text, ', ' ORDER BY id) FROM batch_windows
           WHERE input_file_id IS NOT NULL GROUP BY input_file_id HAVING count(*) > 1
           UNION ALL SELECT 'windows ' || string_agg(id::text, ', ' ORDER BY id) FROM batch_windows
           WHERE provider_batch_id IS NOT NULL GROUP BY provider_batch_id HAVING count(*) > 1""",
    ),
    Invariant(
        "attempt_is_owned",
        "A sync job that is processing has an execution and a lease; one that waits has neither.",
        "A start or the end of an attempt was half done.",
        """SELECT 'job ' || id || ' (' || status || ')' FROM jobs WHERE execution_mode = 'sync' AND (
               (status = 'processing' AND (execution_id IS NULL OR lease_until IS NULL))
               OR (status = 'created' AND (execution_id IS NOT NULL OR lease_until IS NOT NULL)))""",
    ),
    Invariant(
        "leases_end",
        "No lease of an attempt is long over, and no job waits past its deadline.",
        "The heartbeat is not running.",
        """SELECT 'job ' || id FROM jobs WHERE finished_at IS NULL AND (
               lease_until < :heartbeat_limit
               OR (status = 'created' AND first_started_at < :sync_limit)
               OR (execution_mode = 'batch' AND status = 'queued' AND need_by < :last_ride_limit)
               OR (execution_mode = 'batch' AND need_by < :last_call_limit AND NOT EXISTS (
                   SELECT FROM batch_items i JOIN batch_windows w ON w.id = i.window_id AND w.cancels_jobs
                   WHERE i.job_id = jobs.id AND i.outcome IS NULL)))""",
    ),
    Invariant(
        "wishes_are_heard",
        "No window stays that was cancelled before the provider had it.",
        "The heartbeat is not running.",
        """SELECT 'window ' || id FROM batch_windows WHERE status = 'open' AND create_offered_at IS NULL
           AND cancel_requested_at < :heartbeat_limit""",
    ),
    Invariant(
        "steps_are_taken",
        "No window has long been due for its next step.",
        "n8n is not running, or its windows flow is not active.",
        """SELECT 'window ' || id FROM batch_windows WHERE finished_at IS NULL AND due_at < :n8n_limit
           AND (lease_until IS NULL OR lease_until < :n8n_limit)""",
    ),
    Invariant(
        "jobs_are_started",
        "No job that was handed to n8n has long waited to be started.",
        "n8n is not running, or the job's workflow is not active.",
        """SELECT 'job ' || id FROM jobs WHERE status = 'created' AND attempt = 1 AND need_by IS NULL
           AND dispatched_at IS NOT NULL AND created_at < :n8n_limit
           -- a job may only wait for its turn behind many others, while those are started
           AND NOT EXISTS (SELECT FROM jobs s WHERE s.execution_mode = 'sync' AND s.first_started_at > :n8n_limit)""",
    ),
    Invariant(
        "messages_are_sent",
        "No address that is enabled has a message that is long due, unless others are on their way to it.",
        "The heartbeat is not running, or its threads that send to webhooks are stuck.",
        """SELECT 'message ' || min(d.id) || ' (webhook ' || w.id || ')' FROM webhook_deliveries d
           JOIN webhooks w ON w.id = d.webhook_id AND w.disabled_at IS NULL JOIN users u ON u.id = w.user_id
           WHERE u.is_enabled AND d.due_at < :heartbeat_limit AND NOT EXISTS (
               SELECT FROM webhook_deliveries s WHERE s.webhook_id = w.id
               AND (s.delivered_at > :heartbeat_limit OR (s.attempts > 0 AND s.due_at > :heartbeat_limit)))
           GROUP BY w.id""",
    ),
    Invariant(
        "documents_are_there",
        "No job that has not ended needs a deleted document that is sent as a file.",
        "A document was deleted past the rules.",
        """SELECT 'job ' || j.id || ' (document ' || d.id || ')' FROM documents d
           JOIN job_documents jd ON jd.document_id = d.id JOIN jobs j ON j.id = jd.job_id
           WHERE d.deleted_at IS NOT NULL AND d.provider_file_id IS NOT NULL AND j.finished_at IS NULL""",
    ),
)
