# ruff: noqa: S108 - folders under /tmp are refused here, not used
"""Parameters: every form that is taken, every fault that is named, and no secret in what is said about it."""

import dataclasses
import datetime as dt
import subprocess
from pathlib import Path

import pytest

from runbook_lib.errors import UnusableParameters
from runbook_lib.models import Fault, Outcome
from runbook_lib.parameters import (  # fmt: skip
    Parameters,
    inside_window,
    is_dns_name,
    is_ip_address,
    project_folder,
    read_yaml,
    validate,
)
from runbook_lib.pki.csr import template
from runbook_lib.secrets import HOW_TO_WRITE
from runbook_lib.steps import backup, csr, folder, install, key, stage
from runbook_lib.steps.confirm import plan as confirm_plan
from tests.steps.facts import a_server

GIVEN: dict[str, object] = {"host": "apstra.example.com", "common_name": "apstra.example.com"}
CLEAR = "Tr0ub4dor&3 in clear"
TEXT = 'text in quotes, such as "NO" or "12345" (YAML reads a bare NO as false); instead of -p use -y with quotes'


def faults_of(**given: object) -> dict[str, Fault]:
    """The faults by their field, of good parameters with some changed."""
    parameters, faults = validate(GIVEN | given, asks_for_certificate=True)
    assert (parameters is None) == bool(faults)
    named = {each.field: each for each in faults}
    assert len(named) == len(faults), faults
    return named


def taken(**given: object) -> Parameters:
    """Parameters that must be usable."""
    parameters, faults = validate(GIVEN | given, asks_for_certificate=True)
    assert parameters is not None, faults
    return parameters


TAKEN: dict[str, list[object]] = {
    "host": ["apstra", "apstra.example.com", "192.0.2.10", "2001:db8::10", "fe80::1"],
    "ssh_port": [1, 22, 65535],
    "user": ["admin", "_svc", "ops.team", "a@corp", "a-b"],
    "known_hosts": ["", "~/.ssh/known_hosts", "/srv/ä b/known hosts"],
    "ssh_password": ["", "env:SSH_PASSWORD", "file:~/secret", "file:/a b/c", "keyring:apstra/admin", "keyring:a/b/c", "prompt"],
    "bastion_passwords": [{}, {"jump.example.com": "prompt", "ops@jump:2222": "env:JUMP"}],
    "https_port": [443, 8443],
    "service_addresses": [[], ["apstra.example.com", "192.0.2.10", "2001:db8::1", "[2001:db8::1]", "xn--kse-qla.example"]],
    "container": ["auto", "aos_nginx_1", "aos-nginx-1"],
    "conf_dir": ["/etc/aos/nginx.conf.d", "/srv/docker_1/aos-nginx/conf.d"],
    "state_dir": ["/var/lib/apstra-runbook", "/tmp/apstra-practice-x1/state", "/runbook", "/developer/state", "/etcetera"],
    "common_name": [f"{'a' * 30}.{'b' * 33}", "*.example.com", "192.0.2.10", "2001:db8::10"],
    "san": [["DNS:apstra.example.com", "DNS:*.example.com", "DNS:apstra", "IP:192.0.2.10", "IP:2001:db8::10", "DNS:xn--kse-qla.example"]],
    "organization": ["", "Käse & Söhne, \"GmbH\" 'x' $ENV::HOME ${HOME} #;[a]=\\", "ö" * 64],
    "organizational_unit": ["日本語"],
    "locality": ["Köln"],
    "state": ["ö" * 128],
    "country": ["", "NO", "DE"],
    "email": ["", "netz@example.com", "$a+b/c='x'@example.com"],
    "key_type": ["rsa-2048", "rsa-3072", "rsa-4096", "ec-p256", "ec-p384"],
    "signer": ["manual", "self-signed", "local-ca"],
    "signer_options": [{}, {"ca_certificate": "ca.pem"}],
    "validity_days": [None, 1, 3650],
    "activation": ["restart", "reload"],
    "rollback_after_s": [30, 3600],
    "not_before": ["", "2026-11-24T22:00:00Z", "2026-11-24T22:00:00+01:00", "2026-11-24T22:00+00:00"],
    "apply": [True, False],
    "accept_broken_start": [True],
    "approved_plan": ["", "0123456789abcdef" * 4],
    "change_id": ["", "new", "20261124T220000Z-1a2b3c"],
    "pair": ["before", "installed"],
    "operator": ["Ada Lovelace"],
    "ticket": ["12345", "CHG-1"],
    "signing_key": ["", "~/.ssh/id_ed25519"],
    "allowed_signers": ["", "signers"],
    "mode": ["auto", "interactive", "headless"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in TAKEN.items() for value in values])
