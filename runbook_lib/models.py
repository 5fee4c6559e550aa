"""The values that flow through the runbooks: frozen, typed, free of behaviour beyond reading themselves."""

import dataclasses
import datetime as dt
import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

ARMING = "arm the guard"  # how the purpose begins of the command from which on the live pair may be touched
CHANGE_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")  # UTC to the second and six random hex digits


class Outcome(enum.StrEnum):
    """How a run ended; the exit code is the same for every command."""

    DONE = "done"
    NOTHING_TO_DO = "nothing-to-do"
    PLANNED = "planned"
    FAILED = "failed"
    UNUSABLE = "unusable"
    REFUSED = "refused"
    WAITING = "waiting"
    ROLLED_BACK = "rolled-back"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        """The process exit status that stands for this outcome."""
        return _EXIT_CODES[self]

    @property
    def meaning(self) -> str:
        """What a person is told that it means."""
        return _MEANINGS[self]


_EXIT_CODES = {
    Outcome.DONE: 0,
    Outcome.NOTHING_TO_DO: 0,
    Outcome.PLANNED: 0,
    Outcome.FAILED: 1,
    Outcome.UNUSABLE: 2,
    Outcome.REFUSED: 3,
    Outcome.WAITING: 4,
    Outcome.ROLLED_BACK: 5,
    Outcome.UNKNOWN: 6,
}
_MEANINGS = {
    Outcome.DONE: "done: what was asked for is there, and was seen",
    Outcome.NOTHING_TO_DO: "nothing-to-do: it was there already",
    Outcome.PLANNED: "planned: nothing was changed, apply is False",
    Outcome.FAILED: "failed unexpectedly",
    Outcome.UNUSABLE: "unusable parameters; nothing was changed",
    Outcome.REFUSED: "refused: the live pair is untouched",
    Outcome.WAITING: "waiting for the CA",
    Outcome.ROLLED_BACK: "rolled-back: the old pair is serving",
    Outcome.UNKNOWN: "unknown: a person must look",
}


