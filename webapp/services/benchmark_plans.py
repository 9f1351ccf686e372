"""Before a benchmark run: what is to be measured, with which documents, and what that will cost."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.errors import InvalidInput
from webapp.domain.estimates import Cost
from webapp.domain.pricing import PriceList
from webapp.domain.profiles import BATCH_STRATEGY, EXECUTION_MODE, Profile
from webapp.domain.sample_documents import PAGES, sample_pdf
from webapp.domain.states import BatchStrategy, ExecutionMode
from webapp.gateways.pdf import PdfReader
from webapp.gateways.provider_files import ProviderFiles
from webapp.gateways.storage import Storage
from webapp.models import Document, User
from webapp.services import documents, estimates
from webapp.services.clock import clock
from webapp.services.registry import Profiles

MOST_JOBS_PER_STEP = 200  # a step is made by one beat of the heartbeat
MOST_REPETITIONS = 20
MOST_JOBS = 5_000
MOST_NOTE = 500
REUSED_FOR = timedelta(hours=1)
PLACEHOLDER_ID = 1  # stands for a document while the other values are checked
MODES = {ExecutionMode.SYNC: "now", ExecutionMode.BATCH: "in a batch"}


@dataclass(frozen=True)
class Wish:
    """What a run is to measure, as it was asked for."""

    profile_id: str
    tiers: Sequence[str]  # of S, M and L, whose documents the project generates
    documents: Sequence[int]  # of the user's own, by id: each is a tier that is called by its file name
    modes: Sequence[str]
    jobs_per_step: int
    repetitions: int
    note: str = ""

    @property
    def job_count(self) -> int:
        tiers = len(self.tiers) + len(self.documents)
        return tiers * len(self.modes) * self.jobs_per_step * self.repetitions


def suited(profiles: Profiles) -> list[Profile]:
    """The profiles that a run can be made of: active, with one required document, and no other field to fill in."""
    return [profile for profile in profiles if profile.is_active and _is_suited(profile)]


def _is_suited(profile: Profile) -> bool:
    if len([field for field in profile.document_fields if field.required]) != 1:
        return False
    try:
        profile.validate_inputs(job_values(profile, profile.execution_modes[0], PLACEHOLDER_ID))
    except InvalidInput:
        return False
    return True


def job_values(profile: Profile, mode: ExecutionMode, document_id: int) -> dict[str, Any]:
    """The values of one job. Of the strategies, the one that also opens a window for a rest of jobs, if there is it."""
    [field] = [field for field in profile.document_fields if field.required]
    values: dict[str, Any] = {field.key: document_id}
    if profile.field(EXECUTION_MODE):
        values[EXECUTION_MODE] = mode
    strategies = profile.field(BATCH_STRATEGY)
    if strategies and BatchStrategy.COUNT_OR_WAIT in strategies.values:
        values[BATCH_STRATEGY] = BatchStrategy.COUNT_OR_WAIT
    return values


def check(profiles: Profiles, wish: Wish) -> None:
    """Raises InvalidInput with a message per field of the wish."""
    errors: dict[str, str] = {}
    profile = next((profile for profile in suited(profiles) if profile.id == wish.profile_id), None)
    if profile is None:
        errors["profile"] = "Choose an active profile that needs one document and nothing else."
    if not wish.tiers and not wish.documents:
        errors["tiers"] = "Choose a tier, or add a document of your own."
    if unknown := [tier for tier in wish.tiers if tier not in PAGES]:
        errors["tiers"] = f"There is no tier {', '.join(unknown)}: the generated ones are {', '.join(PAGES)}."
    if not wish.modes or set(wish.modes) - set(ExecutionMode):
        errors["modes"] = "Choose now (sync), in a batch (batch), or both."
    elif profile and (other := set(wish.modes) - set(profile.execution_modes)):
        errors["modes"] = f"“{profile.name}” does not run {', '.join(MODES[ExecutionMode(mode)] for mode in other)}."
    for key, value, most in (
        ("jobs", wish.jobs_per_step, MOST_JOBS_PER_STEP), ("repetitions", wish.repetitions, MOST_REPETITIONS),
    ):  # fmt: skip
        if not 1 <= value <= most:
            errors[key] = f"From 1 to {most}."
    if not errors and wish.job_count > MOST_JOBS:
        errors["jobs"] = f"That would be {wish.job_count:,} jobs; a run has at most {MOST_JOBS:,}."
    if len(wish.note) > MOST_NOTE:
        errors["note"] = f"At most {MOST_NOTE} characters."
    if errors:
        raise InvalidInput(errors)


def tier_documents(
    session: Session, storage: Storage, reader: PdfReader, files: ProviderFiles, *, user_id: int, wish: Wish,
    max_bytes: int,
) -> dict[str, int]:  # fmt: skip
    """{tier: id of its document}, in the order in which they are run. Stores generated ones at first use. Commits.

    Raises InvalidInput.
    """
    found: dict[str, int] = {}
    for tier in dict.fromkeys(wish.tiers):
        content = sample_pdf(tier)
        # Always the same bytes, so that what was just stored for an estimate will do; an older one retention may take.
        stored = session.scalars(
            select(Document.id)
            .where(
                Document.user_id == user_id, Document.sha256 == hashlib.sha256(content).hexdigest(),
                Document.created_at > clock(session) - REUSED_FOR, Document.deleted_at.is_(None),
                Document.provider_file_id.is_(None),
            )
            .order_by(Document.id.desc())
        ).first()  # fmt: skip
        if stored is None:
            upload = documents.Upload("document", f"benchmark-{tier}.pdf", io.BytesIO(content))
            [document] = documents.add_documents(
                session, storage, reader, files, user_id=user_id, uploads=[upload], max_bytes=max_bytes
            )
            stored = document.id
        found[tier] = stored
    own = documents.documents_of(session, user_id, wish.documents)
    for document_id in dict.fromkeys(wish.documents):
        if document_id not in own:
            raise InvalidInput({"document": "There is no such document of yours."})
        found[_free_name(own[document_id].filename, found)] = document_id
    session.commit()
    return found


def _free_name(filename: str, taken: dict[str, int]) -> str:
    """The file's name, with a number behind it when another tier has that name."""
    names = (filename if number == 1 else f"{filename} ({number})" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def forecast(
    session: Session, settings: Settings, prices: PriceList, profiles: Profiles, *,
    user: User, wish: Wish, tiers: dict[str, int],
) -> Cost:  # fmt: skip
    """What all jobs of such a run will likely cost, and at most (USD). Raises InvalidInput."""
    profile = profiles.runnable(wish.profile_id)
    values = [
        job_values(profile, ExecutionMode(mode), document_id) for mode in wish.modes for document_id in tiers.values()
    ]
    quoted = estimates.forecast(session, settings, prices, profiles, user=user, profile=profile, runs=values).quotes
    one = estimates.total([quote.own for quote in quoted])
    times = wish.jobs_per_step * wish.repetitions
    return Cost(
        None if one.likely is None else one.likely * times, None if one.ceiling is None else one.ceiling * times
    )