def test_each_form_is_taken_as_it_is(name: str, value: object) -> None:
    """A good value is taken and kept unchanged; addresses alone are written in their one form."""
    kept = getattr(taken(**{name: value}), name)
    assert kept == value or name == "service_addresses"


REFUSED: dict[str, tuple[str, object, str, str]] = {
    "no host": ("host", "", "neither a host name nor an IP address", "apstra.example.com"),
    "host with a port": ("host", "apstra:22", "neither a host name", "apstra.example.com"),
    "host as an option": ("host", "-oProxyCommand=x", "neither a host name", "apstra.example.com"),
    "host with a command": ("host", "a;id", "neither a host name", "apstra.example.com"),
    "host with a zone": ("host", "fe80::1%eth0", "neither a host name", "an IP address"),
    "host with a line feed": ("host", "apstra\n", "neither a host name", "apstra.example.com"),
    "host is null": ("host", None, "is no text", TEXT),
    "port 0": ("ssh_port", 0, "greater than or equal to 1", "TCP port"),
    "port 65536": ("https_port", 65536, "less than or equal to 65535", "TCP port"),
    "port as text": ("ssh_port", "22", "is no whole number", "without quotes"),
    "port as a fraction": ("ssh_port", 22.0, "is no whole number", "without quotes"),
    "port as a boolean": ("ssh_port", True, "is no whole number", "without quotes"),
    "user as an option": ("user", "-l", "should match", "login"),
    "user with a command": ("user", "a$(id)", "should match", "login"),
    "user with a line feed": ("user", "admin\n", "should match", "login"),
    "no user": ("user", "", "should match", "login"),
    "bidi in a path": ("known_hosts", "a\u202eb", "invisible character U+202E", "without it"),
    "escape in a text": ("reason", "\x1b[31mred", "invisible character U+001B", "on one line"),
    "line feed in a text": ("organization", "a\nb", "invisible character U+000A", "on one line"),
    "NUL in a text": ("ticket", "a\0b", "invisible character U+0000", "without it"),
    "blank in front": ("organization", " a", "blank", "without the blank"),
    "no-break space at the end": ("locality", "a\u00a0", "blank", "without the blank"),
    "text of a number": ("ticket", 12345, "is no text", TEXT),
    "text of a date": ("not_before", dt.datetime(2026, 11, 24, tzinfo=dt.UTC), "is no text", TEXT),
    "secret as a number": ("ssh_password", 12345678, "is no text", TEXT),
    "one service address as text": ("service_addresses", "apstra.example.com", "is no list", "a list"),
    "san is null": ("san", None, "is no list", "a list"),
    "san as a tuple": ("san", ("DNS:a",), "is no list", "a list"),
    "container with a command": ("container", "a;id", "should match", "nginx container"),
    "container as an option": ("container", "--rm", "should match", "nginx container"),
    "conf_dir not absolute": ("conf_dir", "etc/aos", "no absolute path", "/etc/aos/nginx.conf.d"),
    "conf_dir is the root": ("conf_dir", "/", "no absolute path", "/etc/aos/nginx.conf.d"),
    "conf_dir with ..": ("conf_dir", "/etc/aos/../x", "no absolute path", "without `..`"),
    "conf_dir with a last slash": ("conf_dir", "/etc/aos/nginx.conf.d/", "no absolute path", "a last slash"),
    "conf_dir with two slashes": ("conf_dir", "//etc/aos", "no absolute path", "/etc/aos/nginx.conf.d"),
    "conf_dir with a blank": ("conf_dir", "/etc/aos/a b", "in letters, digits", "/etc/aos/nginx.conf.d"),
    "conf_dir that looks like an option": ("conf_dir", "/etc/-x/conf.d", "in letters, digits", "/etc/aos/nginx.conf.d"),
    "state_dir with a command": ("state_dir", "/srv/a;id", "in letters, digits", "/etc/aos/nginx.conf.d"),
    "state_dir with a substitution": ("state_dir", "/srv/$(id)", "in letters, digits", "/etc/aos/nginx.conf.d"),
    "state_dir with a line feed": ("state_dir", "/srv/a\nid", "in letters, digits", "/etc/aos/nginx.conf.d"),
    "state_dir in /tmp": ("state_dir", "/tmp/x", "other users or cron", "/var/lib/apstra-runbook"),
    "state_dir is /tmp": ("state_dir", "/tmp", "other users or cron", "/var/lib/apstra-runbook"),
    "state_dir in /var/tmp": ("state_dir", "/var/tmp/x", "other users or cron", "/var/lib/apstra-runbook"),
    "state_dir in shared memory": ("state_dir", "/dev/shm/x", "other users or cron", "/var/lib/apstra-runbook"),
    "state_dir in /run": ("state_dir", "/run/x", "other users or cron", "/var/lib/apstra-runbook"),
    "state_dir in cron.d": ("state_dir", "/etc/cron.d", "other users or cron", "/var/lib/apstra-runbook"),
    "state_dir in cron.daily": ("state_dir", "/etc/cron.daily/x", "other users or cron", "/var/lib/apstra-runbook"),
    "state_dir in cron's spool": ("state_dir", "/var/spool/cron/crontabs", "other users or cron", "/var/lib/apstra-runbook"),
    "state_dir is conf_dir": ("state_dir", "/etc/aos/nginx.conf.d", "lies inside the folder that is backed up, or around it", "of its own"),
    "state_dir inside conf_dir": ("state_dir", "/etc/aos/nginx.conf.d/state", "or around it", "of its own"),
    "state_dir beside conf_dir": ("state_dir", "/etc/aos/state", "inside the folder that is backed up", "of its own"),
    "state_dir above conf_dir": ("state_dir", "/etc", "or around it", "of its own"),
    "CN of 65 characters": ("common_name", "a" * 65, "at most 64 characters", "subject CN"),
    "CN outside ASCII": ("common_name", "käse.example", "is no host name", "xn--kse-qla.example"),
    "CN with a blank": ("common_name", "my apstra", "is no host name", "fill in san"),
    "no CN": ("common_name", "", "is missing", "apstra.example.com"),
    "O of 65 characters": ("organization", "a" * 65, "at most 64 characters", "subject O"),
    "L of 129 characters": ("locality", "a" * 129, "at most 128 characters", "subject L"),
    "country that YAML read": ("country", False, "is no text", '"NO"'),
    "country in small letters": ("country", "no", "is no country code", "two capital letters"),
    "country of three letters": ("country", "DEU", "is no country code", "two capital letters"),
    "country with a line feed": ("country", "DE\n", "is no country code", "two capital letters"),
    "email without a domain": ("email", "netz", "should match", "emailAddress"),
    "email outside ASCII": ("email", "nätz@example.com", "should match", "emailAddress"),
    "key of 1024 bits": ("key_type", "rsa-1024", "should be 'rsa-2048', 'rsa-3072'", "ec-p384"),
    "unknown signer": ("signer", "acme", "should be 'manual', 'self-signed' or 'local-ca'", "local-ca"),
    "signer options as a list": ("signer_options", [], "is no mapping", "names and values"),
    "validity of no days": ("validity_days", 0, "greater than or equal to 1", "days asked for"),
    "validity as text": ("validity_days", "365", "is no whole number", "without quotes"),
    "rollback too soon": ("rollback_after_s", 29, "greater than or equal to 30", "seconds without a confirm"),
    "rollback too late": ("rollback_after_s", 3601, "less than or equal to 3600", "seconds without a confirm"),
    "window without zone": ("not_before", "2026-11-24T22:00:00", "is no time with a zone", "2026-11-24T22:00:00Z"),
    "window of a date alone": ("not_after", "2026-11-24", "is no time with a zone", "2026-11-24T22:00:00Z"),
    "window that is no time": ("not_after", "tonight", "is no time with a zone", "2026-11-24T22:00:00Z"),
    "window in month 13": ("not_after", "2026-13-24T22:00:00Z", "is no time with a zone", "2026-11-24T22:00:00Z"),
    "apply as text": ("apply", "false", "is no boolean", "-p: True or False"),
    "apply as a number": ("apply", 1, "is no boolean", "without quotes"),
    "apply is null": ("apply", None, "is no boolean", "without quotes"),
    "short plan": ("approved_plan", "abc", "should match", "sha256 of the plan"),
    "plan in capitals": ("approved_plan", "A" * 64, "should match", "sha256 of the plan"),
    "change id as a path": ("change_id", "../x", "is no change id", "20261124T220000Z-1a2b3c"),
    "change id with a command": ("change_id", "20261124T220000Z-1a2b3c;id", "is no change id", "`new`"),
    "change id with a line feed": ("change_id", "20261124T220000Z-1a2b3c\n", "is no change id", "`new`"),
    "change id as a number": ("change_id", 2026, "is no text", TEXT),
    "unknown pair": ("pair", "after", "should be 'before' or 'installed'", "which pair"),
    "signing key of nobody": ("signing_key", "~nobody-here/.ssh/id", "~nobody-here, and there is no such", "a whole path"),
    "misspelt": ("comon_name", "apstra.example.com", "is no parameter", "common_name, if that"),
    "of another tool": ("dry_run", True, "is no parameter", "parameters cell"),
    "path of somebody who is not there": ("client_key", "~nobody-here/.ssh/id", "~nobody-here, and there is no such", "a whole path"),
    "unknown mode": ("mode", "batch", "should be 'auto', 'interactive' or 'headless'", "headless"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_a_fault_names_the_field_what_was_wrong_and_what_to_write(case: tuple[str, object, str, str]) -> None:
    """One wrong value gives one fault, in words that an operator can act on."""
    name, value, wrong, write = case
    faults = faults_of(**{name: value})
    assert list(faults) == [name]
    assert wrong in faults[name].wrong
    assert write in faults[name].write


IN_LISTS: dict[str, tuple[str, object, str, str]] = {
    "IP as a DNS name": ("san", "DNS:192.0.2.10", "IP address given as a DNS name", "IP:192.0.2.10"),
    "IPv6 as a DNS name": ("san", "DNS:2001:db8::1", "IP address given as a DNS name", "IP:2001:db8::1"),
    "name as an IP": ("san", "IP:apstra.example.com", "no subject alternative name", "IP:192.0.2.10"),
    "outside ASCII": ("san", "DNS:käse.example", "outside ASCII", "DNS:xn--kse-qla.example"),
    "outside ASCII and no name": ("san", "DNS:ä..b", "outside ASCII", "A-label"),
    "without a kind": ("san", "apstra.example.com", "no subject alternative name", "DNS:apstra.example.com"),
    "another kind": ("san", "URI:https://apstra", "no subject alternative name", "DNS:apstra.example.com"),
    "kind in small letters": ("san", "dns:apstra", "no subject alternative name", "DNS:apstra.example.com"),
    "two in one": ("san", "DNS:a,DNS:b", "no subject alternative name", "DNS:apstra.example.com"),
    "line feed": ("san", "DNS:a\nbasicConstraints=CA:TRUE", "no subject alternative name", "DNS:apstra.example.com"),
    "variable": ("san", "DNS:$ENV::HOME", "no subject alternative name", "DNS:apstra.example.com"),
    "wildcard in the middle": ("san", "DNS:a.*.example.com", "no subject alternative name", "DNS:apstra.example.com"),
    "root's dot": ("san", "DNS:apstra.example.com.", "no subject alternative name", "DNS:apstra.example.com"),
    "underscore": ("san", "DNS:my_apstra.example.com", "no subject alternative name", "DNS:apstra.example.com"),
    "IPv6 with a zone": ("san", "IP:fe80::1%eth0", "no subject alternative name", "IP:192.0.2.10"),
    "a number": ("san", 5, "is no text", TEXT),
    "address with a port": ("service_addresses", "apstra:443", "neither a host name nor an IP address", "without a port"),
    "address with a scheme": ("service_addresses", "https://apstra", "neither a host name", "without a port"),
    "wildcard address": ("service_addresses", "*.example.com", "neither a host name", "[IPv6]"),
}  # fmt: skip


@pytest.mark.parametrize("case", IN_LISTS.values(), ids=IN_LISTS)
def test_a_fault_in_a_list_names_its_place(case: tuple[str, object, str, str]) -> None:
    """The second entry is wrong: the fault says `name.1`, so that it can be found."""
    name, value, wrong, write = case
    faults = faults_of(**{name: ["DNS:apstra" if name == "san" else "apstra", value]})
    assert list(faults) == [f"{name}.1"]
    assert wrong in faults[f"{name}.1"].wrong
    assert write in faults[f"{name}.1"].write


def test_every_fault_is_named_at_once() -> None:
    """A run with faults of all kinds, those between parameters too, needs one correction and not six."""
    faults = faults_of(
        host="", ssh_port="22", apply="false", country=False, ticket=12345, hots="a", ssh_password=CLEAR, common_name="",
        san=["DNS:192.0.2.1", "IP:x"], conf_dir="/etc/aos/nginx.conf.d", state_dir="/etc/aos/nginx.conf.d/x",
        not_before="2026-11-24T22:00:00Z", not_after="2026-11-24T21:00:00Z",
    )  # fmt: skip
    assert set(faults) == {
        "host", "ssh_port", "apply", "country", "ticket", "hots", "ssh_password", "common_name", "san.0", "san.1", "state_dir", "not_after",
    }  # fmt: skip
    assert "lies inside" in faults["state_dir"].wrong
    assert faults["common_name"].wrong == "is missing"


BETWEEN: dict[str, dict[str, object]] = {
    "host": {"host": "a b"},
    "conf_dir": {"conf_dir": "relative", "state_dir": "/etc/aos/state"},
    "state_dir": {"state_dir": "relative", "conf_dir": "/var/lib/aos/conf.d"},
    "san.0": {"san": ["käse"], "common_name": "käse"},
    "service_addresses.0": {"service_addresses": ["a b"], "host": "my_apstra"},
    "common_name": {"common_name": " käse"},
    "not_before": {"not_before": "tonight", "not_after": "2026-11-24T21:00:00Z"},
}


@pytest.mark.parametrize(("field", "given"), BETWEEN.items(), ids=BETWEEN)
def test_a_wrong_value_brings_no_fault_between_parameters(field: str, given: dict[str, object]) -> None:
    """What cannot be judged because another value is wrong is not called wrong."""
    assert list(faults_of(**given)) == [field]


def test_nothing_given_names_host_and_common_name() -> None:
    """The notebook as it is kept, with nothing filled in: both required values are asked for at once."""
    as_kept = {"host": "", "common_name": ""}
    assert [each.field for each in validate(as_kept, asks_for_certificate=True)[1]] == ["host", "common_name"]
    assert [each.field for each in validate({}, asks_for_certificate=False)[1]] == ["host"]


def test_an_audit_needs_no_subject() -> None:
    """Where no certificate is asked for, a host that cannot stand in a SAN is no fault."""
    given = {"host": "my_alias", "common_name": ""}
    assert validate(given, asks_for_certificate=False) == (Parameters.model_validate(given), ())
    assert list(faults_of(host="my_alias")) == ["host"]
    assert not faults_of(host="my_alias", san=["DNS:apstra.example.com"])
    assert not faults_of(host="my_alias", service_addresses=["apstra.example.com"])


IN_CLEAR: dict[str, dict[str, object]] = {
    "SSH password": {"ssh_password": CLEAR},
    "sudo password": {"sudo_password": CLEAR},
    "bastion password": {"bastion_passwords": {"jump": CLEAR}},
    "misspelt name": {"ssh_pasword": CLEAR},
    "list of passwords": {"sudo_password": [CLEAR]},
    "mapping of passwords": {"ssh_password": {"value": CLEAR}},
    "behind a false kind": {"ssh_password": f"pass:{CLEAR}"},
    "behind prompt": {"ssh_password": f"prompt:{CLEAR}"},
    "as a variable's name": {"ssh_password": f"env:{CLEAR}"},
    "on a second line": {"ssh_password": f"prompt\n{CLEAR}"},
    "keyring without a user": {"ssh_password": f"keyring:{CLEAR}"},
    "beside other faults": {"ssh_password": CLEAR, "apply": "false", "host": ""},
}  # fmt: skip


@pytest.mark.parametrize("given", IN_CLEAR.values(), ids=IN_CLEAR)
def test_a_secret_given_in_clear_is_refused_and_never_repeated(given: dict[str, object]) -> None:
    """The fault says how to write a reference; the value stands in no part of the error, nor in what is chained to it."""
    faults = tuple(faults_of(**given).values())
    error = UnusableParameters(faults)
    assert CLEAR not in repr(faults) + str(error) + repr(error) + "".join(error._render_traceback_())
    secrets = [each for each in faults if "password" in each.field and each.wrong == "is no secret reference"]
    assert all(each.write == HOW_TO_WRITE for each in secrets)
    assert error.outcome is Outcome.UNUSABLE
    assert error.outcome.exit_code == 2


@pytest.mark.parametrize(("name", "refused"), {"ä" * 32: False, "ä" * 33: True, "a" * 64: False}.items())
def test_a_common_name_that_the_local_ca_cannot_sign(name: str, *, refused: bool) -> None:
    """cryptography counts bytes where X.520 counts characters: said before anything is done, and for that signer alone."""
    given = {"common_name": name, "san": ["DNS:a.example.com"]}
    assert not faults_of(**given)
    assert list(faults_of(**given, signer="local-ca")) == ["common_name"] * refused


NAMES: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "common name and host": ({"host": "192.0.2.10"}, ("DNS:apstra.example.com", "IP:192.0.2.10")),
    "the same twice": ({}, ("DNS:apstra.example.com",)),
    "service addresses instead of host": ({"host": "alias_1", "service_addresses": ["vip.example.com", "[2001:DB8::1]"]}, ("DNS:apstra.example.com", "DNS:vip.example.com", "IP:2001:db8::1")),
    "one address in two forms": ({"host": "2001:DB8:0::10", "common_name": "2001:db8::10"}, ("IP:2001:db8::10",)),
    "san alone": ({"san": ["IP:2001:DB8::1", "DNS:b.example.com", "IP:2001:db8::1"]}, ("IP:2001:db8::1", "DNS:b.example.com")),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMES.values(), ids=NAMES)
def test_no_certificate_is_asked_for_without_names(case: tuple[dict[str, object], tuple[str, ...]]) -> None:
    """The SAN is what was given, else common name and service addresses; each once, addresses in one form."""
    given, names = case
    assert taken(**given).request().san == names


def test_the_subject_is_what_was_given() -> None:
    """Every subject field reaches the request under its own name."""
    subject = {"common_name": "a.example", "organization": "b", "organizational_unit": "c", "locality": "d", "state": "e", "country": "NO", "email": "f@g"}  # fmt: skip
    request = taken(**subject, key_type="ec-p384", validity_days=90).request()
    assert dataclasses.asdict(request.subject) == subject
    assert (request.key_type, request.validity_days) == ("ec-p384", 90)


@pytest.mark.parametrize("value", ["$ENV::HOME", 'Käse "GmbH"', "a\\nCA:TRUE", "# x; [y] = z", "日本語"])
def test_any_text_that_is_taken_can_be_written_into_a_csr(value: str) -> None:
    """What the parameters let through, the CSR's template can write: nobody learns of it after the key was made."""
    request = taken(organization=value, organizational_unit=value, locality=value, state=value).request()
    assert template(request)


def test_every_path_that_is_taken_is_one_word_to_the_shell() -> None:
    """The folders stand in the commands as they are: a shell that reads them finds no second word and runs nothing."""
    longest = "/srv/A-z_0.9/conf.d"
    given = taken(conf_dir=longest, state_dir="/srv/A-z_0.9-state")
    facts = a_server(given)
    commands = (
        *folder.plan(facts, given, "c", kind="replace", supersedes=("d",)), *backup.plan(facts, given, "c"), *key.plan(facts, given, "c"),
        *csr.plan(facts, given, "c"), *stage.plan(given, "c", ""), *install.plan(facts, given, "c"), *confirm_plan(given, "c"),
    )  # fmt: skip
    for command in commands:
        subprocess.run(["sh", "-n", "-c", command.script], check=True, capture_output=True)
    words = subprocess.run(["sh", "-c", f"set -- {longest}; echo $#$1"], check=True, capture_output=True, text=True)
    assert words.stdout == f"1{longest}\n"


WINDOWS: dict[str, tuple[str, str, bool]] = {
    "no window": ("", "", True),
    "inside": ("2026-06-01T11:00:00Z", "2026-06-01T13:00:00Z", True),
    "at its start": ("2026-06-01T12:00:00Z", "", True),
    "at its end": ("", "2026-06-01T12:00:00Z", True),
    "before it": ("2026-06-01T12:00:01Z", "", False),
    "after it": ("", "2026-06-01T11:59:59Z", False),
    "inside, another zone": ("2026-06-01T13:30:00+02:00", "2026-06-01T14:30:00+02:00", True),
    "before it, another zone": ("2026-06-01T12:30:00-01:00", "", False),
}


@pytest.mark.parametrize("case", WINDOWS.values(), ids=WINDOWS)
def test_the_change_window(case: tuple[str, str, bool]) -> None:
    """Zones count, both ends belong to the window, and an end that is not given is open."""
    start, end, inside = case
    parameters = taken(not_before=start, not_after=end)
    assert inside_window(parameters, dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)) is inside


