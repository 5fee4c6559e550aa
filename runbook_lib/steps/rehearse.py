"""Between step 5 and step 6: the container's own nginx serves the staged pair aside, and hands are shaken with it.

`nginx -t` passes what no client can use: an RSA key beside an EC certificate, which fails every handshake.
"""

import re
import shlex

from runbook_lib.models import ChangeFolder, Check, Command, Facts, Verdict
from runbook_lib.parameters import Parameters
from runbook_lib.steps.folder import folder_of

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_ALERT = re.compile(r"^.*\balert .*$", re.MULTILINE)
_OF_THE_PAIR = re.compile(r"^.*\[emerg\].*/nginx\.(?:crt|key)\b.*$", re.MULTILINE)


def plan(facts: Facts, parameters: Parameters, change_id: str, script: str) -> tuple[Command, ...]:
    """The rehearsal; it touches neither the live pair nor the port.

    Args:
        facts: The server as found.
        parameters: The run's parameters.
        change_id: The change, whose pair is staged.
        script: Text of rehearse.sh.
    """
    name = shlex.quote(facts.container.name if facts.container else parameters.container)
    return (
        Command(
            "let the container's nginx serve the staged pair aside, and shake hands with it",
            f"cd {folder_of(parameters, change_id)} && cat >rehearse.sh && sh rehearse.sh {name}",
            undo="none needed: nothing is left of it",
            stdin=script,
            time_limit_s=60,
        ),
    )


def checks(change: ChangeFolder, shaken: str, nginx: str) -> tuple[Check, ...]:
    """Whether nginx served the staged pair; unknown where the rehearsal could not be held, which says nothing of the pair.

    Args:
        change: The change, with its staged pair.
        shaken: What the handshake showed.
        nginx: What nginx said.
    """
    installed = [each.pem.strip() for each in change.staged.chain]
    sent = [each.strip() for each in _PEM.findall(shaken)]
    refused, alert = _OF_THE_PAIR.search(nginx), _ALERT.search(shaken)
    if sent:
        served = list(dict.fromkeys(sent)) == installed
        verdict, found = (Verdict.PASS, "the same") if served else (Verdict.FAIL, "another chain")
    elif refused or alert:
        verdict, found = Verdict.FAIL, (refused or alert)[0].strip()  # type: ignore[index]
    else:
        last = (nginx.strip() or shaken.strip() or "no answer").splitlines()[-1]
        verdict, found = Verdict.UNKNOWN, f"the rehearsal could not be held: {last}"
    todo = {
        Verdict.FAIL: "nginx cannot serve this pair: ask the CA for a certificate of this change's CSR, with its chain",
        Verdict.UNKNOWN: "nothing: the guard brings the old pair back if nginx does not serve the new one",
    }
    question = "Does the container's nginx serve leaf and chain in a rehearsal?"
    return (Check(question, f"{len(installed)} certificates as staged", found, verdict, "vendor's step 6", todo.get(verdict, "")),)  # fmt: skip
