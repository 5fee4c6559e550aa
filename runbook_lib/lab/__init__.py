"""An embedded practice server: SSH, sudo, docker and nginx as an Apstra server shows them, on loopback, without root.

It imports nothing else of the package. `docs/explanation/practice-server.md` says what it imitates and what it does not.
"""

from runbook_lib.lab.server import PracticeServer

__all__ = ["PracticeServer"]
