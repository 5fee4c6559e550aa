"""The form: fields from the model, judged while one types, and what the bind cell reads from it."""

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ipywidgets
import pytest
from IPython.core.interactiveshell import InteractiveShell

from runbook_lib.errors import UnusableParameters
from runbook_lib.jupyter.forms import SECTIONS, Form
from runbook_lib.parameters import Parameters, as_shipped, is_secret
from runbook_lib.secrets import REFERENCE
from runbook_lib.session import Kind, prepare
from tests.change.operator import Operator, certify, pem
from tests.embedded import EmbeddedHost
from tests.pki.authority import authority, issue

GIVEN = {"host": "192.0.2.10", "common_name": "apstra.example.com", "mode": "interactive"}
KEY = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n"
WIDGET = "application/vnd.jupyter.widget-view+json"
Show = Callable[..., Form]


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    """An IPython shell, as in a kernel."""
    yield InteractiveShell()  # type: ignore[no-untyped-call]
    InteractiveShell.clear_instance()


@pytest.fixture
def show(shell: InteractiveShell) -> Show:
    """Shows the form of a notebook that was given some parameters."""

    def shown(kind: Kind = "request", **given: object) -> Form:
        return Form(kind, as_shipped() | GIVEN | given, shell)

    return shown


def widgets_of(form: Form) -> list[Any]:
    """Everything in the form, in its order."""
    found: list[Any] = []

    def walk(widget: Any) -> None:  # noqa: ANN401 - ipywidgets has no types
        found.append(widget)
        for each in getattr(widget, "children", ()):
            walk(each)

    assert form.page
    walk(form.page.box)
    return found


def field(form: Form, label: str) -> Any:  # noqa: ANN401 - ipywidgets has no types
    """What a person types or chooses in, by its label."""
    (found,) = (each for each in widgets_of(form) if getattr(each, "description", None) == label)
    return found


def said(form: Form) -> str:
    """All that is said beside the fields and below them."""
    return "\n".join(each.value for each in widgets_of(form) if isinstance(each, ipywidgets.HTML))


def answer() -> bytes:
    """What a CA would hand back: the certificate, its issuer and the root."""
    root = authority("Test Root")
    above = authority("Test Issuing CA", root, path_length=0)
    today = dt.datetime.now(dt.UTC).replace(microsecond=0)
    leaf = issue(issuer=above, not_before=today - dt.timedelta(days=1), days=90)
    return pem(leaf.x509, above.x509, root.x509)


@pytest.mark.parametrize("kind", SECTIONS)
def test_every_field_is_a_parameter_with_its_name_as_label(show: Show, kind: Kind) -> None:
    """What a message, the documentation and a parameter file call it is what stands before the field."""
    form = show(kind)
    labels = {str(getattr(each, "description", "")) for each in widgets_of(form)}
    names = [name for names in SECTIONS[kind].values() for name in names]
    assert set(names) <= Parameters.model_fields.keys()
    assert len(set(names)) == len(names)
    assert {name for name in names if name not in {"san", "service_addresses", "signer_options"}} <= labels


@pytest.mark.parametrize("kind", SECTIONS)
def test_what_nobody_touches_stays_as_it_was_given(show: Show, kind: Kind) -> None:
    """Also what no field can show, such as a list that was given as a text."""
    form = show(kind, san="DNS:apstra.example.com", ssh_port="22")
    assert form.values == form.given
    assert {"san", "ssh_port"} <= {each.field for each in form.faults()}


def test_a_value_is_judged_as_it_is_typed(show: Show) -> None:
    """The reason stands beside the field and below, and goes when it is mended; the next cell reads the mended value."""
    form = show()
    assert "Nothing is wrong with what is written here" in said(form)
    field(form, "country").value = "Germany"
    assert "is no country code; write two capital letters" in said(form)
    assert "Not yet: country." in said(form)
    field(form, "country").value = "DE"
    assert "Nothing is wrong with what is written here" in said(form)
    assert form.values["country"] == "DE"
    assert ("country", "DE", "this form") in form.table().rows


@pytest.mark.parametrize(("typed", "value"), [("90", 90), ("", None), (" 47 ", 47), ("soon", "soon"), ("²", "²")])
def test_a_number_is_one_or_a_fault(show: Show, typed: str, value: object) -> None:
    """What is no number is refused with what to write, and not lost."""
    form = show(validity_days=30)
    field(form, "validity_days").value = typed
    assert form.values["validity_days"] == value
    assert ("is no whole number" in said(form)) == isinstance(value, str)


