"""One root shell a connection: framed commands with both streams, status, duration and time limit of their own.

The shell is started once by sudo and reads commands from its standard input. Every command is framed by markers on
both streams that nobody can guess, so that what banners and lectures print, and left-over processes between two
commands, is told apart.
"""

import asyncio
import secrets
import shlex
import time
from collections.abc import Iterable, Sequence

import asyncssh

from runbook_lib.errors import Locked, Refused, RunbookError, Unreachable
from runbook_lib.models import Command, CommandResult
from runbook_lib.secrets import redact

LARGEST_OUTPUT = 1 << 20
LONGEST_COMPLAINT = 64 << 10  # characters of a command's standard error, its end: only people read it
START_LIMIT_S = 30
GRACE_S = 10
END_LIMIT_S = 2
KILL_AFTER_S = 5
TAKEN = 1  # what flock ends with
BRIEFLY_S = 2  # a guard that is watching holds the lock for some milliseconds a second
# The shell's number lets the guard end a run that hangs with the lock in its hand. No openssl that is run there verifies
# anything, and where a system has its trust store in one file, each would read it first: 30 ms.
_START = (
    "umask 077; LC_ALL=C RUNBOOK_SHELL=$$ SSL_CERT_FILE=/dev/null; export LC_ALL RUNBOOK_SHELL SSL_CERT_FILE; "
    "unset ENV BASH_ENV CDPATH; cd /"
)


class ShellLost(RunbookError):
    """The root shell ended or stopped answering; what the last command did is not known."""


class RootShell:
    """A POSIX shell of root on a server, one command at a time, in order."""

    def __init__(self, process: "asyncssh.SSHClientProcess[bytes]", host: str) -> None:
        self._process, self._host = process, host
        self._stdout, self._stderr = _Framed(process.stdout), _Framed(process.stderr, end_alone=True)
        self._turn = asyncio.Lock()

    async def run(self, command: Command, *, parts: int = 1) -> CommandResult:
        """Runs one command and waits for it.

        Args:
            command: The command.
            parts: How many commands it is in one, each of which may print LARGEST_OUTPUT bytes.

        Raises:
            ShellLost: No answer came, so that the command's effect is unknown.
        """
        return (await self.run_all([command], parts=parts))[0]

    async def run_all(
        self, commands: Iterable[Command], *, bounded: bool = True, parts: int = 1
    ) -> tuple[CommandResult, ...]:
        """Sends all commands at once, so that they cost one round trip, and collects their results in order.

        Args:
            commands: The commands; an unbounded one takes nothing on standard input.
            bounded: Whether each is a process that the server ends at its time limit; what only reads may save that and
                costs half, and when it hangs the shell is given up.
            parts: How many commands each is in one, each of which may print LARGEST_OUTPUT bytes.

        Raises:
            ShellLost: No answer came, so that the commands' effect is unknown.
        """
        async with self._turn:
            sent = [(command, secrets.token_hex(16)) for command in commands]
            frame = _frame if bounded else _frame_unbounded
            try:
                # half a letter, as JSON may hold one, must not keep the way back from being gone
                text = "".join(frame(command, mark) for command, mark in sent).encode(errors="backslashreplace")
                self._process.stdin.write(text)
                return tuple([await self._collect(command, mark, parts) for command, mark in sent])
            except (asyncssh.Error, OSError, EOFError, TimeoutError) as error:
                raise self._lost(error) from None

    async def lock(self, folder: str) -> None:
        """Takes the lock of a folder for as long as this shell lives or until `unlock`.

        Raises:
            Locked: Another run or the guard holds it.
            Refused: It is no folder, or there is no flock.
        """
        quoted = shlex.quote(folder)
        status = await self._run_in_shell(
            f"{{ [ -d {quoted} ] || (exit 2); }} && exec 9<{quoted} && flock -w {BRIEFLY_S} 9"
        )
        if not status:
            return
        await self.unlock()
        if status != TAKEN:
            raise Refused(
                f"{folder} cannot be locked", server=self._host, todo="look whether it is a folder and flock is there"
            )
        raise Locked(
            f"another run is applying on {folder}", server=self._host, todo="wait until it has ended, then run again"
        )

    async def unlock(self) -> None:
        """Lets the lock go."""
        await self._run_in_shell("exec 9<&-")

    async def close(self) -> None:
        """Ends the shell, and the lock with it; what a command left in the background is not waited for."""
        self._process.stdin.write_eof()
        try:
            async with asyncio.timeout(END_LIMIT_S):
                await self._process.wait_closed()
        except TimeoutError:
            self._process.close()

    async def _run_in_shell(self, script: str) -> int:
        command = Command(script, script)
        async with self._turn:
            mark = secrets.token_hex(16)
            try:
                self._process.stdin.write(_frame_text(script, mark).encode())
                return (await self._collect(command, mark)).status
            except (asyncssh.Error, OSError, EOFError, TimeoutError) as error:
                raise self._lost(error) from None

    async def _collect(self, command: Command, mark: str, parts: int = 1) -> CommandResult:
        begun, sign, largest = time.monotonic(), mark.encode(), parts * LARGEST_OUTPUT
        async with asyncio.timeout(command.time_limit_s + KILL_AFTER_S + GRACE_S):
            out, err = await asyncio.gather(self._stdout.between(sign, largest), self._stderr.between(sign, largest))
        stdout, _, status = out.rpartition(b"\n")
        return CommandResult(
            command=command,
            status=int(status),
            stdout=stdout.decode(errors="replace"),
            stderr=redact(err.rpartition(b"\n")[0].decode(errors="replace"))[-LONGEST_COMPLAINT:],
            duration_s=time.monotonic() - begun,
        )

    def _lost(self, error: Exception) -> ShellLost:
        self._process.close()
        return ShellLost(
            "the root shell on the server no longer answers",
            server=self._host,
            why=str(error)
            or ("no answer in time" if isinstance(error, TimeoutError) else "the connection or the shell ended"),
            todo="run again: it looks at what is true on the server and goes on from there",
        )


