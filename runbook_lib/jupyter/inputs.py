"""The parameters of a run while a person fills them in: as they were given, and as they were changed."""

from collections.abc import Mapping
from pathlib import Path

from runbook_lib.errors import UnusableParameters
from runbook_lib.models import Fault
from runbook_lib.session import Kind, usable


class Inputs:
    """What a form holds.

    Args:
        kind: Which notebook this is.
        given: The parameters cell's values.
        base: The folder against which relative paths are resolved.

    Attributes:
        changed: What a person changed.
        handed_in: What the CA handed back, where it was dropped or pasted; empty where it was not.
    """

    def __init__(self, kind: Kind, given: Mapping[str, object], base: Path) -> None:
        self.kind, self.given, self.base = kind, dict(given), base
        self.changed: dict[str, object] = {}
        self.handed_in = b""

    @property
    def values(self) -> Mapping[str, object]:
        """The parameters as they count now."""
        return self.given | self.changed

    def faults(self) -> tuple[Fault, ...]:
        """What could not be used as it stands; files and secrets are looked at by the bind cell."""
        try:
            usable(self.kind, self.values)
        except UnusableParameters as error:
            return tuple(error.faults)
        return ()
