"""The base of all models: constraint names, column types used everywhere, enums stored as checked text."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from sqlalchemy import BigInteger, DateTime, Enum, Identity, MetaData, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column, registry

from webapp.domain.states import BatchStrategy, ExecutionMode, ItemOutcome, JobStatus, WindowStatus

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

Id = Annotated[int, mapped_column(BigInteger, Identity(always=True), primary_key=True)]
BigInt = Annotated[int, mapped_column(BigInteger)]
CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]
Json = Annotated[Any, mapped_column(JSONB)]


def _checked_text(words: type[StrEnum], name: str) -> Enum:
    return Enum(
        words, name=name, native_enum=False, create_constraint=True, length=20,
        values_callable=lambda members: [member.value for member in members],
    )  # fmt: skip


class Base(DeclarativeBase):
    registry = registry(
        metadata=MetaData(naming_convention=NAMES),
        type_annotation_map={
            str: Text,
            datetime: DateTime(timezone=True),
            JobStatus: _checked_text(JobStatus, "status"),
            WindowStatus: _checked_text(WindowStatus, "status"),
            ItemOutcome: _checked_text(ItemOutcome, "outcome"),
            ExecutionMode: _checked_text(ExecutionMode, "execution_mode"),
            BatchStrategy: _checked_text(BatchStrategy, "strategy"),
        },
    )
