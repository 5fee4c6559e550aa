"""Checks of the steps: the verdict for each kind of facts, and something to do wherever it is no pass."""

import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from runbook_lib.models import Certificate, Check, Container, Facts, Pair, Served, Verdict
from runbook_lib.parameters import Parameters
from runbook_lib.pki.certificates import spki_sha256_of
from runbook_lib.steps import backup, compare, confirm, csr, key, server
from tests.pki.authority import DAY, NOW, Issued, issue, rsa_key
from tests.steps.facts import (
    BACKED_UP,
    CHANGE,
    CONF_FILES,
    FOREIGN,
    ISSUER,
    LIVE,
    NEW,
    OLD,
    OTHER,
    PUBLIC,
    ROOT,
    STAGED,
    a_change,
    a_container,
    a_file,
    a_pair,
    a_server,
    parameters,
    public_pem,
    seen,
    with_change,
    with_file,
)

FAIL, WARN, UNKNOWN, PASS = Verdict.FAIL, Verdict.WARN, Verdict.UNKNOWN, Verdict.PASS


def no_pass(checks: Iterable[Check]) -> dict[str, Verdict]:
    """The checks that did not pass, by their question; each of them must say what to do."""
    checks = tuple(checks)
    assert len({each.question for each in checks}) == len(checks)
    for each in checks:
        assert each.question.endswith("?")
        assert each.expected
        assert each.found
        assert each.source
        assert each.todo or each.verdict is PASS, each
    return {each.question: each.verdict for each in checks if each.verdict is not PASS}


ROOT_SHELL = "Does the root shell run as root?"
PROGRAMS = "Has the server the programs that the commands need?"
OPENSSL = "Is its OpenSSL one that the commands are known to work with?"
CLOCKS = "Do its clock and ours agree?"
CONTROLLER = "Is this an Apstra controller with one nginx container?"
SEES = "Does the container see conf_dir?"
REGULAR = "Are certificate and key regular files?"
MATCH = "Do the live key and certificate match?"
NOTHING_ELSE = "Would nginx load nothing but its own configuration?"
CLOSED = "Is the live key closed to other users?"
PLACE = "Is state_dir in a safe place?"
ROOM = "Is there room for the backup?"
NO_OTHER = "Is no other change waiting for its confirm?"
SERVES = "Does nginx serve the live certificate?"
STILL_GOOD = "How long is the live certificate still good?"
WINDOW = "Is now inside the change window?"


@dataclass(frozen=True)
class Found:
    """A server as found, and every check that does not pass on it."""

    facts: Facts
    wanted: Mapping[str, Verdict] = field(default_factory=dict)
    given: Parameters = field(default_factory=parameters)


def expired(days: float) -> Facts:
    """A server whose certificate has that many days left."""
    leaf = issue(not_before=NOW - 400 * DAY, days=400 + days)
    return a_server(live=a_pair(leaf), served=(seen("apstra.example.com", leaf),))


def contained(container: Container | None, *others: Container) -> dict[str, Any]:
    """Facts of these containers."""
    return {"container": container, "containers": (*((container,) if container else ()), *others)}


NEEDS = (1 << 20) + server.ROOM
LENIENT = parameters(accept_broken_start=True)
LATER, EARLIER = parameters(not_before="2026-06-01T12:00:01Z"), parameters(not_after="2026-06-01T11:59:59Z")
MISMATCH = dataclasses.replace(LIVE, key_spki_sha256=FOREIGN.key_spki_sha256)