@pytest.mark.parametrize("end", ["2026-06-01T12:00:00Z", "2026-06-01T13:30:00+02:00"])
def test_a_window_ends_after_it_begins(end: str) -> None:
    """An end at or before the start is a fault, whatever the zones are."""
    assert list(faults_of(not_before="2026-06-01T12:00:00Z", not_after=end)) == ["not_after"]


def test_an_installed_pair_belongs_to_a_change_that_there_is() -> None:
    """`pair=installed` with `change_id=new` names a pair that cannot be."""
    assert list(faults_of(pair="installed", change_id="new")) == ["change_id"]
    assert not faults_of(pair="installed", change_id="20261124T220000Z-1a2b3c")


def test_parameters_stay_as_they_were_judged() -> None:
    """What was validated cannot be changed afterwards by assignment."""
    parameters = taken()
    with pytest.raises(ValueError, match="frozen"):
        parameters.apply = True


def test_addresses_fall_back_to_host() -> None:
    """Without service addresses the host stands for them; one given twice counts once."""
    assert taken().addresses == ("apstra.example.com",)
    assert taken(service_addresses=["b", "a", "b"]).addresses == ("b", "a")


YAML_READ: dict[str, tuple[str, dict[str, object]]] = {
    "values": ("host: a\nssh_port: 22\napply: true\nsan: [x, y]\n", {"host": "a", "ssh_port": 22, "apply": True, "san": ["x", "y"]}),
    "what YAML makes of words": ("country: NO\nticket: 12345\n", {"country": False, "ticket": 12345}),
    "nothing": ("# a comment\n", {}),
    "a number as a name": ("1: a", {"1": "a"}),
}  # fmt: skip


