"""The one typed schema of a run: every parameter, its form, and what to write when it is wrong."""

import datetime as dt
import difflib
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from runbook_lib.errors import UnusableParameters
from runbook_lib.models import CHANGE_ID, CertificateRequest, Fault, SubjectName
from runbook_lib.secrets import HOW_TO_WRITE, REFERENCE

PRACTICE = "/tmp/apstra-practice"  # noqa: S108 - the practice server's place, the one exception by name
LONGEST_DNS_NAME = 253  # RFC 1035, section 2.3.4, without the root's dot
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_FOLDER = re.compile(r"(/[A-Za-z0-9._][A-Za-z0-9._-]*)+")  # goes into shell text as it is
_LISTS = {
    "san": '["DNS:apstra.example.com", "IP:192.0.2.10"]',
    "service_addresses": '["apstra.example.com", "192.0.2.10"]',
    "fetch_backup": '["ssh-ed25519 AAAA…"]',
}
_KINDS = {
    "string_type": (
        "is no text",
        'text in quotes, such as "NO" or "12345" (YAML reads a bare NO as false); instead of -p use -y with quotes',
    ),
    "int_type": ("is no whole number", "a whole number without quotes"),
    "bool_type": ("is no boolean", "true or false without quotes (with -p: True or False)"),
    "list_type": ("is no list", "a list, such as {}"),
    "dict_type": ("is no mapping", "names and values, such as {ca_certificate: ca.pem}"),
    "extra_forbidden": ("is no parameter", "one of the names in the notebook's parameters cell"),
}


def _wrong(wrong: str, write: str) -> PydanticCustomError:
    return PydanticCustomError("fault", "{wrong}", {"wrong": wrong, "write": write})


def _plain(text: str) -> str:
    if text != text.strip():
        raise _wrong("starts or ends with a blank", "the same text without the blank")
    if bad := next((each for each in text if not each.isprintable()), ""):
        raise _wrong(f"holds the invisible character U+{ord(bad):04X}", "the same text without it, on one line")
    return text


def is_dns_name(text: str) -> bool:
    """Whether this is a DNS name as RFC 5280 and RFC 9525 want it in a certificate: A-labels, `*` alone on the left."""
    labels = text.removeprefix("*.").split(".")
    return len(text) <= LONGEST_DNS_NAME and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


