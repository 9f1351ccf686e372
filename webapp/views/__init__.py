"""HTTP. A view reads the request, calls one service function and shows what came back; it never commits."""

from __future__ import annotations

from flask import Flask

from webapp.extensions import csrf
from webapp.views import (
    account,
    admin,
    admin_users,
    api,
    api_documents,
    api_jobs,
    api_reading,
    api_submissions,
    api_webhooks,
    audit,
    benchmarks,
    budgets,
    costs,
    documents,
    errors,
    health,
    help,
    internal,
    job_history,
    job_selections,
    jobs,
    limits,
    metrics,
    openapi,
    operations,
    pages,
    public,
    runs,
    security,
    simulation,
    submissions,
    webhooks,
)

# Imported: they are in api.bp then …
API_CALLS = (api_documents, api_jobs, api_reading, api_submissions, api_webhooks, openapi)
JOB_PAGES = (job_history, job_selections)  # … and in jobs.bp


def register_web(app: Flask) -> None:
    """The pages and the public API."""
    for blueprint in (
        public.bp, runs.bp, submissions.bp, jobs.bp, documents.bp, account.bp, admin.bp, admin_users.bp, audit.bp,
        operations.bp, benchmarks.bp, budgets.bp, costs.bp, simulation.bp, help.bp, webhooks.bp, health.bp, api.bp,
    ):  # fmt: skip
        app.register_blueprint(blueprint)
    csrf.exempt(api.bp)  # bearer tokens only: there is no cookie that a foreign page could ride on
    security.register(app)
    limits.register(app)
    pages.register(app)
    errors.register(app)


def register_internal(app: Flask) -> None:
    """n8n's door, and the figures, on a listener of its own."""
    metrics.register(app)
    app.register_blueprint(internal.bp)
    app.register_blueprint(health.bp)
    security.register_headers(app)
    errors.register(app)