class Verdict(enum.StrEnum):
    """What a check concluded. A check that could not run is `unknown`, never `pass`."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    WARN = "warn"
    UNKNOWN = "unknown"


class State(enum.StrEnum):
    """Where a change stands, derived from facts."""

    NONE = "none"
    STARTED = "started"
    WAITING = "waiting"
    READY = "ready"
    UNCONFIRMED = "unconfirmed"
    DONE = "done"
    ROLLED_BACK = "rolled-back"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Fault:
    """One unusable parameter: the field, what was wrong with it, and what to write instead."""

    field: str
    wrong: str
    write: str


@dataclass(frozen=True, slots=True)
class Check:
    """A judgement over facts.

    Attributes:
        question: What an operator would ask, ending in a question mark.
        expected: What a `pass` would have found.
        found: What was found.
        verdict: The judgement.
        source: Where the rule comes from (RFC section, baseline requirement, vendor step).
        todo: What to do when it is no `pass`.
    """

    question: str
    expected: str
    found: str
    verdict: Verdict
    source: str = ""
    todo: str = ""


def judged(  # noqa: PLR0913 - a check has as many parts
    question: str, expected: str, found: str, *, good: bool, source: str, todo: str, bad: Verdict = Verdict.FAIL
) -> Check:
    """A check that passes when `good` is true and has the verdict `bad` and something to do when it is not."""
    return Check(question, expected, found, Verdict.PASS if good else bad, source, "" if good else todo)


@dataclass(frozen=True, slots=True)
class Command:
    """One command for the root shell of a server.

    Attributes:
        purpose: What it is for, a few words, shown in plan, journal and errors.
        script: POSIX shell text, exactly as it is run.
        undo: How its effect is put back, shell text or a sentence; empty when it changes nothing.
        stdin: Text given on standard input; never a secret.
        secret_stdin: The same for a secret: neither shown nor hashed nor journaled.
        time_limit_s: Seconds after which the server ends it.
    """

    purpose: str
    script: str
    undo: str = ""
    stdin: str = ""
    time_limit_s: int = 30
    secret_stdin: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command did: exit status, the two streams apart, and how long it took in seconds."""

    command: Command
    status: int
    stdout: str
    stderr: str
    duration_s: float

    @property
    def timed_out(self) -> bool:
        """Whether the server ended it at its time limit (timeout(1) reports 124, or 137 after SIGKILL)."""
        return self.status in {124, 137}


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is read from one X.509 certificate.

    Attributes:
        pem: The certificate as PEM text, line feeds alone as line ends.
        sha256: Fingerprint over the DER form, lower-case hex.
        spki_sha256: SHA-256 over the DER SubjectPublicKeyInfo, lower-case hex (RFC 7469, section 2.4).
        subject, issuer: RFC 4514 text.
        common_name: The first CN of the subject, or empty.
        organizational_units: The OU values of the subject.
        san: Entries as `DNS:name` or `IP:address`; other kinds as `OTHER:…`.
        serial: Serial number, lower-case hex.
        not_before, not_after: UTC.
        key: `rsa-2048`, `ec-p256`, …
        signature_hash: `sha256`, … or empty where the algorithm has none.
        is_ca: basicConstraints CA.
        key_usage: `digital_signature`, `key_encipherment`, …; None when the extension is absent.
        extended_key_usage: Dotted OIDs; None when the extension is absent.
        unknown_critical: Dotted OIDs of critical extensions that TLS clients do not know.
        self_signed: Issuer equals subject and its own key verifies the signature.
    """

    pem: str
    sha256: str
    spki_sha256: str
    subject: str
    issuer: str
    common_name: str
    organizational_units: tuple[str, ...]
    san: tuple[str, ...]
    serial: str
    not_before: dt.datetime
    not_after: dt.datetime
    key: str
    signature_hash: str
    is_ca: bool
    key_usage: tuple[str, ...] | None
    extended_key_usage: tuple[str, ...] | None
    unknown_critical: tuple[str, ...]
    self_signed: bool


@dataclass(frozen=True, slots=True)
class KeyDigest:
    """The public key of one staged file as two programs see it: SHA-256 of the DER SubjectPublicKeyInfo, lower-case hex."""

    file: str
    server: str
    here: str


@dataclass(frozen=True, slots=True)
class SubjectName:
    """The subject asked for, in the order it is written into the CSR: country first, common name last."""

    common_name: str
    organization: str = ""
    organizational_unit: str = ""
    locality: str = ""
    state: str = ""
    country: str = ""
    email: str = ""


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """What is asked of the CA.

    Attributes:
        subject: The distinguished name.
        san: Entries as `DNS:name` or `IP:address`, at least one.
        key_type: `rsa-2048`, `rsa-3072`, `rsa-4096`, `ec-p256` or `ec-p384`.
        validity_days: Days asked for; None leaves it to the signer.
    """

    subject: SubjectName
    san: tuple[str, ...]
    key_type: str
    validity_days: int | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """What one handshake saw.

    Attributes:
        address: The service address or socket address that was asked.
        vantage: Where it was seen from: `server`, `direct` or `ssh`.
        chain: PEM certificates as sent, leaf first; empty when there was no handshake.
        protocol: `TLSv1.3`, …; empty when there was no handshake.
        error: Why there was no handshake.
    """

    address: str
    vantage: str
    chain: tuple[str, ...] = ()
    protocol: str = ""
    error: str = ""


class Said(enum.StrEnum):
    """What a browser made of an address."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    NOTHING = "could not be asked"