def is_ip_address(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address, without brackets or zone."""
    try:
        return not getattr(ipaddress.ip_address(text), "scope_id", None)
    except ValueError:
        return False


def _host(text: str) -> str:
    if not is_ip_address(text) and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", text):
        raise _wrong("is neither a host name nor an IP address", "a name such as apstra.example.com, or an IP address")
    return text


def _service_address(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if is_ip_address(bare):
        return str(ipaddress.ip_address(bare))
    if is_dns_name(text) and not text.startswith("*"):
        return text
    raise _wrong("is neither a host name nor an IP address", "a name, an IP address or [IPv6], without a port")


def _alternative_name(text: str) -> str:
    kind, _, value = text.partition(":")
    if is_ip_address(value) and kind == "IP":
        return f"IP:{ipaddress.ip_address(value)}"
    if is_ip_address(value) and kind == "DNS":
        raise _wrong("is an IP address given as a DNS name, which clients refuse", f"IP:{value}")
    if is_dns_name(value) and kind == "DNS":
        return text
    if kind == "DNS" and not value.isascii():
        raise _wrong("is a DNS name outside ASCII", f"DNS:{_a_label(value)}, the name's A-label form")
    raise _wrong(f"is {text!r}, which is no subject alternative name", "DNS:apstra.example.com or IP:192.0.2.10")


def _a_label(name: str) -> str:
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return "xn--…"


def _country(text: str) -> str:
    if not re.fullmatch("([A-Z]{2})?", text):
        raise _wrong("is no country code", 'two capital letters in quotes, such as "DE"')
    return text


def _secret_reference(text: str) -> str:
    if text and not REFERENCE.fullmatch(text):
        raise _wrong("is no secret reference", HOW_TO_WRITE)
    return text


def _recipient(text: str) -> str:
    from runbook_lib.age import HOW_TO_WRITE as HOW_TO_NAME  # noqa: PLC0415 - most runs encrypt to nobody
    from runbook_lib.age import recipient_of  # noqa: PLC0415

    try:
        recipient_of(text)
    except ValueError as error:
        raise _wrong(str(error), HOW_TO_NAME) from None
    return text


def _server_folder(text: str) -> str:
    path = PurePosixPath(text)
    if str(path) != text or ".." in path.parts or not _FOLDER.fullmatch(text):
        raise _wrong(
            "is no absolute path of a folder in letters, digits, dots, dashes and underscores",
            "a path such as /etc/aos/nginx.conf.d, without `..` or a last slash",
        )
    return text


def _state_folder(text: str) -> str:
    forbidden = ("/tmp", "/var/tmp", "/dev", "/proc", "/run", "/var/spool/cron")  # noqa: S108 - refused
    path = PurePosixPath(_server_folder(text))
    if (any(map(path.is_relative_to, forbidden)) and not text.startswith(PRACTICE)) or text.startswith("/etc/cron"):
        raise _wrong(
            "lies where other users or cron could reach into it",
            "a folder of root's own, such as /var/lib/apstra-runbook",
        )
    return text


def _moment(text: str) -> str:
    if text:
        try:
            aware = dt.datetime.fromisoformat(text).tzinfo is not None
        except ValueError:
            aware = False
        if not aware:
            raise _wrong("is no time with a zone", '"2026-11-24T22:00:00Z" or "2026-11-24T22:00:00+01:00", in quotes')
    return text


def _change_id(text: str) -> str:
    if text and text != "new" and not CHANGE_ID.fullmatch(text):
        raise _wrong("is no change id", "an id such as 20261124T220000Z-1a2b3c, `new`, or nothing")
    return text


def local_path(text: str) -> str:
    """A path on the operator's side; `~` is the user's own home folder, or somebody's who has one here."""
    try:
        Path(text).expanduser()
    except RuntimeError:
        user = text.partition("/")[0]
        raise _wrong(
            f"begins with {user}, and there is no such home folder", "~/ and the rest, or a whole path"
        ) from None
    return text


# take the place of values that are wrong by themselves, while the others are judged between one another
_STAND_INS: Mapping[str, object] = {
    "host": "stand-in.example",
    "common_name": "stand-in.example",
    "san": ["DNS:stand-in.example"],
    "service_addresses": ["stand-in.example"],
    "conf_dir": "/stand-in/etc/conf.d",
    "state_dir": "/stand-in/state",
}

_LONGEST_COMMON_NAME = 64  # X.520, ub-common-name
Text = Annotated[str, AfterValidator(_plain)]
LocalPath = Annotated[str, AfterValidator(_plain), AfterValidator(local_path)]
Secret = Annotated[str, AfterValidator(_secret_reference)]
Port = Annotated[int, Field(ge=1, le=65535)]
ServerFolder = Annotated[str, AfterValidator(_server_folder)]
Moment = Annotated[str, AfterValidator(_moment)]


class Parameters(BaseModel):
    """The parameters of one run. Flat and strict: no value is converted, no unknown name is taken."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    host: Annotated[str, AfterValidator(_host)] = Field(
        description="name, IP address or ssh_config alias of the server"
    )
    ssh_port: Port = Field(22, description="TCP port of its SSH service")
    user: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.@-]*$")] = Field(
        "admin", description="login on the server"
    )
    known_hosts: LocalPath = Field("", description="file of pinned host keys; empty: ~/.ssh/known_hosts")
    client_key: LocalPath = Field(
        "", description="SSH private key file; empty: the agent, then ssh_config and the usual files"
    )
    ssh_config: LocalPath = Field("", description="OpenSSH client configuration; empty: ~/.ssh/config")
    ssh_password: Secret = Field("", description="secret reference; empty: keys only")
    bastion_passwords: dict[str, Secret] = Field(
        default_factory=dict, description="secret references by the bastion's name as ProxyJump writes it"
    )
    sudo_password: Secret = Field("", description="secret reference; empty: sudo needs none")
    https_port: Port = Field(443, description="TCP port of the web UI and API")
    service_addresses: list[Annotated[str, AfterValidator(_service_address)]] = Field(
        default_factory=list, description="names, IPs, [v6], VIPs that clients use; empty: host"
    )
    container: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = Field(
        "auto", description="name of the nginx container; auto: found by its mounts"
    )
    conf_dir: ServerFolder = Field("/etc/aos/nginx.conf.d", description="folder of the pair on the server")
    state_dir: Annotated[str, AfterValidator(_state_folder)] = Field(
        "/var/lib/apstra-runbook", description="the runbook's own folder on the server, root's alone"
    )
    common_name: Annotated[str, Field(max_length=_LONGEST_COMMON_NAME), AfterValidator(_plain)] = Field(
        "", description="subject CN, the name clients use"
    )
    san: list[Annotated[str, AfterValidator(_alternative_name)]] = Field(
        default_factory=list, description="DNS:name or IP:address; empty: common_name and service_addresses"
    )
    organization: Annotated[str, Field(max_length=64), AfterValidator(_plain)] = Field("", description="subject O")
    organizational_unit: Annotated[str, Field(max_length=64), AfterValidator(_plain)] = Field(
        "", description="subject OU"
    )
    locality: Annotated[str, Field(max_length=128), AfterValidator(_plain)] = Field("", description="subject L")
    state: Annotated[str, Field(max_length=128), AfterValidator(_plain)] = Field("", description="subject ST")
    country: Annotated[str, AfterValidator(_country)] = Field("", description="subject C, two capital letters")
    email: Annotated[str, Field(pattern=r"^([!-?A-~]+@[A-Za-z0-9.-]+)?$", max_length=128)] = Field(
        "", description="subject emailAddress"
    )
    key_type: Literal["rsa-2048", "rsa-3072", "rsa-4096", "ec-p256", "ec-p384"] = Field(
        "rsa-2048", description="rsa-2048, rsa-3072, rsa-4096, ec-p256 or ec-p384"
    )
    signer: Literal["manual", "self-signed", "local-ca"] = Field(
        "manual", description="manual, self-signed or local-ca"
    )
    signer_options: dict[str, Any] = Field(default_factory=dict, description="the signer's own options")
    certificate_file: LocalPath = Field("", description="what the CA handed back: PEM, DER or PKCS#7, with its chain")
    ca_file: LocalPath = Field("", description="PEM trust anchors that the new certificate must lead to")
    validity_days: Annotated[int, Field(ge=1, le=3650)] | None = Field(
        None, description="days asked for; None: the signer's own"
    )
    activation: Literal["restart", "reload"] = Field(
        "restart", description="restart the container, or reload nginx in it"
    )
    rollback_after_s: Annotated[int, Field(ge=30, le=3600)] = Field(
        300, description="seconds without a confirm after which the server puts the old pair back"
    )
    browser: bool = Field(
        False,  # noqa: FBT003
        description="True: Chromium visits the service addresses before and after; needs the extra `browser`",
    )
    not_before: Moment = Field("", description="start of the change window, ISO 8601 with zone, in quotes")
    not_after: Moment = Field("", description="end of the change window, ISO 8601 with zone, in quotes")
    accept_broken_start: bool = Field(False, description="go on although the pair found does not serve")  # noqa: FBT003
    apply: bool = Field(False, description="False: show the plan and change nothing")  # noqa: FBT003
    approved_plan: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = Field(
        "", description="sha256 of the plan that was approved; another plan is refused"
    )
    change_id: Annotated[str, AfterValidator(_change_id)] = Field(
        "", description="of a change on the server; empty: the open or the last one; new, to request: begin anew"
    )
    pair: Literal["before", "installed"] = Field(
        "before", description="restore only: which pair of that change comes back"
    )
    fetch_backup: list[Annotated[str, AfterValidator(_plain), AfterValidator(_recipient)]] = Field(
        default_factory=list,
        description="age or SSH public keys: copies encrypted to them go into the record; empty: none",
    )
    backup_file: LocalPath = Field(
        "", description="restore only: a copy that was fetched, whose pair comes back; empty: the server's own"
    )
    backup_identity: Secret = Field(
        "", description="restore only: secret reference to the private key that opens backup_file"
    )
    records_dir: Annotated[LocalPath, Field(min_length=1)] = Field("records", description="where the records are kept")
    signing_key: LocalPath = Field(
        "", description="SSH key that seals the record, or the .pub of one in the agent; empty: it stays unsealed"
    )
    allowed_signers: LocalPath = Field(
        "", description="file of the keys by which seals and approvals are verified, as ssh-keygen -Y verify takes it"
    )
    operator: Text = Field("", description="who runs this; empty: the login name here")
    ticket: Text = Field("", description="the change ticket")
    reason: Text = Field("", description="why this is done")
    mode: Literal["auto", "interactive", "headless"] = Field("auto", description="auto, interactive or headless")

    @property
    def addresses(self) -> tuple[str, ...]:
        """The service addresses, `host` where none are given."""
        return tuple(dict.fromkeys(self.service_addresses)) or (self.host,)

    def request(self) -> CertificateRequest:
        """What is asked of the CA: the subject, and a SAN that is never empty."""
        names = self.san or [_as_alternative_name(each) for each in (self.common_name, *self.addresses)]
        subject = SubjectName(
            common_name=self.common_name,
            organization=self.organization,
            organizational_unit=self.organizational_unit,
            locality=self.locality,
            state=self.state,
            country=self.country,
            email=self.email,
        )
        return CertificateRequest(subject, tuple(dict.fromkeys(names)), self.key_type, self.validity_days)


def _as_alternative_name(address: str) -> str:
    return f"IP:{ipaddress.ip_address(address)}" if is_ip_address(address) else f"DNS:{address}"


def validate(
    values: Mapping[str, object], *, asks_for_certificate: bool
) -> tuple[Parameters | None, tuple[Fault, ...]]:
    """Judges every value at once.

    Args:
        values: Parameter names and values as YAML, the command line or the notebook gave them.
        asks_for_certificate: Whether this run makes a CSR, so that the subject must be there.

    Returns:
        The parameters, None when a fault was found; and every fault.
    """
    # a name that is no Unicode text is none that pydantic could name
    values = {name.encode(errors="backslashreplace").decode(): value for name, value in values.items()}
    try:
        parameters = Parameters.model_validate(dict(values))
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False)
        wrong = {str(each["loc"][0]) for each in found}
        rest = {name: value for name, value in values.items() if name not in wrong}
        rest |= {name: value for name, value in _STAND_INS.items() if name in wrong}
        sound = Parameters.model_validate(rest)
        return None, tuple(map(_fault, found)) + _between(sound, asks_for_certificate=asks_for_certificate)
    faults = _between(parameters, asks_for_certificate=asks_for_certificate)
    return (None if faults else parameters), faults


def _between(parameters: Parameters, *, asks_for_certificate: bool) -> tuple[Fault, ...]:
    return _across(parameters) + (_subject(parameters) if asks_for_certificate else ())


def _fault(error: Any) -> Fault:  # noqa: ANN401 - pydantic's own mapping
    name = ".".join(str(part) for part in error["loc"] if part != "function-after")
    field = Parameters.model_fields.get(str(error["loc"][0]))
    about = field.description or "" if field else ""
    context = error.get("ctx", {})
    if error["type"] == "fault":
        return Fault(name, context["wrong"], context["write"])
    if error["type"] == "missing":
        return Fault(name, "is missing", about)
    if error["type"] == "extra_forbidden" and (alike := difflib.get_close_matches(name, Parameters.model_fields, 1)):
        return Fault(name, "is no parameter", f"{alike[0]}, if that is what is meant")
    if error["type"] in _KINDS:
        wrong, write = _KINDS[error["type"]]
        return Fault(name, wrong, write.format(_LISTS.get(name, "[...]")) if error["type"] == "list_type" else write)
    return Fault(name, error["msg"].replace("Input should", "should").replace("String should", "should"), about)


def _across(parameters: Parameters) -> tuple[Fault, ...]:
    """Faults that show only between parameters."""
    faults = []
    conf_dir, state_dir = PurePosixPath(parameters.conf_dir), PurePosixPath(parameters.state_dir)
    if state_dir.is_relative_to(conf_dir.parent) or conf_dir.is_relative_to(state_dir):
        faults.append(
            Fault("state_dir", "lies inside the folder that is backed up, or around it", "a folder of its own")
        )
    if parameters.not_before and parameters.not_after and _at(parameters.not_after) <= _at(parameters.not_before):
        faults.append(Fault("not_after", "is not later than not_before", "a time after not_before"))
    if parameters.pair != "before" and parameters.change_id == "new":
        faults.append(
            Fault(
                "change_id", "is `new`, which no recorded pair belongs to", "the id of the change whose pair comes back"
            )
        )
    for name, other in (("backup_file", "backup_identity"), ("backup_identity", "backup_file")):
        if getattr(parameters, name) and not getattr(parameters, other):
            faults.append(Fault(other, f"is empty, and {name} is not", "both or none of them"))
    if parameters.backup_file and (parameters.change_id or parameters.pair != "before"):
        faults.append(
            Fault(
                "backup_file",
                "holds one pair, and change_id or pair names another",
                "one way to say which pair comes back",
            )
        )
    return tuple(faults)


def _subject(parameters: Parameters) -> tuple[Fault, ...]:
    faults = []
    size = len(parameters.common_name.encode())
    if parameters.signer == "local-ca" and size > _LONGEST_COMMON_NAME:
        wrong = f"takes {size} bytes as UTF-8, and local-ca can sign {_LONGEST_COMMON_NAME}"
        faults.append(Fault("common_name", wrong, "a shorter name, or another signer"))
    if not parameters.common_name:
        faults.append(Fault("common_name", "is missing", "the name that clients use, such as apstra.example.com"))
    elif not parameters.san and not (is_dns_name(parameters.common_name) or is_ip_address(parameters.common_name)):
        hint = "" if parameters.common_name.isascii() else f"{_a_label(parameters.common_name)}, or "
        faults.append(
            Fault("common_name", "is no host name, so no SAN follows from it", f"{hint}a host name, or fill in san")
        )
    if not parameters.san:
        faults += [
            Fault(
                "service_addresses" if parameters.service_addresses else "host",
                f"{each!r} cannot stand in a SAN",
                "fill in san",
            )
            for each in parameters.addresses
            if not is_dns_name(each) and not is_ip_address(each)
        ]
    return tuple(faults) or _template(parameters)


def _template(parameters: Parameters) -> tuple[Fault, ...]:
    """What OpenSSL's template cannot hold, as it says itself."""
    from runbook_lib.pki.csr import template  # noqa: PLC0415 - cryptography is not needed to say --help

    try:
        template(parameters.request())
    except ValueError as error:
        name, _, wrong = str(error).partition(" ")
        return (Fault(name, wrong, "a shorter text, or one without what is named"),)
    return ()


def is_secret(field: FieldInfo) -> bool:
    """Whether a field of a model holds a reference to a secret."""
    return any(getattr(each, "func", None) is _secret_reference for each in field.metadata)


def as_shipped() -> dict[str, Any]:
    """The value of every parameter that has one when nothing is given."""
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in Parameters.model_fields.items()
        if not field.is_required()
    }