@pytest.mark.parametrize("case", YAML_READ.values(), ids=YAML_READ)
def test_yaml_is_read_as_yaml(case: tuple[str, dict[str, object]]) -> None:
    """Values arrive as YAML has them, so that the schema can say what became of a bare NO."""
    text, values = case
    assert read_yaml(text, name="x.yaml") == values


YAML_REFUSED: dict[str, tuple[str, str, str]] = {
    "a name twice": ("host: a\nuser: b\nhost: c\n", "host", "is given twice"),
    "a name twice, inside": ("signer_options: {ca_key: a, ca_key: b}", "ca_key", "is given twice"),
    "a name twice, quoted": ("host: a\n'host': b\n", "host", "is given twice"),
    "a list": ("- host\n", "x.yaml", "holds no names and values"),
    "a word": ("host", "x.yaml", "holds no names and values"),
    "a secret on a broken line": (f"a: b\nssh_password: {CLEAR}: x\n", "x.yaml", "is no YAML at line 2, column 35"),
    "a tab": ("a:\n\tb: c\n", "x.yaml", "is no YAML at line 2, column 1"),
    "two documents": ("a: 1\n---\na: 2\n", "x.yaml", "is no YAML at line 2, column 1"),
    "a Python object": ("host: !!python/object/apply:os.system ['true']", "x.yaml", "is no YAML at line 1, column 7"),
    "lists as names": ("? []\n: 1\n? []\n: 2\n", "x.yaml", "is no YAML at line 1, column 3"),
    "a day that is none": ("not_before: 2026-11-31\n", "x.yaml", "is no YAML"),
    "no boolean": ("apply: !!bool perhaps\n", "x.yaml", "is no YAML"),
    "no time": ("not_after: !!timestamp soon\n", "x.yaml", "is no YAML"),
    "a number without end": (f"ticket: {'9' * 5000}\n", "x.yaml", "is no YAML"),
    "a depth without end": (f"a: {'[' * 1000}\n", "x.yaml", "is no YAML"),
    "control characters": ("host: a\x07b\n", "x.yaml", "is no YAML"),
}  # fmt: skip


