"""The parameters of a run while a person fills them in: as they were given, and as they were changed."""

import threading
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
        unfit: What is wrong with what was handed in or with the file that was named, and was not kept.
    """

    def __init__(self, kind: Kind, given: Mapping[str, object], base: Path) -> None:
        self.kind, self.given, self.base = kind, dict(given), base
        self.changed: dict[str, object] = {}
        self.handed_in = b""
        self.unfit: tuple[Fault, ...] = ()
        self.taken = False
        self._turn = threading.Lock()  # widgets may speak in another thread than the one in which cells run

    def change(self, name: str, value: object) -> None:
        """What a person changed; nothing once a run has begun with these values."""
        with self._turn:
            if not self.taken:
                self.changed[name] = value

    def hand_in(self, data: bytes, unfit: tuple[Fault, ...] = ()) -> None:
        """What was dropped or pasted, in place of what was there before; or what is wrong with it."""
        with self._turn:
            if not self.taken:
                self.handed_in, self.unfit = data, unfit

    def take(self) -> None:
        """A run begins with these values: from now on nothing changes them."""
        with self._turn:
            self.taken = True

    def let_go(self) -> None:
        """That run did not begin: they may be mended."""
        with self._turn:
            self.taken = False

    @property
    def values(self) -> Mapping[str, object]:
        """The parameters as they count now."""
        return self.given | self.changed

    def fit(self) -> Mapping[str, object]:
        """The values, when what was handed in can be used.

        Raises:
            UnusableParameters: It cannot, and was not kept.
        """
        if self.unfit:
            raise UnusableParameters(self.unfit)
        return self.values

    def faults(self) -> tuple[Fault, ...]:
        """What could not be used as it stands; files and secrets are looked at by the bind cell."""
        try:
            usable(self.kind, self.values)
        except UnusableParameters as error:
            return (*error.faults, *self.unfit)
        return self.unfit