def _at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def inside_window(parameters: Parameters, now: dt.datetime) -> bool:
    """Whether the clock stands inside the change window; an end that is not given is open."""
    early = parameters.not_before and now < _at(parameters.not_before)
    late = parameters.not_after and now > _at(parameters.not_after)
    return not (early or late)


class _UniqueKeys(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, which YAML would silently let the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's
        """Builds one mapping, refusing a repeated key."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise UnusableParameters([Fault(key, "is given twice", "it once") for key in twice])
        return super().construct_mapping(node, deep=deep)


# besides its own errors PyYAML lets through those of the conversions, as for the date 2026-11-31
_NO_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)


def read_yaml(text: str, *, name: str) -> dict[str, object]:
    """Parameter values from YAML text.

    Args:
        text: The YAML.
        name: Where it came from, for the error.

    Raises:
        UnusableParameters: It is no YAML, no mapping, or gives a name twice.
    """
    try:
        values = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except _NO_YAML as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        write = "one `name: value` a line, and a value with `: ` in it or a sign such as * & @ % before it in quotes"
        raise UnusableParameters([Fault(name, f"is no YAML{place}", write)]) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UnusableParameters([Fault(name, "holds no names and values", "one `name: value` a line")])
    return {str(key): value for key, value in values.items()}


def project_folder(start: Path) -> Path:
    """The nearest folder upwards that holds `notebooks/` and `parameters/`; where there is none, the checkout this runs from."""
    candidates = (start, *start.parents, Path(__file__).parents[1])
    return next(
        (each for each in candidates if (each / "notebooks").is_dir() and (each / "parameters").is_dir()), start
    )