@pytest.mark.parametrize("case", YAML_REFUSED.values(), ids=YAML_REFUSED)
def test_yaml_that_cannot_be_used_is_a_fault(case: tuple[str, str, str]) -> None:
    """Unusable parameters, never another exception; and nothing of a broken line is repeated."""
    text, field, wrong = case
    with pytest.raises(UnusableParameters) as caught:
        read_yaml(text, name="x.yaml")
    assert [(each.field, each.wrong) for each in caught.value.faults] == [(field, wrong)]
    assert CLEAR not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_two_names_given_twice_are_both_named() -> None:
    """Every repeated name, not the first alone."""
    with pytest.raises(UnusableParameters) as caught:
        read_yaml("b: 1\na: 1\na: 2\nb: 2\na: 3\n", name="x.yaml")
    assert [each.field for each in caught.value.faults] == ["a", "b"]


HOST_NAMES = {
    "a": True, "apstra.example.com": True, "*.example.com": True, "xn--kse-qla.example": True, "1a.example": True, "a" * 63: True,
    "": False, "a" * 64: False, "-a": False, "a-": False, "a..b": False, ".a": False, "a.": False, "a_b": False, "a b": False, "*": False, "**.a": False,
    "192.0.2.10": False, "a.1": False, "a\n": False, "käse": False, ".".join(["a" * 49] * 5) + ".aaa": True, ".".join(["a" * 49] * 5) + ".aaaa": False,
}  # fmt: skip