@dataclass(frozen=True, slots=True)
class Visited:
    """What a browser saw at one address.

    Attributes:
        address: The service address.
        url: Where it ended up; where it got nowhere, what it was sent to.
        said: What it made of it.
        error: Its own word for why not, `net::ERR_…`, or why it could not be asked; empty where it accepted.
        chain: Leaf first, as the browser put it together, which may reach up to the anchor; empty where it saw none.
        protocol: `TLS 1.3`, …; empty where it saw no certificate.
        status: The HTTP status; None where there was no page.
        title: What the page calls itself, one line.
        screenshot: PNG, an error page too; empty where there is none.
        todo: What to do where it could not be asked.
    """

    address: str
    url: str
    said: Said
    error: str = ""
    chain: tuple[Certificate, ...] = ()
    protocol: str = ""
    status: int | None = None
    title: str = ""
    screenshot: bytes = field(default=b"", repr=False)
    todo: str = ""


@dataclass(frozen=True, slots=True)
class FileFact:
    """One entry of a folder on the server: name, octal mode text, numeric owner and group, bytes, SHA-256 hex, last written (Unix time)."""

    name: str
    kind: str
    mode: str
    owner: str
    group: str
    size: int
    sha256: str
    written: float = 0.0


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of the container: `bind` or `volume`, host path, path inside."""

    kind: str
    source: str
    destination: str


@dataclass(frozen=True, slots=True)
class Container:
    """A container as docker describes it; `pid` is its first process as the server numbers it, `started` text as docker writes it."""

    name: str
    container_id: str
    status: str
    pid: int
    mounts: tuple[Mount, ...]
    started: str = ""

    def mounts_of(self, folder: str) -> tuple[Mount, ...]:
        """The mounts through which the container sees a folder of the server, or files in it."""
        path = PurePosixPath(folder)
        return tuple(
            m for m in self.mounts if path.is_relative_to(m.source) or PurePosixPath(m.source).is_relative_to(path)
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate file and a private key file, by what can be shown of them.

    Attributes:
        certificate_sha256, key_sha256: SHA-256 of the files' bytes, lower-case hex; empty when absent.
        chain: The certificates of the certificate file, leaf first.
        key_spki_sha256: SHA-256 of the DER public key of the private key; empty when unreadable.
    """

    certificate_sha256: str = ""
    key_sha256: str = ""
    chain: tuple[Certificate, ...] = ()
    key_spki_sha256: str = ""

    @property
    def matches(self) -> bool:
        """Whether certificate and key hold the same public key."""
        return bool(self.chain) and self.chain[0].spki_sha256 == self.key_spki_sha256