def test_names_are_added_and_removed_as_rows(show: Show) -> None:
    """Each row is judged by itself; blank rows count for nothing."""
    form = show(san=["DNS:apstra.example.com"])
    field(form, "add to san").click()
    field(form, "san 2").value = "IP:300.0.0.1"
    assert "is &#x27;IP:300.0.0.1&#x27;, which is no subject alternative name" in said(form)
    field(form, "san 2").value = "IP:192.0.2.10"
    field(form, "add to san").click()
    assert "Nothing is wrong with what is written here" in said(form)
    assert form.values["san"] == ["DNS:apstra.example.com", "IP:192.0.2.10"]
    next(each for each in widgets_of(form) if getattr(each, "description", "") == "remove").click()
    assert form.values["san"] == ["IP:192.0.2.10"]
    assert field(form, "san 1").value == "IP:192.0.2.10"


def test_the_signers_options_come_with_the_signer(show: Show) -> None:
    """Chosen, they are asked for; another signer's are gone."""
    form = show(signer="local-ca", signer_options={"ca_certificate": "ca.pem", "ca_key": "ca-key.pem"})
    assert field(form, "ca_certificate").value == "ca.pem"
    field(form, "signer").value = "self-signed"
    assert form.values["signer_options"] == {}
    assert "Nothing is wrong with what is written here" in said(form)
    field(form, "signer").value = "local-ca"
    assert "is missing" in said(form)
    field(form, "ca_certificate").value = "other.pem"
    assert form.values["signer_options"] == {"ca_certificate": "other.pem"}


@pytest.mark.parametrize("kind", SECTIONS)
def test_no_secret_can_be_typed(show: Show, kind: Kind) -> None:
    """A reference that was given, to be asked, or none: a choice, never a text."""
    form = show(kind, sudo_password="env:SUDO", signer="local-ca")
    secrets = {name for name, about in Parameters.model_fields.items() if is_secret(about)} | {"ca_key_password"}
    controls = [each for each in widgets_of(form) if getattr(each, "description", "") in secrets]
    assert len(controls) >= 2
    for each in controls:
        assert isinstance(each, ipywidgets.Dropdown)
        assert all(value == "" or REFERENCE.fullmatch(value) for _, value in each.options)
    field(form, "sudo_password").value = "prompt"
    assert form.values["sudo_password"] == "prompt"


def test_a_secret_in_clear_is_not_shown(show: Show) -> None:
    """It is refused, and stands neither in the fields nor in the table."""
    secret = "Gr4nite!Basalt"
    options = {"ca_key_password": secret, "ca_key_pasword": secret, "ca_key": f"-----BEGIN {secret}"}
    wrong = {"ssh_pasword": secret, "bastion_passwords": {"jump": secret}}
    form = show(ssh_password=secret, signer="local-ca", signer_options=options, **wrong)
    assert "is no secret reference" in said(form)
    assert "Basalt" not in repr([each.get_state() for each in widgets_of(form)])
    assert "Basalt" not in repr(form._repr_mimebundle_())


def test_hostile_text_stays_text(show: Show) -> None:
    """It is escaped where it is quoted, and a field holds it as it is."""
    form = show(host="<img src=x onerror=alert(1)>", san=["<script>alert(1)</script>"], nonsense="<b>")
    assert "<img" not in said(form) + form.table()._repr_html_()
    assert "&lt;img" in form.table()._repr_html_()
    assert "<script" not in said(form)
    assert "nonsense is no parameter" in said(form)


def test_what_the_ca_handed_back_is_judged_at_once(show: Show) -> None:
    """Pasted: what it is and what is to be said of it, before any server is asked; the run is given the same bytes."""
    form, pasted = show("install"), answer()
    field(form, "or paste it").value = pasted.decode()
    for part in ("what was handed in", "Test Issuing CA", "apstra.example.com", "checks pass"):
        assert part in said(form)
    prepared = prepare("install", {**form.values, "mode": "auto"}, Path("/nonexistent"), None, handed_in=form.handed_in)
    assert len(prepared.handed_in) == 3
    assert "dropped or pasted here" in repr(form.table())


