"""What is drawn in the page, out of the journal: the certificates before and after, and what nginx answered meanwhile."""

import base64
import datetime as dt
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from runbook_lib.pictures import Picture, Span, before_and_after, compared, strip
from runbook_lib.record.journal import Event, of_kind
from runbook_lib.tables import milliseconds


class Inline(str):
    """A data: URI, which is shown as it is: base64 holds nothing that HTML knows."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def inline(kind: str, data: bytes) -> Inline:
    """A picture as a data: URI, `png` or `svg+xml`."""
    return Inline(f"data:image/{kind};base64,{base64.b64encode(data).decode()}")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture of the page: its data: URI, and the same in words."""

    source: Inline
    words: str


def changed(run: Sequence[Event]) -> Drawn | None:
    """The certificates before and after a run, None where it noted none. Today is the day of its last event."""
    last = {event["role"]: event for event in of_kind(run, "certificate")}
    spans, today = (
        [_span(last[role]) for role in ("before", "after") if role in last],
        _moment(run[-1]["at"]) if run else None,
    )
    return _drawn(before_and_after("certificates before and after", spans, today)) if spans and today else None


def strips(run: Sequence[Event]) -> tuple[Drawn | None, ...]:
    """What nginx answered, a picture for each probe; None for one of an older record."""
    return tuple(
        _drawn(strip("what nginx answered", milliseconds(event["outage_ms"]), [tuple(each) for each in event["strip"]]))
        if event.get("strip")
        else None
        for event in of_kind(run, "probe")
    )


def _drawn(picture: Picture) -> Drawn:
    return Drawn(inline("svg+xml", picture.data), f"{picture.title}: {picture.words}")


def _span(event: Event) -> Span:
    begin, end = _moment(event.get("not_before", "")), _moment(event["not_after"])
    return Span(event["role"], "", begin, end, compared(event))


def _moment(text: str) -> dt.datetime | None:
    with suppress(ValueError):
        at = dt.datetime.fromisoformat(text)
        return at if at.tzinfo else at.replace(tzinfo=dt.UTC)
    return None
