"""What a run needs before it can touch a server: usable parameters, resolved secrets, a signer, a root shell."""

import getpass
import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from runbook_lib.errors import UnusableParameters
from runbook_lib.files import read_regular
from runbook_lib.models import Certificate, Fault, Pair
from runbook_lib.parameters import Parameters, validate
from runbook_lib.pki.certificates import read_certificates, spki_sha256_of_private
from runbook_lib.record.seal import NAMESPACE
from runbook_lib.secrets import REFERENCE, REGISTRY, SecretUnavailable, resolve
from runbook_lib.server.connection import Connection, Login, connect
from runbook_lib.server.fetch import unpack
from runbook_lib.server.shell import RootShell, open_root_shell
from runbook_lib.signers import Signer, make_signer, option_faults
from runbook_lib.sshsig import SigningKey, allows, check_allowed, load_signing_key

Kind = Literal["audit", "request", "install", "restore"]
LARGEST_CERTIFICATE_FILE = 1 << 20
_SIGNER = re.compile(r'[^\s,"*?!]+')  # one principal of ssh-keygen(1), ALLOWED SIGNERS
LARGEST_BACKUP = 512 << 20
NOTEBOOKS: Mapping[Kind, str] = {
    "audit": "100_audit_certificates",
    "request": "200_request_certificate",
    "install": "300_install_certificate",
    "restore": "900_restore_certificate",
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that is ready to contact its server; nothing was contacted yet.

    Attributes:
        kind: Which notebook this run is.
        parameters: As given.
        base: The folder against which relative paths are resolved.
        login: How to reach the server, secrets resolved.
        sudo_password: None when sudo is expected to ask for none.
        signer: What turns the CSR into a certificate.
        handed_in: The certificates of `certificate_file`; empty while the CA has not answered.
        trust: The trust anchors of `ca_file`.
        fetched: The pair of `backup_file`.
        signing: The key that seals the record; None: it stays unsealed.
        allowed_signers: The text of that file; empty where none was given.
    """

    kind: Kind
    parameters: Parameters
    base: Path
    login: Login
    sudo_password: str | None = field(repr=False)
    signer: Signer
    handed_in: tuple[Certificate, ...]
    trust: tuple[Certificate, ...]
    fetched: "Fetched | None" = None
    signing: SigningKey | None = None
    allowed_signers: str = ""

    @property
    def operator(self) -> str:
        """Who runs this; the login name here where nobody was named."""
        return self.parameters.operator or getpass.getuser()

    @property
    def records(self) -> Path:
        """The folder of the records."""
        return self.base / Path(self.parameters.records_dir).expanduser()


@dataclass(frozen=True, slots=True)
class Fetched:
    """A pair out of a copy that was fetched: as it is shown, and the two files, of which the key is kept in memory alone."""

    pair: Pair
    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)


def prepare(
    kind: Kind, values: Mapping[str, object], base: Path, ask: Callable[[str], str] | None, *, handed_in: bytes = b""
) -> Prepared:
    """Judges all that was given and resolves every secret.

    Args:
        kind: Which notebook this run is.
        values: The parameters as given.
        base: The folder against which relative paths are resolved.
        ask: Asks a person for a `prompt` secret; None when nobody is there.
        handed_in: What a person dropped or pasted in place of `certificate_file`; empty: nothing.

    Raises:
        UnusableParameters: With every fault; nothing was contacted.
    """
    parameters = usable(kind, values)
    gathered = _Gathered(parameters, base, ask)
    prepared = Prepared(
        kind=kind,
        parameters=parameters,
        base=base,
        login=gathered.login(),
        sudo_password=gathered.secret("sudo_password", parameters.sudo_password),
        signer=gathered.signer(needed=kind == "request"),
        handed_in=gathered.handed_in(handed_in),
        trust=gathered.trust(),
        fetched=gathered.fetched(),
        signing=gathered.signing(),
        allowed_signers=gathered.allowed_signers(),
    )
    gathered.faults += _unverifiable(prepared)
    if gathered.faults:
        raise UnusableParameters(gathered.faults)
    return prepared


def usable(kind: Kind, values: Mapping[str, object]) -> Parameters:
    """The parameters of a run, judged by themselves: no file is read for them and no secret resolved.

    Raises:
        UnusableParameters: With every fault.
    """
    parameters, faults = validate(values, asks_for_certificate=kind == "request")
    options, name = values.get("signer_options", {}), values.get("signer", "manual")
    if isinstance(options, Mapping) and isinstance(name, str):
        faults += option_faults(name, options)
    if kind in {"install", "restore"} and values.get("change_id") == "new":
        wrong = f"is `new`, and {kind} makes nothing new: it goes on from a change that there is"
        faults += (Fault("change_id", wrong, "the id of that change, or nothing"),)
    if parameters is None or faults:
        raise UnusableParameters(faults)
    return parameters


class _Gathered:
    """Resolves references and reads files, keeping every fault instead of stopping at the first."""

    def __init__(self, parameters: Parameters, base: Path, ask: Callable[[str], str] | None) -> None:
        self.parameters, self.base, self.ask = parameters, base, ask
        self.faults: list[Fault] = []
        values = parameters.model_dump().values()
        self._public = [
            each
            for value in values
            for each in ([value] if isinstance(value, str) else value if isinstance(value, list | tuple) else ())
            if isinstance(each, str)
        ]

    def path(self, text: str) -> Path:
        return self.base / Path(text).expanduser()

    def secret(self, name: str, reference: str) -> str | None:
        if not reference:
            return None
        try:
            value = resolve(reference, name=name, base=self.base, ask=self.ask)
        except SecretUnavailable as error:
            said = str(error).removeprefix(f"{name}: ")
            self.faults.append(Fault(name, said, "a reference that leads to the secret"))
            return None
        REGISTRY.add(value, name=name, public=self._public)
        return value

    def login(self) -> Login:
        given = self.parameters
        bastions = {
            host: self.secret(f"bastion_passwords.{host}", reference)
            for host, reference in given.bastion_passwords.items()
        }
        local = {
            name: str(self._regular(name) or "") if getattr(given, name) else ""
            for name in ("known_hosts", "client_key", "ssh_config")
        }
        return Login(
            given.host, given.ssh_port, given.user, **local,
            password=self.secret("ssh_password", given.ssh_password),
            bastion_passwords={host: value for host, value in bastions.items() if value is not None},
        )  # fmt: skip

    def _regular(self, name: str) -> Path | None:
        """The file that a parameter names, there or not; None for what could keep us waiting or has no end."""
        path = self.path(getattr(self.parameters, name))
        try:
            if path.exists() and not path.is_file():
                self.faults.append(Fault(name, "is no regular file", "the path of one"))
                return None
        except OSError as error:  # no way there, or a name that no file can have
            self.faults.append(Fault(name, f"cannot be looked at: {error.strerror}", "the path of a file"))
            return None
        return path

    def signer(self, *, needed: bool) -> Signer:
        """The signer; where none is asked for anything, one that needs no key and no secret, but what can be known is masked all the same."""
        given = self.parameters
        file = self.path(given.certificate_file) if given.certificate_file else None

        def value_of(option: str, reference: str) -> str:
            return self.secret(f"signer_options.{option}", reference) or ""

        try:
            if not needed:
                self._mask_options()
                return make_signer("manual", {}, file, value_of, self.base)
            return make_signer(given.signer, given.signer_options, file, value_of, self.base)
        except UnusableParameters as error:
            self.faults += error.faults
            return make_signer("manual", {}, None, value_of, self.base)

    def _mask_options(self) -> None:
        """Registers the signer's secrets where nobody has to be asked: the record may hold one from the run that asked the signer."""
        for option, reference in self.parameters.signer_options.items():
            if isinstance(reference, str) and REFERENCE.fullmatch(reference):
                name = f"signer_options.{option}"
                with suppress(SecretUnavailable):  # on this host they need not be there
                    REGISTRY.add(resolve(reference, name=name, base=self.base), name=name, public=self._public)

    def handed_in(self, data: bytes) -> tuple[Certificate, ...]:
        """What the CA handed back: dropped, pasted, or in `certificate_file`, which need not be there yet."""
        name, write = "certificate_file", "what the CA handed back: PEM, DER or PKCS#7"
        if data:
            return self._certificates(name, data, write)
        path = self._regular(name) if self.parameters.certificate_file else None
        return self._certificates(name, self._read(name, path), write) if path and path.exists() else ()

    def trust(self) -> tuple[Certificate, ...]:
        """The certificates of `ca_file`, of which at least one can vouch for others."""
        path = self._regular("ca_file") if self.parameters.ca_file else None
        write = "the CA's root certificate, as PEM"
        found = self._certificates("ca_file", self._read("ca_file", path), write) if path else ()
        if found and not any(each.is_ca or each.self_signed for each in found):
            self.faults.append(Fault("ca_file", "holds no CA's certificate", "the CA's root certificate, as PEM"))
        return found

    def _read(self, name: str, path: Path) -> bytes | None:
        try:
            return read_regular(path, LARGEST_CERTIFICATE_FILE)
        except OSError as error:
            self.faults.append(Fault(name, f"cannot be read: {error.strerror}", "the path of an existing file"))
            return None

    def _certificates(self, name: str, data: bytes | None, write: str) -> tuple[Certificate, ...]:
        try:
            return read_certificates(data) if data is not None else ()
        except ValueError as error:
            self.faults.append(Fault(name, f"holds no certificate: {error}", write))
            return ()

    def signing(self) -> SigningKey | None:
        """The key that seals."""
        path = self._regular("signing_key") if self.parameters.signing_key else None
        if path is None:
            return None
        write = "the path of an SSH private key in the clear, or of the .pub of one that the agent holds"
        try:
            return load_signing_key(path)
        except OSError as error:
            self.faults.append(Fault("signing_key", f"cannot be read: {error.strerror}", write))
        except ValueError as error:
            self.faults.append(Fault("signing_key", str(error), write))
        return None

    def allowed_signers(self) -> str:
        """The text of the file of allowed signers."""
        path = self._regular("allowed_signers") if self.parameters.allowed_signers else None
        if path is None:
            return ""
        try:
            text = read_regular(path, LARGEST_CERTIFICATE_FILE).decode()
            check_allowed(text)
        except OSError as error:
            self.faults.append(Fault("allowed_signers", f"cannot be read: {error.strerror}", "the path of a file"))
        except ValueError:
            self.faults.append(
                Fault("allowed_signers", "names no signer", "a line a key: the signer's name and the public key")
            )
        else:
            return text
        return ""

    def fetched(self) -> Fetched | None:
        """The pair of `backup_file`, opened with `backup_identity`."""
        from runbook_lib.age import decrypt  # noqa: PLC0415 - few runs need it

        identity = self.secret("backup_identity", self.parameters.backup_identity)
        path = self._regular("backup_file") if self.parameters.backup_file else None
        if path is None or identity is None:
            return None
        field_ = "backup_file"
        try:
            sealed = read_regular(path, LARGEST_BACKUP)
            field_ = "backup_identity"
            packed = decrypt(sealed, identity)
            field_ = "backup_file"
            return _pair_in(packed)
        except OSError as error:
            self.faults.append(Fault(field_, f"cannot be read: {error.strerror}", "the path of a file out of a record"))
        except ValueError as error:
            self.faults.append(
                Fault(field_, str(error), "a copy out of a record, and the key of one of its recipients")
            )
        return None


def _unverifiable(prepared: Prepared) -> list[Fault]:
    """What would keep the seal of this run from being verified is found out before it is needed."""
    key, allowed, operator = prepared.signing, prepared.allowed_signers, prepared.operator
    if key is None:
        return []
    if not prepared.parameters.operator:
        return [Fault("operator", "is empty, and a seal bears it", "the name under which allowed_signers lists you")]
    if not _SIGNER.fullmatch(operator):
        return [
            Fault(
                "operator",
                "cannot stand in a file of allowed signers",
                'a name without blanks and ,"*?! such as a mail address',
            )
        ]
    if not allowed or allows(allowed, principal=operator, key=key, namespace=NAMESPACE):
        return []
    wrong = f"does not list {key.fingerprint} for {operator}, so that no seal of this run could be verified"
    return [Fault("allowed_signers", wrong, f"a file with the line: {operator} {key.public}")]


def _pair_in(packed: bytes) -> Fetched:
    """The pair in a copy.

    Raises:
        ValueError: There is none that belongs together.
    """
    names = ("nginx.crt", "nginx.key")
    found = unpack(packed, names)
    certificate, key = (found[name] for name in names)
    pair = Pair(
        hashlib.sha256(certificate).hexdigest(), hashlib.sha256(key).hexdigest(),
        read_certificates(certificate), spki_sha256_of_private(key),
    )  # fmt: skip
    if not pair.matches:
        msg = "holds a key and a certificate that do not match"
        raise ValueError(msg)
    return Fetched(pair, certificate, key)


@dataclass(frozen=True, slots=True)
class Session:
    """An open connection with its root shell."""

    connection: Connection
    shell: RootShell

    async def close(self) -> None:
        """Ends the root shell, the lock it holds, and the connection."""
        await self.shell.close()
        await self.connection.close()


async def open_session(prepared: Prepared) -> Session:
    """Logs in and becomes root.

    Raises:
        Refused: With the reason: host key, login, sudo or network.
    """
    connection = await connect(prepared.login)
    try:
        shell = await open_root_shell(
            connection.ssh, host=prepared.parameters.host, sudo_password=prepared.sudo_password
        )
    except BaseException:
        await connection.close()
        raise
    return Session(connection, shell)