@pytest.mark.parametrize(("text", "good"), HOST_NAMES.items())
def test_what_a_dns_name_is(text: str, *, good: bool) -> None:
    """As RFC 5280 and RFC 1035 have it, at most 253 characters, never an address."""
    assert is_dns_name(text) is good


@pytest.mark.parametrize(("text", "good"), {"192.0.2.1": True, "::1": True, "192.0.2.256": False, "[::1]": False, "fe80::1%1": False, "": False, "1": False, "127.1": False}.items())  # fmt: skip
def test_what_an_ip_address_is(text: str, *, good: bool) -> None:
    """Four numbers or IPv6, without brackets, zone or short forms."""
    assert is_ip_address(text) is good


def test_the_project_folder_is_found_upwards(tmp_path: Path) -> None:
    """The nearest folder that holds notebooks and parameters; away from any, the checkout itself."""
    for name in ("notebooks/deep", "parameters", "inner/notebooks", "inner/parameters", "inner/x", "half/notebooks"):
        (tmp_path / name).mkdir(parents=True)
    assert project_folder(tmp_path / "notebooks" / "deep") == tmp_path
    assert project_folder(tmp_path / "inner" / "x") == tmp_path / "inner"
    assert project_folder(tmp_path / "half") == tmp_path
    assert (project_folder(Path("/")) / "runbook_lib" / "parameters.py").is_file()
