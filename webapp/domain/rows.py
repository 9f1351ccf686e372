"""A file of rows, each the values of one run: CSV with the field keys (or labels) in its first line, or JSONL."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

from webapp.domain.errors import InvalidInput
from webapp.domain.fields import BooleanField, DatetimeField, IntegerField, MultiselectField, NumberField, SelectField
from webapp.domain.profiles import Profile

MOST_LINE_BYTES = 1_000_000
SEPARATORS = (",", ";", "\t")
BETWEEN_CHOICES = "|"
BOOLEANS = {"yes": True, "no": False, "x": True}  # besides what pydantic takes: true, false, 1, 0, on, off …


@dataclass(frozen=True)
class Row:
    """One line of the file (from 1): the values of a run, or why there are none."""

    line: int
    values: Mapping[str, Any] | None
    fault: str | None = None


def read_rows(stream: BinaryIO, filename: str, profile: Profile, zone: ZoneInfo) -> Iterator[Row]:
    """The rows of a file, as a stream; its name says what it is. A moment without an offset is in `zone`.

    Raises InvalidInput when it is neither CSV nor JSONL, or when its first line names a field that there is not.
    """
    kind = filename.rsplit(".", 1)[-1].lower()
    if kind == "csv":
        return _csv_rows(stream, profile, zone)
    if kind in ("jsonl", "ndjson"):
        return _jsonl_rows(stream)
    raise InvalidInput({"rows": "Choose a file that ends in .csv or .jsonl."})


def example_csv(profile: Profile) -> str:
    """A file to fill in: the keys of the profile's own fields, and a line that shows what belongs there."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([field.key for field in profile.input_fields])
    writer.writerow([_example_cell(field) for field in profile.input_fields])
    return file.getvalue()


def _example_cell(field: Any) -> str:
    match field:
        case MultiselectField():
            return BETWEEN_CHOICES.join(field.default or field.values[:2])
        case BooleanField():
            return "yes" if field.default else "no"
        case DatetimeField():
            return "2030-01-31 17:00"
        case SelectField():
            return field.default or field.values[0]
        case IntegerField() | NumberField():
            limits = (field.default, field.min, field.max, 1)
            return str(next(limit for limit in limits if limit is not None))
    return field.default or field.placeholder or f"{field.title} of the first run"


def _jsonl_rows(stream: BinaryIO) -> Iterator[Row]:
    for number, line in _lines(stream):
        if line is None:
            yield Row(number, None, f"This line is longer than {MOST_LINE_BYTES:,} bytes.")
            continue
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            values = json.loads(text) if text.strip() else None
        except UnicodeDecodeError:
            yield Row(number, None, "This line is not UTF-8 text.")
        except (ValueError, RecursionError):
            yield Row(number, None, "This line is not JSON.")
        else:
            if isinstance(values, dict):
                yield Row(number, values)
            elif text.strip():
                yield Row(number, None, "This line is not a JSON object.")


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """(number, line), None in place of a line that is too long."""
    number = 0
    while line := stream.readline(MOST_LINE_BYTES + 1):
        number += 1
        if len(line) > MOST_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = stream.readline(MOST_LINE_BYTES)
            yield number, None
        else:
            yield number, line


def _csv_rows(stream: BinaryIO, profile: Profile, zone: ZoneInfo) -> Iterator[Row]:
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="strict", newline="")
    try:
        first = text.readline(MOST_LINE_BYTES)
        separator = max(SEPARATORS, key=first.count)
        [header] = csv.reader([first], delimiter=separator, strict=True) if first.strip() else [[]]
        fields = _named_fields(header, profile)
        reader = csv.reader(_bounded(text), delimiter=separator, strict=True)
        line = 2
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield _row(line, cells, fields, zone)
            line = reader.line_num + 2
    except UnicodeDecodeError:
        raise InvalidInput({"rows": "This file is not UTF-8 text: save it as “CSV UTF-8”."}) from None
    except csv.Error as error:
        raise InvalidInput({"rows": f"This file is not CSV: {error}."}) from None
    finally:
        text.detach()  # the stream is the caller's to close


def _bounded(text: Iterable[str]) -> Iterator[str]:
    for line in text:
        if len(line) > MOST_LINE_BYTES:
            raise csv.Error(f"a line is longer than {MOST_LINE_BYTES:,} characters")
        yield line


def _named_fields(header: list[str], profile: Profile) -> list[Any]:
    """The field of each column. Raises InvalidInput."""
    by_name = {field.title.casefold(): field for field in profile.fields}
    by_name |= {field.key.casefold(): field for field in profile.fields}
    names = [cell.strip().casefold() for cell in header]
    if not any(names):
        raise InvalidInput({"rows": f"The first line has to name the fields, like: {_example(profile)}"})
    if unknown := [cell for cell, name in zip(header, names, strict=True) if name not in by_name]:
        raise InvalidInput(
            {"rows": f"The first line names {', '.join(unknown)[:200]}, but the fields are: {_example(profile)}"}
        )
    if len(set(names)) < len(names):
        raise InvalidInput({"rows": "The first line names a field twice."})
    return [by_name[name] for name in names]


def _example(profile: Profile) -> str:
    return ", ".join(field.key for field in profile.input_fields)


def _row(line: int, cells: list[str], fields: list[Any], zone: ZoneInfo) -> Row:
    if len(cells) > len(fields):
        return Row(line, None, f"This line has {len(cells)} cells, the first line has {len(fields)}.")
    return Row(line, {
        field.key: _value(field, cell, zone) for field, cell in zip(fields, cells, strict=False) if cell.strip()
    })  # fmt: skip


def _value(field: Any, cell: str, zone: ZoneInfo) -> Any:
    match field:
        case MultiselectField():
            return [part.strip() for part in cell.split(BETWEEN_CHOICES) if part.strip()]
        case BooleanField():
            return BOOLEANS.get(cell.strip().lower(), cell.strip())
        case DatetimeField():
            try:
                moment = datetime.fromisoformat(cell.strip())
            except ValueError:
                return cell
            return moment if moment.tzinfo else moment.replace(tzinfo=zone)
    return cell
