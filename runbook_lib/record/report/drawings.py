"""What is drawn in the page, out of the journal: how long the certificates are good, and what nginx answered meanwhile."""

import base64
import datetime as dt
from collections.abc import Sequence
from contextlib import suppress

from runbook_lib.pictures import Span, strip, validity
from runbook_lib.record.journal import Event, of_kind


class Inline(str):
    """A data: URI, which is shown as it is: base64 holds nothing that HTML knows."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def inline(kind: str, data: bytes) -> Inline:
    """A picture as a data: URI, `png` or `svg+xml`."""
    return Inline(f"data:image/{kind};base64,{base64.b64encode(data).decode()}")


def validities(run: Sequence[Event]) -> str:
    """The certificates that a run noted, on one time axis; empty where it noted none. Today is the day of its last event."""
    spans, today = [_span(event) for event in of_kind(run, "certificate")], _moment(run[-1]["at"]) if run else None
    return inline("svg+xml", validity("the certificates of this run", spans, today)) if spans and today else ""


def strips(run: Sequence[Event]) -> tuple[str, ...]:
    """What nginx answered, a picture for each probe; empty for one of an older record."""
    return tuple(
        inline("svg+xml", strip("what nginx answered", [tuple(each) for each in event["strip"]]))
        if event.get("strip")
        else ""
        for event in of_kind(run, "probe")
    )


def _span(event: Event) -> Span:
    label = f"{event['role']}: {event['common_name'] or 'no name'}"
    about = ", ".join(filter(None, (event.get("issuer", ""), event.get("key", ""))))
    return Span(label, about, _moment(event.get("not_before", "")), _moment(event["not_after"]))


def _moment(text: str) -> dt.datetime | None:
    with suppress(ValueError):
        at = dt.datetime.fromisoformat(text)
        return at if at.tzinfo else at.replace(tzinfo=dt.UTC)
    return None