def test_a_file_is_dropped(show: Show) -> None:
    """The same, from the browser's file."""
    form = show("install")
    file = {
        "name": "answer.p7b",
        "type": "",
        "size": 1,
        "content": memoryview(answer()),
        "last_modified": dt.datetime.now(dt.UTC),
    }
    field(form, "choose or drop the file").value = (file,)
    assert "Test Issuing CA" in said(form)
    field(form, "certificate_file").value = "nowhere.pem"
    assert form.handed_in == b""
    assert "what was handed in" not in said(form)


@pytest.mark.parametrize(
    ("pasted", "reason"),
    [("no certificate", "holds no certificate that can be used: it is"), (answer().decode()[:300], "is cut off")],
)
def test_what_is_no_certificate_is_said_and_refused(show: Show, pasted: str, reason: str) -> None:
    """At once in the form, and by the bind cell for whoever goes on all the same."""
    form = show("install")
    field(form, "or paste it").value = pasted
    assert reason in said(form)
    assert "Not yet: certificate_file." in said(form)
    with pytest.raises(UnusableParameters) as caught:
        form.fit()
    assert [each.field for each in caught.value.faults] == ["certificate_file"]
    field(form, "or paste it").value = ""
    assert "Nothing is wrong" in said(form)


def test_the_box_that_is_emptied_counts_for_nothing(show: Show) -> None:
    """What was pasted and taken back is not what the run is given; nor is an earlier one when a later one was no good."""
    form = show("install")
    for after in ("", "nonsense", KEY):
        field(form, "or paste it").value = answer().decode()
        assert form.handed_in
        field(form, "or paste it").value = after
        assert form.handed_in == b""


def test_the_judgement_follows_what_it_stands_on(show: Show) -> None:
    """Another service address, and the same certificate is judged anew."""
    form = show("install", host="apstra.example.com")
    field(form, "or paste it").value = answer().decode()
    assert "missing: elsewhere.example.com" not in said(form)
    field(form, "host").value = "elsewhere.example.com"
    assert "missing: elsewhere.example.com" in said(form)


def test_what_a_run_has_taken_cannot_be_changed(show: Show) -> None:
    """The fields are closed and say so; when the run did not begin they are open again."""
    form = show(apply=True)
    form.take()
    box = field(form, "apply")
    assert box.disabled
    box.value = False  # as by a page that has not heard of it yet
    assert form.values["apply"] is True
    assert "To change it, run this cell again" in said(form)
    form.let_go()
    assert not field(form, "apply").disabled
    assert "Nothing is wrong" in said(form)


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_private_key_is_not_kept(show: Show, way: str) -> None:
    """Nobody asked for one: it is gone from the page, and said to be."""
    form, data = show("install"), answer() + KEY.encode()
    if way == "paste":
        field(form, "or paste it").value = data.decode()
    else:
        file = {
            "name": "a",
            "type": "",
            "size": 1,
            "content": memoryview(data),
            "last_modified": dt.datetime.now(dt.UTC),
        }
        field(form, "choose or drop the file").value = (file,)
    assert form.handed_in == b""
    assert "there is a private key in it" in said(form)
    assert field(form, "choose or drop the file").value == ()
    assert not any("PRIVATE KEY-----" in repr(getattr(each, "value", "")) for each in widgets_of(form))


async def test_it_is_held_against_the_csr_that_waits(show: Show, practice: EmbeddedHost, tmp_path: Path) -> None:
    """The record here knows the CSR: another key's certificate is seen before any server is asked."""
    operator = Operator(practice, tmp_path)
    waiting = await operator.wait()
    form = show("install", host=operator.given["host"], records_dir=str(operator.records))
    field(form, "or paste it").value = pem(certify(operator.csr(waiting))).decode()
    assert f"with the CSR of change {waiting.change_id}" in said(form)
    assert "made for another key" not in said(form)
    field(form, "or paste it").value = answer().decode()
    assert "made for another key" in said(form)


def test_headless_it_is_a_table(show: Show) -> None:
    """The same values, and nothing that a record could not keep."""
    form = show("request", mode="headless", organization="Example")
    bundle = form._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert "Example" in bundle["text/plain"]
    assert WIDGET in show()._repr_mimebundle_()
