"""All facts of one server, in two round trips: what stands alone, then what depends on it."""

import datetime as dt
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from runbook_lib.errors import Refused
from runbook_lib.models import ChangeFolder, Command, CommandResult, Facts
from runbook_lib.parameters import Parameters
from runbook_lib.secrets import redact
from runbook_lib.server import changes
from runbook_lib.server import facts as read
from runbook_lib.server.reading import Fact, all_at_once
from runbook_lib.server.shell import RootShell

T = TypeVar("T")
# what the reading of an answer raises that no such command gives: a wrapper or another program answered
_NO_ANSWER = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, tarfile.TarError,
)  # fmt: skip


async def read_change(
    shell: RootShell, parameters: Parameters, known: ChangeFolder, first: Sequence[Command] = ()
) -> ChangeFolder:
    """One change's folder, in one round trip with what is to be run before it is read.

    Args:
        shell: The root shell.
        parameters: Where to look.
        known: The change as it was read before, or nothing but its id.
        first: Commands whose result nothing depends on.

    Raises:
        Refused: It cannot be read.
    """
    fact = changes.change_folder(parameters.state_dir, known)
    *_, result = await shell.run_all([*first, fact.command], bounded=False)
    return _made_of(fact, result, parameters.host)


async def read_facts(shell: RootShell, parameters: Parameters, host_key: str, change_ids: Sequence[str]) -> Facts:
    """Reads everything that checks, plans and the state are made from; changes nothing.

    Args:
        shell: The root shell.
        parameters: Where to look.
        host_key: The verified host key, as it goes into the facts.
        change_ids: The changes to read in full besides the undecided ones, those half way back, and the last confirmed one.

    Raises:
        Refused: Something that must be readable is not.
    """
    identity, *rest = await _read(shell, parameters.host, [
        read.identity(),
        read.containers(),
        read.folder_listing(parameters.conf_dir),
        changes.pair(parameters.conf_dir),
        read.listening(parameters.https_port),
        read.space(parameters.conf_dir, parameters.state_dir),
        read.state_dir_place(parameters.state_dir),
        changes.change_list(parameters.state_dir),
    ])  # fmt: skip
    now = dt.datetime.now(dt.UTC)
    containers, files, live, sockets, (free, size, kept), place, (listed, half_way) = rest
    container = read.find_container(containers, parameters.container, parameters.conf_dir)
    confirmed = [name for name, _, decided in listed if decided == "confirmed"][-1:]
    wanted = dict.fromkeys([*change_ids, *confirmed, *half_way, *(name for name, _, decided in listed if not decided)])
    addresses = await _listening(shell, parameters.host, sockets, container.pid if container else 0)
    connect = read.connect_address(addresses, parameters.host)
    folders = [changes.change_folder(parameters.state_dir, ChangeFolder(name)) for name in wanted]
    probes = [read.served(connect, address) for address in parameters.addresses] if connect else []
    found = await _read(shell, parameters.host, [], [*folders, *probes])
    return Facts(
        host=parameters.host,
        hostname=identity.hostname,
        host_key=host_key,
        os=identity.os,
        openssl=identity.openssl,
        apstra_version="",
        root_uid=identity.root_uid,
        container=container,
        containers=containers,
        conf_files=files,
        live=live,
        served=tuple(found[len(folders) :]),
        listening=addresses,
        free_bytes=free,
        aos_bytes=size,
        state_bytes=kept,
        clock_skew_s=(identity.clock - now).total_seconds(),
        now=now,
        state_dir_faults=place,
        systemd=identity.systemd,
        missing_tools=identity.missing_tools,
        listed=listed,
        changes=tuple(found[: len(folders)]),
    )


async def look_again(
    shell: RootShell, parameters: Parameters, facts: Facts, change_id: str, *, container: bool
) -> Facts:
    """What a swap stands on and what it changes, read anew in one round trip; the rest is kept as it was found.

    Args:
        shell: The root shell.
        parameters: Where to look.
        facts: What was read before.
        change_id: The change that is being applied.
        container: Whether the container is looked at, too; after the swap the guard has done that.

    Raises:
        Refused: Something that must be readable is not.
    """
    connect = read.connect_address(facts.listening, parameters.host)
    known = facts.container
    files, live, change, *rest = await _read(
        shell,
        parameters.host,
        [
            read.folder_listing(parameters.conf_dir),
            changes.pair(parameters.conf_dir),
            changes.change_folder(parameters.state_dir, facts.change(change_id)),
        ],
        [
            *(read.served(connect, address) for address in parameters.addresses),
            *([read.container(known.container_id)] if known and container else []),
        ],
    )
    served = tuple(rest[: len(parameters.addresses)])
    now = dt.datetime.now(dt.UTC)
    found = rest[-1] if known and container else known
    again = replace(facts, container=found, conf_files=files, live=live, served=served, now=now)
    return again.with_change(change)


async def _listening(shell: RootShell, host: str, sockets: Sequence[tuple[str, str]], pid: int) -> tuple[str, ...]:
    """The addresses that nginx itself listens on where its sockets can be told apart, else all on that port."""
    if len(sockets) > 1 and pid:
        (own,) = await _read(shell, host, [read.sockets_of(pid)])
        mine = tuple(address for address, inode in sockets if inode in own)
        if mine:
            return mine
    return tuple(address for address, _ in sockets)


async def _read(
    shell: RootShell, host: str, facts: Sequence[Fact[Any]], tolerant: Sequence[Fact[Any]] = ()
) -> list[Any]:
    """Facts in one round trip; those of `tolerant` make something of a command that failed, too."""
    every = [*facts, *tolerant]
    if not every:
        return []
    command, apart = all_at_once(every)
    answer = await shell.run(command, parts=len(every))
    if answer.timed_out:
        todo = "look at the server: a file system or its docker may hang"
        raise Refused(
            "the server could not be read",
            server=host,
            why=f"no answer in {command.time_limit_s} s: {command.purpose}",
            todo=todo,
        )
    try:
        pairs = list(zip(every, apart(answer), strict=True))
    except ValueError:
        why = answer.stderr.strip() or f"the shell said {redact(answer.stdout.strip())[-200:]!r}"
        raise Refused(
            "the server could not be read", server=host, why=why, todo="look at its shell and at sudo"
        ) from None
    return [_made_of(fact, result, host, tolerant=number >= len(facts)) for number, (fact, result) in enumerate(pairs)]


def _made_of(fact: Fact[T], result: CommandResult, host: str, *, tolerant: bool = False) -> T:
    """The fact that a command's answer holds."""
    why = result.stderr.strip() or ("no answer in time" if result.timed_out else f"exit status {result.status}")
    if not result.status or tolerant:
        try:
            return fact.process(result.stdout)
        except _NO_ANSWER:
            why = f"it answered what that command never says: {redact(result.stdout.strip())[:200]!r}"
    raise Refused(
        f"could not read {result.command.purpose}", server=host, why=why, todo="look at the server, then run again"
    )
