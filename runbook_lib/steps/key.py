"""Step 2: a new private key, made on the server by its own openssl, staged and never over the live one."""

from runbook_lib.models import Check, Command, Facts, Verdict
from runbook_lib.parameters import Parameters
from runbook_lib.pki.certificates import key_type_of
from runbook_lib.steps.folder import folder_of

SOURCE = "vendor's step 2"
# options that OpenSSL 1.1.1 and 3.x both have
_OPTIONS = {
    "rsa-2048": "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
    "rsa-3072": "-algorithm RSA -pkeyopt rsa_keygen_bits:3072",
    "rsa-4096": "-algorithm RSA -pkeyopt rsa_keygen_bits:4096",
    "ec-p256": "-algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:named_curve",
    "ec-p384": "-algorithm EC -pkeyopt ec_paramgen_curve:P-384 -pkeyopt ec_param_enc:named_curve",
}


def plan(facts: Facts, parameters: Parameters, change_id: str) -> tuple[Command, ...]:
    """The key, written under `umask 077` and renamed into place when it is whole."""
    if facts.change(change_id).staged.key_sha256:
        return ()
    script = (
        f"cd {folder_of(parameters, change_id)} && umask 077 && rm -f nginx.key.new && "
        f"openssl genpkey {_OPTIONS[parameters.key_type]} -out nginx.key.new && sync nginx.key.new && mv -T nginx.key.new nginx.key"
    )
    undo = f"rm {folder_of(parameters, change_id)}/nginx.key"
    return (Command(f"make a new {parameters.key_type} key", script, undo=undo, time_limit_s=180),)


def checks(facts: Facts, parameters: Parameters, change_id: str) -> tuple[Check, ...]:
    """Whether the staged key is of the kind asked for and closed to others."""
    change = facts.change(change_id)
    public = change.public_keys.get("key", ("", ""))[1]
    found = key_type_of(public) if public else "no key"
    mode = change.files.get("nginx.key", "absent")
    return (
        Check(
            "Is the new key of the kind asked for?",
            parameters.key_type,
            found,
            Verdict.PASS if found == parameters.key_type else Verdict.FAIL,
            SOURCE,
            "run again with change_id=new",
        ),
        Check(
            "Can nobody but root read the new key?",
            "mode 600",
            f"mode {mode}",
            Verdict.PASS if mode == "600" else Verdict.FAIL,
            SOURCE,
            "run again with change_id=new: a key that others could read is not used",
        ),
    )