def _frame(command: Command, mark: str) -> str:
    limited = f"timeout -k {KILL_AFTER_S} {command.time_limit_s} /bin/sh -c {shlex.quote(command.script)}"
    given = command.stdin or command.secret_stdin
    if not given:
        return _frame_text(f"{limited} </dev/null", mark)
    if not given.endswith("\n"):
        msg = "standard input of a command must end with a line end"
        raise ValueError(msg)
    return _frame_text(f"{limited} <<'{mark}'\n{given}{mark}", mark)


def _frame_unbounded(command: Command, mark: str) -> str:
    return _frame_text(f"(\n{command.script}\n) </dev/null", mark)


def _frame_text(script: str, mark: str) -> str:
    begin, end = f"printf '%s<' {mark}", f"printf '>%s\\n' {mark}"
    return (
        f"{begin}; {begin} >&2\n"
        f"{script}\n"
        f"status=$?; printf '\\n%s' $status; {end}; printf '\\n0' >&2; {end} >&2\n"
    )  # fmt: skip


class _Framed:
    """One stream of the shell, read frame by frame.

    Args:
        reader: The stream.
        end_alone: Whether of a frame that is too large the end is kept; else the shell is given up, as what is left could be
            taken for the whole.
    """

    def __init__(self, reader: "asyncssh.SSHReader[bytes]", *, end_alone: bool = False) -> None:
        self._reader, self._end_alone, self._seen = reader, end_alone, bytearray()

    async def between(self, mark: bytes, largest: int) -> bytes:
        """What stands between `<mark><` and `>mark`, whatever came before; what follows is kept for the next frame."""
        begin = await self._find(mark + b"<", 0)
        del self._seen[: begin + len(mark) + 1]
        end = await self._find(b">" + mark + b"\n", largest)
        framed = bytes(self._seen[:end])
        del self._seen[: end + len(mark) + 2]
        return framed

    async def _find(self, sought: bytes, largest: int) -> int:
        searched = 0
        while (found := self._seen.find(sought, searched)) < 0:
            searched = max(0, len(self._seen) - len(sought))
            if not largest:
                del self._seen[:searched]
                searched = 0
            elif searched > largest and self._end_alone:
                del self._seen[: largest // 2]
                searched -= largest // 2
            elif searched > largest:
                msg = f"a command printed more than {largest} bytes"
                raise OSError(msg)
            chunk = await self._reader.read(65536)
            if not chunk:
                raise EOFError
            self._seen += chunk
        return found


async def open_root_shell(
    connection: asyncssh.SSHClientConnection, *, host: str, sudo_password: str | None
) -> RootShell:
    """Becomes root by one sudo and leaves a shell ready for commands.

    Args:
        connection: The logged-in connection.
        host: The server's name for errors.
        sudo_password: Sent once, and only when sudo has asked for it; None when there is none.

    Raises:
        Unreachable: sudo turned us down; the text says why.
    """
    ready, prompt = secrets.token_hex(16), secrets.token_hex(16)
    # in two halves, because sudo quotes the command when it refuses it
    say_ready = f"printf %s%s {ready[:16]} {ready[16:]}"
    announce = f"{say_ready}; {say_ready} >&2; exec /bin/sh"
    process = None
    try:
        async with asyncio.timeout(START_LIMIT_S):
            process = await connection.create_process(
                f"exec env LC_ALL=C sudo -S -p {prompt} -- /bin/sh -c '{_START}; {announce}'",
                encoding=None,
                request_pty=False,
            )
            await _answer_sudo(process, ready.encode(), prompt.encode(), sudo_password)
    except _SudoRefused as refusal:
        if process:
            process.close()
        raise _refusal(host, refusal, prompt) from None
    except (TimeoutError, asyncssh.Error, OSError) as error:
        if process:
            process.close()
        raise Unreachable(
            "sudo gave no root shell",
            server=host,
            why=str(error) or "no answer in time",
            todo="log in by hand and try `sudo -s`",
        ) from None
    return RootShell(process, host)


class _SudoRefused(Exception):
    """sudo gave no shell: our own word for it with what to do, or what sudo said before it ended."""

    def __init__(self, noise: bytes = b"", *, wrong: str = "sudo gave no root shell", todo: str = "") -> None:
        super().__init__(wrong)
        self.noise, self.todo = noise, todo


async def _answer_sudo(
    process: "asyncssh.SSHClientProcess[bytes]", ready: bytes, prompt: bytes, password: str | None
) -> None:
    noise = bytearray()
    asked = 0
    while ready not in noise:
        chunk = await process.stderr.read(65536)
        if not chunk:
            raise _SudoRefused(bytes(noise) + await process.stdout.read(65536))
        noise += chunk
        if noise.count(prompt) == asked:
            continue
        asked = noise.count(prompt)
        if password is None:
            raise _SudoRefused(wrong="sudo asks for a password and sudo_password is empty", todo="set sudo_password")
        if asked > 1:
            raise _SudoRefused(
                wrong="sudo did not take the password",
                todo="check sudo_password: one attempt was made, no more will follow by itself",
            )
        process.stdin.write(password.encode() + b"\n")
    await _until(process.stdout, ready)


async def _until(reader: "asyncssh.SSHReader[bytes]", mark: bytes) -> None:
    seen = bytearray()
    while mark not in seen:
        chunk = await reader.read(65536)
        if not chunk:
            raise _SudoRefused(bytes(seen))
        seen += chunk


_RENEW = "log in once by hand (`ssh`), set a new password, then run again"
_ENTITLE = "log in as a user who may, or add this one to sudoers"
# what sudo, and sshd before it, say with LC_ALL=C; what that means; what to do
_SAID: Sequence[tuple[str, str, str]] = (
    ("xpired", "the password has expired", _RENEW),
    ("assword change required", "the password has expired", _RENEW),
    (
        "must have a tty",
        "sudo wants a terminal (Defaults requiretty)",
        "switch requiretty off for this user in sudoers",
    ),
    ("not in the sudoers", "the user may not use sudo", _ENTITLE),
    ("may not run sudo", "the user may not use sudo", _ENTITLE),
    ("is not allowed to execute", "the user may not become root by sudo", _ENTITLE),
    ("'sudo': No such file", "there is no sudo on the server", "install sudo"),
)


def _refusal(host: str, refusal: _SudoRefused, prompt: str) -> Unreachable:
    said = redact(refusal.noise.decode(errors="replace").replace(prompt, "")).strip()
    for sign, what, todo in _SAID:
        if sign in said:
            return Unreachable(what, server=host, why=said[-500:], todo=todo)
    return Unreachable(
        str(refusal), server=host, why=said[-500:], todo=refusal.todo or "log in by hand and try `sudo -s`"
    )
