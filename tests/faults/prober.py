"""Somebody who asks a server all the time which certificate it serves."""

import hashlib
import ssl
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.servers import served_leaf

EVERY_S = 0.02
PATIENCE_S = 2.0


def leaf_sha256(pem: str) -> str:
    """The fingerprint of a certificate, lower-case hex; empty for no certificate."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() if pem else ""


@dataclass
class Prober:
    """Asks every 20 ms; what was seen is a list of (seconds since the start, fingerprint or nothing)."""

    host: str
    port: int
    seen: list[tuple[float, str]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._ask_on, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()

    def _ask_on(self) -> None:
        begun = time.monotonic()
        while not self._stop.wait(EVERY_S):
            try:
                leaf = leaf_sha256(served_leaf(self.host, self.port, timeout_s=PATIENCE_S))
            except (OSError, ValueError):
                leaf = ""
            self.seen.append((time.monotonic() - begun, leaf))

    def longest_silence_s(self) -> float:
        """The longest time between two answers in which at least one question failed."""
        longest, last, failed = 0.0, 0.0, False
        for at, leaf in self.seen:
            failed = failed or not leaf
            longest = max(longest, at - last) if failed else longest
            if leaf:
                last, failed = at, False
        return longest

    def story(self, names: dict[str, str]) -> str:
        """What was served, one word a stretch: `old`, `new`, `-` for no answer, `?` for another certificate."""
        words: list[str] = []
        for _, leaf in self.seen:
            word = names.get(leaf, "?") if leaf else "-"
            if not words or words[-1] != word:
                words.append(word)
        return " ".join(words)