@dataclass(frozen=True, slots=True)
class ChangeFolder:
    """What `state_dir/changes/<change-id>/` holds of one change.

    Attributes:
        change_id: The folder's name.
        kind: `replace` or `restore`.
        request: What was asked for, as it was written when the change began; empty for a restore.
        nginx_conf: SHA-256 of nginx.conf when the change began; empty where an earlier version began it.
        csr: The CSR as PEM text, or empty.
        staged: The pair that is to go live.
        public_keys: Of `key`, `csr` and `certificate` as staged and of the backup's key, `before`: the SPKI digest taken by
            the server's openssl (SHA-256, lower-case hex), and the public key itself as PEM text.
        before: The pair that was live when the change began, as backed up.
        backup_sums: SHA-256 by file name of the backup, as it was proven; empty when there is none.
        armed: Whether the guard was armed.
        watched: Whether its timer is alive; a restart of the server ends it.
        guard_log: What the guard wrote down, a line each.
        decided: `confirmed`, `rolled-back`, `superseded`, or empty while undecided.
        journal_head: SHA-256 of the last journal line a run left here, or empty.
        seal: SHA-256 of the last seal a run left here, or empty.
        files: Octal mode text by the name of each file in the folder; empty when there is no such change.
    """

    change_id: str
    kind: str = "replace"
    request: Mapping[str, object] = field(default_factory=dict)
    nginx_conf: str = ""
    csr: str = ""
    staged: Pair = Pair()
    public_keys: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    before: Pair = Pair()
    backup_sums: Mapping[str, str] = field(default_factory=dict)
    armed: bool = False
    watched: bool = False
    guard_log: tuple[str, ...] = ()
    decided: str = ""
    journal_head: str = ""
    seal: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def half_way_back(self) -> bool:
        """Whether a rollback was decided, and whoever was at it has not written down that the old pair serves again."""
        return self.armed and self.decided == "rolled-back" and "settled" not in self.files


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is read from a server before anything is decided.

    Attributes:
        host: The parameter `host`.
        hostname: What the server calls itself.
        host_key: The SSH host key, OpenSSH SHA-256 form.
        os: PRETTY_NAME of os-release.
        openssl: `openssl version` text.
        apstra_version: What `GET /api/version` answers; empty when unreadable.
        root_uid: The numeric user id the root shell runs as.
        container: The nginx container; None when there is none, or not one alone.
        containers: All containers, running or not.
        conf_files: Every entry of conf_dir.
        live: The pair that nginx loads.
        served: Handshakes at each service address, every vantage point that was tried.
        listening: Socket addresses that listen on `https_port`, as `127.0.0.1:443` or `[::1]:443`.
        free_bytes: Free bytes of the file systems of state_dir and conf_dir.
        aos_bytes: Bytes of the folder that is backed up.
        state_bytes: Bytes of state_dir.
        clock_skew_s: Server's clock minus ours, seconds.
        now: Our clock at the time of reading, UTC.
        systemd: Whether docker is a service of systemd's on the server.
        state_dir_faults: What is wrong with state_dir's place; empty when it is fit to use or absent.
        missing_tools: Programs the commands need that the server has not.
        listed: The changes on the server, oldest first: id, `replace` or `restore`, and what was decided.
        changes: The folders of those that were read in full.
    """

    host: str
    hostname: str
    host_key: str
    os: str
    openssl: str
    apstra_version: str
    root_uid: int
    container: Container | None
    containers: tuple[Container, ...]
    conf_files: tuple[FileFact, ...]
    live: Pair
    served: tuple[Served, ...]
    listening: tuple[str, ...]
    free_bytes: Mapping[str, int]
    aos_bytes: int
    clock_skew_s: float
    now: dt.datetime
    systemd: bool = False
    state_bytes: int = 0
    state_dir_faults: tuple[str, ...] = ()
    missing_tools: tuple[str, ...] = ()
    listed: tuple[tuple[str, str, str], ...] = ()
    changes: tuple[ChangeFolder, ...] = ()

    @property
    def nginx_conf(self) -> str:
        """SHA-256 of nginx.conf as it lies in conf_dir, or empty."""
        return next((each.sha256 for each in self.conf_files if each.name == "nginx.conf"), "")

    def serves(self, pair: Pair) -> bool:
        """Whether nginx serves this pair's certificate, seen on the server itself; False where it serves nothing."""
        seen = [each.chain for each in self.served if each.vantage == "server"]
        return bool(seen and pair.chain) and all(
            chain and chain[0].strip() == pair.chain[0].pem.strip() for chain in seen
        )

    def change(self, change_id: str) -> ChangeFolder:
        """The folder of one change; an empty one where the server has none of that id."""
        return next((c for c in self.changes if c.change_id == change_id), ChangeFolder(change_id))

    def with_change(self, change: ChangeFolder) -> "Facts":
        """A copy in which one change's folder is as given."""
        others = (each for each in self.changes if each.change_id != change.change_id)
        return dataclasses.replace(self, changes=(*others, change))


@dataclass(frozen=True, slots=True)
class PlannedCommand:
    """A command of a plan, with the step it belongs to."""

    step: str
    command: Command


@dataclass(frozen=True, slots=True)
class Plan:
    """The exact commands that apply would run, and the digest over them and what they stand on.

    Attributes:
        name: `request`, `install` or `restore`.
        commands: In the order they run; empty when nothing is to do.
        sha256: Lower-case hex digest over the plan's RFC 8785 form.
        way_back: The one-line command that puts the old pair back by hand.
        document: The bytes that were digested: what an approval is over.
    """

    name: str
    commands: tuple[PlannedCommand, ...]
    sha256: str
    way_back: str
    document: bytes = b""
