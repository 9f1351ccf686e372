"""The profiles in force: loaded from files at start, each stored once as the version that jobs are pinned to."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import Any, TypeVar, cast

from sqlalchemy import Select, exists, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from webapp.domain.errors import PlannedProfile, UnknownProfile
from webapp.domain.profiles import Profile
from webapp.models import ProfileVersion

T = TypeVar("T")
PLACES_KEPT = 10.0  # seconds


class Profiles:
    """What the files say. Read-only after start: a changed file is taken up by a restart."""

    def __init__(self, profiles: dict[str, Profile]) -> None:
        self._profiles = profiles
        self._kept: dict[str, tuple[float, Any]] = {}

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._profiles.values())

    def __contains__(self, profile_id: str) -> bool:
        return profile_id in self._profiles

    def get(self, profile_id: str) -> Profile:
        """Raises UnknownProfile."""
        try:
            return self._profiles[profile_id]
        except KeyError:
            raise UnknownProfile(f"There is no profile named {profile_id!r}.") from None

    def runnable(self, profile_id: str) -> Profile:
        """Raises UnknownProfile or PlannedProfile."""
        profile = self.get(profile_id)
        if not profile.is_active:
            raise PlannedProfile(f"“{profile.name}” is planned: it can be looked at, but not run yet.")
        return profile

    def kept(
        self, key: str, seconds: float, make: Callable[[], T], lasts: Callable[[T], bool] = lambda _: True
    ) -> T:  # fmt: skip
        """What `make` found out in this process, not longer than so many seconds ago: many ask, and it changes little.

        It is kept if `lasts` says so of it. There is a key for each profile and for each queue.
        """
        at, value = self._kept.get(key, (-inf, None))
        if time.monotonic() - at <= seconds:
            return cast(T, value)
        found = make()
        if lasts(found):
            self._kept[key] = (time.monotonic(), found)
        return found

    def place(self, key: str, session: Session, find: Callable[[], Select[int]]) -> int | None:
        """The id that this statement finds, or found a moment ago: where new jobs go. Such rows are never deleted.

        A transaction that has written something finds nothing: it may see a row that its rollback takes away.
        """

        def look() -> int | None:
            has_written = func.pg_current_xact_id_if_assigned().is_not(None)
            return session.execute(find().where(~has_written)).scalar_one_or_none()

        return self.kept(key, PLACES_KEPT, look, lasts=lambda found: found is not None)

    def live(self, session: Session, profile_id: str) -> Profile:
        """The profile for its batch and execution parts: the file, or the last stored version if the file is gone."""
        if profile_id in self._profiles:
            return self._profiles[profile_id]
        stored = session.execute(
            select(ProfileVersion.document)
            .where(ProfileVersion.profile_id == profile_id)
            .order_by(ProfileVersion.last_seen_at.desc(), ProfileVersion.id.desc())
            .limit(1)
        ).scalar_one_or_none()
        if stored is None:
            raise UnknownProfile(f"There is no profile named {profile_id!r}.")
        return Profile.model_validate(stored)


def stored_version(session: Session, profiles: Profiles, profile: Profile) -> int:
    """The id of the stored version with this content; stores it at first use. Does not commit."""
    known = profiles.place(f"version of {profile.id}", session, lambda: _version_of(profile))
    return store_version(session, profile) if known is None else known


def _version_of(profile: Profile) -> Select[int]:
    """The id of this profile's stored version; no row when `store_version` has something to write."""
    newer = aliased(ProfileVersion)
    return (
        select(ProfileVersion.id)
        .where(
            ProfileVersion.profile_id == profile.id, ProfileVersion.content_hash == profile.content_hash,
            ProfileVersion.document == profile.document,
            ~exists().where(
                newer.profile_id == ProfileVersion.profile_id, newer.last_seen_at > ProfileVersion.last_seen_at
            ),
        )
    )  # fmt: skip


def store_version(session: Session, profile: Profile) -> int:
    """The id of the stored version with this content; stores it at first use. Does not commit."""
    newer = aliased(ProfileVersion)
    statement = insert(ProfileVersion).values(
        profile_id=profile.id, content_hash=profile.content_hash, document=profile.document
    )
    return (
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["profile_id", "content_hash"],
                set_={"document": statement.excluded.document, "last_seen_at": func.now()},
                # Not on each run: a row that every job updates is a row that every job waits for.
                where=or_(
                    ProfileVersion.document != statement.excluded.document,
                    exists().where(
                        newer.profile_id == ProfileVersion.profile_id, newer.last_seen_at > ProfileVersion.last_seen_at
                    ),
                ),
            ).returning(ProfileVersion.id)
        ).scalar_one_or_none()
        or session.execute(
            select(ProfileVersion.id).where(
                ProfileVersion.profile_id == profile.id, ProfileVersion.content_hash == profile.content_hash
            )
        ).scalar_one()
    )
