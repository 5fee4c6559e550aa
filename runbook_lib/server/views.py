"""How a server is seen from the operator's side: directly, and through the SSH connection."""

import asyncio
from collections.abc import Sequence

from runbook_lib.models import Served
from runbook_lib.parameters import Parameters
from runbook_lib.probe import tls
from runbook_lib.secrets import redact
from runbook_lib.server.connection import Connection
from runbook_lib.server.facts import connect_address
from runbook_lib.steps.confirm import HTTP_OK
from runbook_lib.text import plain

API_LIMIT_S = 5
LONGEST_VERSION = 200


class Views:
    """Handshakes and requests by every way that leads to nginx from here.

    Args:
        parameters: The service addresses and the port.
        connection: To the server; through it nginx is reached where sshd allows forwarding.
    """

    def __init__(self, parameters: Parameters, connection: Connection) -> None:
        self._parameters, self._connection = parameters, connection

    async def look(self, listening: tuple[str, ...]) -> tuple[Served, ...]:
        """What is served at every service address, by both ways.

        Args:
            listening: Where nginx listens on the server.
        """
        ways = [
            (address, vantage, opener)
            for address in self._parameters.addresses
            for vantage, opener in (("direct", self._direct(address)), ("ssh", self._through_ssh(listening)))
        ]
        handshakes = (
            tls.handshake(opener, address=address, vantage=vantage, server_name=address)
            for address, vantage, opener in ways
        )
        return tuple(await asyncio.gather(*handshakes))

    def proven(self, seen: Sequence[Served], listening: tuple[str, ...]) -> tls.Opener | None:
        """The way by which nginx was seen from here: directly, else through the SSH connection; None where there is none."""
        ways = {each.vantage: each.address for each in reversed(seen) if each.chain}
        if "direct" in ways:
            return self._direct(ways["direct"])
        return self._through_ssh(listening) if "ssh" in ways else None

    async def api(self, listening: tuple[str, ...]) -> tuple[int | None, bytes]:
        """What `GET /api/version` answers by the first way that gets through; None where there is none."""
        name = self._parameters.addresses[0]
        for opener in (self._direct(name), self._through_ssh(listening)):
            try:
                return await tls.http_get(
                    opener, host=name, path="/api/version", server_name=name, time_limit_s=API_LIMIT_S
                )
            except (OSError, ValueError, EOFError, TimeoutError):
                continue
        return None, b""

    async def api_version(self, listening: tuple[str, ...]) -> str:
        """The text of `GET /api/version` for people; empty where it does not answer well."""
        status, body = await self.api(listening)
        return redact(plain(body.decode(errors="replace")))[:LONGEST_VERSION] if status == HTTP_OK else ""

    def _direct(self, address: str) -> tls.Opener:
        return tls.tcp_opener(address, self._parameters.https_port)

    def _through_ssh(self, listening: tuple[str, ...]) -> tls.Opener:
        address, _, port = connect_address(listening, self._parameters.host).rpartition(":")
        return lambda: self._connection.ssh.open_connection(address.strip("[]"), int(port or 0), encoding=None)
