"""Step 3: the CSR, made by the server's openssl from a template that never becomes a file."""

from runbook_lib.models import Check, Command, Facts
from runbook_lib.parameters import Parameters
from runbook_lib.pki.csr import check_request, template
from runbook_lib.steps.folder import folder_of


def plan(facts: Facts, parameters: Parameters, change_id: str) -> tuple[Command, ...]:
    """The CSR; its template goes to openssl's standard input, so that it lies in no folder at any time."""
    if facts.change(change_id).csr:
        return ()
    folder = folder_of(parameters, change_id)
    script = (
        f"cd {folder} && openssl req -new -sha256 -key nginx.key -config /dev/stdin -out nginx.csr.new && "
        "sync nginx.csr.new && mv -T nginx.csr.new nginx.csr"
    )
    return (Command("make the CSR", script, undo=f"rm {folder}/nginx.csr", stdin=template(parameters.request())),)


def checks(facts: Facts, parameters: Parameters, change_id: str) -> tuple[Check, ...]:
    """The CSR read back and held against what was asked, field by field."""
    return check_request(facts.change(change_id).csr, parameters.request())