SERVERS: dict[str, Found] = {
    "as it should be": Found(a_server()),
    "not root": Found(a_server(root_uid=1000), {ROOT_SHELL: WARN}),
    "programs missing": Found(a_server(missing_tools=("flock", "tar")), {PROGRAMS: FAIL}),
    "OpenSSL 1.1.1": Found(a_server(openssl="OpenSSL 1.1.1  11 Sep 2018")),
    "OpenSSL 1.1.1f": Found(a_server(openssl="OpenSSL 1.1.1f  31 Mar 2020")),
    "OpenSSL 1.0.2": Found(a_server(openssl="OpenSSL 1.0.2g  1 Mar 2016"), {OPENSSL: WARN}),
    "OpenSSL 30": Found(a_server(openssl="OpenSSL 30.1"), {OPENSSL: WARN}),
    "LibreSSL": Found(a_server(openssl="LibreSSL"), {OPENSSL: WARN}),
    "OpenSSL not readable": Found(a_server(openssl=""), {OPENSSL: WARN}),
    "clock 300 s ahead": Found(a_server(clock_skew_s=300.0)),
    "clock 301 s ahead": Found(a_server(clock_skew_s=301.0), {CLOCKS: WARN}),
    "clock 301 s behind": Found(a_server(clock_skew_s=-301.0), {CLOCKS: WARN}),
    "no container": Found(a_server(**contained(None)), {CONTROLLER: FAIL}),
    "worker node": Found(a_server(**contained(None, a_container(name="aos_node_keeper_1"))), {CONTROLLER: FAIL}),
    "no container, lenient": Found(a_server(**contained(None)), {CONTROLLER: FAIL}, LENIENT),
    "container restarting": Found(a_server(**contained(a_container(status="restarting"))), {CONTROLLER: FAIL}),
    "container exited": Found(a_server(**contained(a_container(status="exited"))), {CONTROLLER: FAIL}),
    "container exited, lenient": Found(a_server(**contained(a_container(status="exited"))), {CONTROLLER: WARN}, LENIENT),
    "container without mounts": Found(a_server(**contained(a_container(mounts=()))), {SEES: FAIL}),
    "container without mounts, lenient": Found(a_server(**contained(a_container(mounts=()))), {SEES: FAIL}, LENIENT),
    "no certificate file": Found(a_server(conf_files=(a_file("nginx.key", mode="600"),)), {REGULAR: FAIL}),
    "certificate is a link": Found(with_file("nginx.crt", kind="l"), {REGULAR: FAIL}),
    "key is a folder": Found(with_file("nginx.key", kind="d", mode="755"), {REGULAR: FAIL}),
    "empty conf_dir, lenient": Found(a_server(conf_files=()), {REGULAR: FAIL}, LENIENT),
    "key and certificate do not match": Found(a_server(live=MISMATCH), {MATCH: FAIL}),
    "key and certificate do not match, lenient": Found(a_server(live=MISMATCH), {MATCH: WARN}, LENIENT),
    "key not readable": Found(a_server(live=dataclasses.replace(LIVE, key_spki_sha256="")), {MATCH: FAIL}),
    "stray configuration": Found(a_server(conf_files=(*CONF_FILES, a_file("old.conf"))), {NOTHING_ELSE: WARN}),
    "other files that nginx does not load": Found(a_server(conf_files=(*CONF_FILES, a_file("old.conf.bak"), a_file("notes.txt")))),
    "key open to its group": Found(with_file("nginx.key", mode="640"), {CLOSED: WARN}),
    "key open to all": Found(with_file("nginx.key", mode="644"), {CLOSED: WARN}),
    "key with mode 400": Found(with_file("nginx.key", mode="400")),
    "state_dir is a link": Found(a_server(state_dir_faults=("/var/lib/x is a symbolic link",)), {PLACE: FAIL}),
    "room, just enough": Found(a_server(free_bytes={"conf_dir": NEEDS, "state_dir": NEEDS})),
    "a byte too little for state_dir": Found(a_server(free_bytes={"conf_dir": 1 << 40, "state_dir": NEEDS - 1}), {ROOM: FAIL}),
    "a byte too little for conf_dir": Found(a_server(free_bytes={"conf_dir": NEEDS - 1, "state_dir": 1 << 40}), {ROOM: FAIL}),
    "room not known": Found(a_server(free_bytes={}), {ROOM: FAIL}),
    "another change unconfirmed": Found(a_server(changes=(a_change(change_id="x", armed=True),)), {NO_OTHER: FAIL}),
    "another change unconfirmed, lenient": Found(a_server(changes=(a_change(change_id="x", armed=True),)), {NO_OTHER: FAIL}, LENIENT),
    "other changes open or decided": Found(a_server(changes=(a_change(change_id="x"), a_change(change_id="y", armed=True, decided="rolled-back")))),
    "another certificate served": Found(a_server(served=(seen("a", OTHER),)), {SERVES: FAIL}),
    "another certificate served, lenient": Found(a_server(served=(seen("a", OTHER),)), {SERVES: WARN}, LENIENT),
    "another chain served": Found(a_server(served=(seen("a", OLD, ISSUER),))),
    "no handshake": Found(a_server(served=(seen("a", error="no handshake"),)), {SERVES: FAIL}),
    "nothing listens": Found(a_server(served=()), {SERVES: FAIL}),
    "seen from here alone": Found(a_server(served=(seen("a", OLD, vantage="direct"),)), {SERVES: FAIL}),
    "from here another is seen": Found(a_server(served=(seen("a", OLD), seen("a", OTHER, vantage="direct"), seen("a", vantage="ssh", error="timed out")))),
    "one address of two": Found(a_server(served=(seen("a", OLD), seen("b", OTHER))), {SERVES: FAIL}),
    "no live certificate": Found(a_server(live=Pair()), {MATCH: FAIL, SERVES: FAIL, STILL_GOOD: WARN}),
    "30 days left": Found(expired(30)),
    "29 days left": Found(expired(29), {STILL_GOOD: WARN}),
    "expired": Found(expired(-1), {STILL_GOOD: WARN}),
    "before the window": Found(a_server(), {WINDOW: WARN}, LATER),
    "before the window, apply": Found(a_server(), {WINDOW: FAIL}, LATER.model_copy(update={"apply": True})),
    "after the window": Found(a_server(), {WINDOW: WARN}, EARLIER),
    "after the window, apply": Found(a_server(), {WINDOW: FAIL}, EARLIER.model_copy(update={"apply": True})),
    "inside the window, apply": Found(a_server(), {}, parameters(not_before="2026-06-01T11:00:00Z", not_after="2026-06-01T13:00:00Z", apply=True)),
    "everything at once": Found(
        a_server(missing_tools=("tar",), **contained(None), conf_files=(), live=Pair(), served=(), state_dir_faults=("x",), free_bytes={}),
        {PROGRAMS: FAIL, CONTROLLER: FAIL, REGULAR: FAIL, PLACE: FAIL, ROOM: FAIL},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SERVERS.values(), ids=SERVERS)
def test_the_server_as_found(case: Found) -> None:
    """Exactly these checks do not pass, and none hides another."""
    assert no_pass(server.checks(case.facts, case.given)) == case.wanted


LEFT, NGINX_CONF = (
    "Is the live pair the one that the last change put there?",
    "Is nginx.conf the one that the last change found?",
)


def upgraded(**given: object) -> Facts:
    """A server whose last change was confirmed and left its pair there."""
    change = a_change(
        **{"decided": "confirmed", "armed": True, "staged": LIVE, "before": STAGED, "nginx_conf": a_server().nginx_conf}
        | given
    )
    return a_server(listed=((CHANGE, "replace", "confirmed"), ("x", "replace", "rolled-back")), changes=(change,))


DRIFT: dict[str, tuple[Facts, dict[str, str]]] = {
    "as the last change left it": (upgraded(), {}),
    "the pair from before it": (upgraded(staged=STAGED, before=LIVE), {LEFT: "the pair from before it"}),
    "the factory's pair": (upgraded(staged=STAGED, before=Pair()), {LEFT: f"another pair, {OLD.certificate.subject}"}),
    "another nginx.conf": (upgraded(nginx_conf="0" * 64), {NGINX_CONF: "another"}),
    "a change of an earlier version": (upgraded(nginx_conf=""), {}),
    "no change yet": (a_server(), {}),
}


@pytest.mark.parametrize("case", DRIFT.values(), ids=DRIFT)
def test_what_an_upgrade_put_in_place_is_told(case: tuple[Facts, dict[str, str]]) -> None:
    """It warns and stops nothing; what is said names what lies there now."""
    facts, wanted = case
    found = {
        each.question: each.found
        for each in server.checks(facts, parameters())
        if each.question in {LEFT, NGINX_CONF} and each.verdict is not PASS
    }
    assert found == wanted


@pytest.mark.parametrize(
    ("started", "says"), {"2026-01-01T00:00:00.123456789Z": True, "2026-01-03T00:00:00Z": False, "": False}.items()
)
def test_a_pair_that_nginx_cannot_know_yet_is_told(started: str, *, says: bool) -> None:
    """Where nginx serves another one, and the files were written after it was started, that is why."""
    files = tuple(dataclasses.replace(each, written=1767312000.0) for each in CONF_FILES)  # 2026-01-02
    facts = a_server(conf_files=files, served=(seen("a", OTHER),), **contained(a_container(started=started)))
    (check,) = [each for each in server.checks(facts, parameters()) if each.question == SERVES]
    assert ("written after nginx was started" in check.found) == says


FINDINGS: dict[str, tuple[Facts, str, str, str]] = {
    "the address that fails, and no other": (a_server(served=(seen("good", OLD), seen("bad", OTHER))), SERVES, "bad: another certificate", "restart nginx"),
    "why there was no handshake": (a_server(served=(seen("good", OLD), seen("bad", error="connection refused"))), SERVES, "bad: connection refused", "restart nginx"),
    "nothing listens": (a_server(served=()), SERVES, "nothing listens", "restart nginx"),
    "a worker": (a_server(**contained(None, a_container(name="aos_node_keeper_1"))), CONTROLLER, "worker node, containers: aos_node_keeper_1", "name the controller"),
    "two of them": (a_server(**contained(None, a_container(name="a"), a_container(name="b"))), CONTROLLER, "containers: a, b", "set `container`"),
    "the missing file": (a_server(conf_files=(a_file("nginx.key", mode="600"),)), REGULAR, "nginx.crt missing or no file", "correct conf_dir"),
    "the stray files": (a_server(conf_files=(*CONF_FILES, a_file("b.conf"), a_file("a.conf"))), NOTHING_ELSE, "a.conf, b.conf", "look at the files"),
    "the missing programs": (a_server(missing_tools=("flock", "tar")), PROGRAMS, "flock, tar", "install"),
    "the unconfirmed change": (a_server(changes=(a_change(change_id="x-1", armed=True, watched=True),)), NO_OTHER, "x-1", "wait"),
    "the unconfirmed change that nobody watches": (a_server(changes=(a_change(change_id="x-1", armed=True),)), NO_OTHER, "x-1", "the guard of x-1 is gone: run with apply: true"),
    "days as they are counted": (expired(-1.4), STILL_GOOD, "-2 days", "replace it now"),
}  # fmt: skip


@pytest.mark.parametrize("case", FINDINGS.values(), ids=FINDINGS)
def test_a_check_says_what_was_found(case: tuple[Facts, str, str, str]) -> None:
    """What is named is what is wrong, no more and no less."""
    facts, question, found, todo = case
    check = next(each for each in server.checks(facts, parameters()) if each.question == question)
    assert check.found == found
    assert todo in check.todo


WHOLE, TIGHT = "Is the pair backed up, byte for byte?", "Is the backup closed to other users?"
BACKUPS: dict[str, tuple[Facts, dict[str, Verdict]]] = {
    "as it should be": (with_change(), {}),
    "none": (a_server(), {WHOLE: FAIL}),
    "of another pair": (with_change(before=FOREIGN), {WHOLE: FAIL}),
    "of the same certificate with another key": (with_change(before=dataclasses.replace(LIVE, key_sha256="0" * 64)), {WHOLE: FAIL}),
    "live pair gone": (dataclasses.replace(with_change(before=Pair()), live=Pair()), {WHOLE: FAIL}),
    "without the archive": (with_change(backup_sums={"nginx.crt": "x", "nginx.key": "y"}), {WHOLE: FAIL}),
    "with a file that is none of ours": (with_change(backup_sums={"aos.tar": "a", "nginx.crt": "x", "nginx.key": "y", "more": "z"}), {WHOLE: FAIL}),
    "key open to others": (with_change(files=BACKED_UP | {"backup/nginx.key": "644"}), {TIGHT: FAIL}),
    "archive open to others": (with_change(files=BACKED_UP | {"backup/aos.tar": "640"}), {TIGHT: FAIL}),
    "another file open to others": (with_change(files=BACKED_UP | {"guard.log": "644"}), {}),
}  # fmt: skip


@pytest.mark.parametrize("case", BACKUPS.values(), ids=BACKUPS)
def test_the_backup(case: tuple[Facts, dict[str, Verdict]]) -> None:
    """Whole, of the live pair, closed to others."""
    facts, wanted = case
    checks = backup.checks(facts, CHANGE)
    assert {each.question: each.verdict for each in checks if each.verdict is not PASS} == wanted


KIND, HIDDEN = "Is the new key of the kind asked for?", "Can nobody but root read the new key?"
RSA_PEM = public_pem(issue(key=rsa_key()))
KEYS: dict[str, tuple[Facts, Parameters, dict[str, Verdict]]] = {
    "as asked": (with_change(), parameters(), {}),
    "RSA as asked": (with_change(public_keys={"key": ("x", RSA_PEM)}), parameters(key_type="rsa-2048"), {}),
    "RSA, EC asked": (with_change(public_keys={"key": ("x", RSA_PEM)}), parameters(), {KIND: FAIL}),
    "RSA 2048, 3072 asked": (with_change(public_keys={"key": ("x", RSA_PEM)}), parameters(key_type="rsa-3072"), {KIND: FAIL}),
    "P-256, P-384 asked": (with_change(), parameters(key_type="ec-p384"), {KIND: FAIL}),
    "no key": (a_server(), parameters(), {KIND: FAIL, HIDDEN: FAIL}),
    "key not readable": (with_change(public_keys={}), parameters(), {KIND: FAIL}),
    "open to its group": (with_change(files={"nginx.key": "640"}), parameters(), {HIDDEN: FAIL}),
    "open to be written": (with_change(files={"nginx.key": "602"}), parameters(), {HIDDEN: FAIL}),
}  # fmt: skip


@pytest.mark.parametrize("case", KEYS.values(), ids=KEYS)
def test_the_new_key(case: tuple[Facts, Parameters, dict[str, Verdict]]) -> None:
    """Of the kind asked for, mode 600."""
    facts, given, wanted = case
    checks = key.checks(facts, given, CHANGE)
    assert {each.question: each.verdict for each in checks if each.verdict is not PASS} == wanted


def test_a_csr_that_is_none_fails() -> None:
    """What lies there is held against the request; text that is no CSR is one failed check."""
    assert no_pass(csr.checks(with_change(), parameters(), CHANGE)) == {"Can the CSR be read?": FAIL}
    assert no_pass(csr.checks(a_server(), parameters(), CHANGE)) == {"Can the CSR be read?": FAIL}


SAME_KEY = "Do nginx.key, nginx.csr, nginx.crt hold the same public key?"
PAIR_KEY = "Do nginx.key, nginx.crt hold the same public key?"
NAMES = "Does the certificate name every service address?"
THERE = "Is there a certificate?"
TRUST = (ROOT.certificate,)
OTHER_KEY = (spki_sha256_of(OTHER.key.public_key()), public_pem(OTHER))
FEW_NAMES = issue(issuer=ISSUER, san=("DNS:apstra.example.com",), key=NEW.key)


def compared(trust: tuple[Certificate, ...] = TRUST, now: dt.datetime = NOW, **given: Any) -> dict[str, Verdict]:  # noqa: ANN401 - handed on
    """What does not pass of a change."""
    return no_pass(compare.checks(with_change(**given), parameters(), CHANGE, trust, now))


def test_a_ready_change_compares_well() -> None:
    """Key, CSR and certificate hold one public key, and the certificate is what was asked for."""
    assert compared() == {}


@pytest.mark.parametrize("name", ["key", "csr", "certificate"])
def test_another_public_key_in_any_of_the_three_fails(name: str) -> None:
    """Whichever file it is, for both programs or for one alone."""
    assert compared(public_keys=PUBLIC | {name: OTHER_KEY}) == {SAME_KEY: FAIL}
    assert compared(public_keys=PUBLIC | {name: (OTHER_KEY[0], PUBLIC[name][1])}) == {SAME_KEY: FAIL}


def test_a_digest_that_could_not_be_taken_fails() -> None:
    """What cannot be compared does not go live, whichever of the two programs cannot read it."""
    assert compared(public_keys=PUBLIC | {"csr": ("", PUBLIC["csr"][1])}) == {SAME_KEY: FAIL}
    assert compared(public_keys=PUBLIC | {"csr": (PUBLIC["csr"][0], "no key")}) == {SAME_KEY: FAIL}


def test_the_files_are_shown_in_their_order() -> None:
    """Key, CSR, certificate, in whatever order they were read."""
    rows = compare.digests(with_change(public_keys=dict(reversed(PUBLIC.items()))), CHANGE)
    assert [(row.file, row.server == row.here) for row in rows] == [
        ("nginx.key", True),
        ("nginx.csr", True),
        ("nginx.crt", True),
    ]


COMPARED: dict[str, tuple[dict[str, Any], dict[str, Verdict]]] = {
    "no certificate": ({"staged": Pair()}, {THERE: FAIL}),
    "a name missing": ({"staged": a_pair(FEW_NAMES, ISSUER)}, {NAMES: FAIL, "Has it every name that was asked for?": FAIL}),
    "another common name asked": ({"request": {"common_name": "b.example", "san": ["DNS:apstra.example.com", "IP:192.0.2.10"], "key_type": "ec-p256"}}, {"Is the common name the one asked for?": WARN}),
    "a restore with a name missing": ({"kind": "restore", "request": {}, "staged": a_pair(FEW_NAMES, ISSUER)}, {NAMES: WARN}),
    "a restore without a CSR": ({"kind": "restore", "request": {}, "csr": "", "public_keys": {name: PUBLIC[name] for name in ("key", "certificate")}}, {}),
    "a restore of another key": ({"kind": "restore", "request": {}, "public_keys": {"key": OTHER_KEY, "certificate": PUBLIC["certificate"]}}, {PAIR_KEY: FAIL}),
}  # fmt: skip


@pytest.mark.parametrize("case", COMPARED.values(), ids=COMPARED)
def test_the_staged_pair(case: tuple[dict[str, Any], dict[str, Verdict]]) -> None:
    """A replacement is held to everything; a recorded pair must match its key, all else warns."""
    given, wanted = case
    assert compared(**given) == wanted


def test_the_clock_is_the_one_that_is_given() -> None:
    """A year later the same certificate is out of date, whatever the clock of this machine says; an expired pair may be put back."""
    late = compared(now=NOW + 365 * DAY)
    assert late["Is the certificate in date?"] is FAIL
    restored = compared(now=NOW + 365 * DAY, kind="restore", request={})
    assert restored["Is the certificate in date?"] is WARN


def test_the_request_is_read_back_as_it_was_kept() -> None:
    """What was asked for comes from the change's folder; one that is damaged asks for nothing."""
    request = parameters(organization="Käse", country="NO", email="a@b").request()
    assert compare.recorded_request(a_change().request) == parameters().request()
    assert (
        request.subject
        == compare.recorded_request(
            {"common_name": "apstra.example.com", "organization": "Käse", "country": "NO", "email": "a@b"}
        ).subject
    )
    assert compare.recorded_request({"san": "DNS:a"}).san == ()


LIVE_IS, REST, OWNER, API = (
    "Is the installed pair the live pair?",
    "Is everything else in conf_dir as it was?",
    "Have the pair's files kept owner and mode?",
    "Does the API answer?",
)


def question(vantage: str, address: str = "a") -> str:
    """The question about one handshake."""
    return f"Does {address} serve leaf and chain as installed, seen {confirm.VIEWS[vantage]}?"


def after(*served: Served, **changed: Any) -> Facts:  # noqa: ANN401 - handed on to a typed constructor
    """The server after the swap."""
    swapped: dict[str, Any] = {"live": STAGED, "served": served or (seen("a", NEW, ISSUER),)}
    return a_server(**(swapped | changed), changes=(a_change(),))


def replaced(name: str, **given: Any) -> Facts:  # noqa: ANN401 - handed on to a typed constructor
    """The server after the swap with one file otherwise."""
    return after(conf_files=with_file(name, **given).conf_files)


SWAPPED = after(
    conf_files=tuple(
        dataclasses.replace(each, sha256="new", size=9) if each.name != "nginx.conf" else each for each in CONF_FILES
    )
)
AFTERWARDS: dict[str, tuple[Facts, int | None, dict[str, Verdict]]] = {
    "as it should be": (SWAPPED, 200, {}),
    "three views": (after(*(seen("a", NEW, ISSUER, vantage=each) for each in confirm.VIEWS)), 200, {}),
    "another leaf on the server": (after(seen("a", OLD)), 200, {question("server"): FAIL}),
    "another leaf from here": (after(seen("a", NEW, ISSUER), seen("a", OLD, vantage="direct")), 200, {question("direct"): WARN}),
    "another leaf through SSH": (after(seen("a", NEW, ISSUER), seen("a", OLD, vantage="ssh")), 200, {question("ssh"): WARN}),
    "without the intermediate": (after(seen("a", NEW)), 200, {question("server"): FAIL}),
    "with one more": (after(seen("a", NEW, ISSUER, ROOT)), 200, {question("server"): FAIL}),
    "no handshake on the server": (after(seen("a", error="refused")), 200, {question("server"): FAIL}),
    "not reached from here": (after(seen("a", NEW, ISSUER), seen("a", vantage="direct", error="timed out")), 200, {question("direct"): UNKNOWN}),
    "not reached through SSH": (after(seen("a", NEW, ISSUER), seen("a", vantage="ssh", error="prohibited")), 200, {question("ssh"): UNKNOWN}),
    "one address of two": (after(seen("a", NEW, ISSUER), seen("b", OLD)), 200, {question("server", "b"): FAIL}),
    "nothing listens": (after(seen("a", vantage="direct", error="refused")), 200, {question("direct"): UNKNOWN, "Does nginx answer on the server?": FAIL}),
    "old pair live": (after(live=LIVE), 200, {LIVE_IS: FAIL}),
    "no pair live": (after(live=Pair()), 200, {LIVE_IS: FAIL}),
    "nginx.conf changed": (replaced("nginx.conf", sha256="other"), 200, {REST: WARN}),
    "nginx.conf gone": (after(conf_files=CONF_FILES[1:]), 200, {REST: WARN}),
    "a new file": (after(conf_files=(*CONF_FILES, a_file(".nginx.key.staged"))), 200, {REST: WARN}),
    "key open": (replaced("nginx.key", mode="644"), 200, {OWNER: FAIL}),
    "certificate of another owner": (replaced("nginx.crt", owner="1000"), 200, {OWNER: FAIL}),
    "certificate of another group": (replaced("nginx.crt", group="1000"), 200, {OWNER: FAIL}),
    "key gone": (after(conf_files=CONF_FILES[:2]), 200, {OWNER: FAIL}),
    "API starting": (SWAPPED, 503, {API: WARN}),
    "API asks for a login": (SWAPPED, 401, {API: WARN}),
    "API not asked": (SWAPPED, None, {API: UNKNOWN}),
}  # fmt: skip


@pytest.mark.parametrize("case", AFTERWARDS.values(), ids=AFTERWARDS)
def test_the_server_afterwards(case: tuple[Facts, int | None, dict[str, Verdict]]) -> None:
    """The handshake on the server decides; what cannot be reached is unknown and rolls nothing back."""
    facts, status, wanted = case
    assert no_pass(confirm.checks(a_server(), facts, CHANGE, status)) == wanted


def test_an_installed_pair_that_cannot_be_read_is_a_failed_check() -> None:
    """Not a Python error, after which nobody would know what was found."""
    facts = dataclasses.replace(after(), changes=(a_change(staged=Pair()),))
    wanted = {question("server"): FAIL, LIVE_IS: FAIL}
    assert {
        each.question: each.verdict
        for each in confirm.checks(a_server(), facts, CHANGE, 200)
        if each.verdict is not PASS
    } == wanted


@pytest.mark.parametrize(("leaf", "found"), [(OTHER, "another certificate"), (NEW, "another chain")])
def test_what_is_served_instead_is_told_apart(leaf: Issued, found: str) -> None:
    """A missing intermediate and another certificate have other remedies."""
    checks = confirm.checks(a_server(), after(seen("a", leaf)), CHANGE, 200)
    assert checks[0].found == found
