"""Step 4: what the signer handed back, staged beside its key on the server."""

import base64

from runbook_lib.models import Command
from runbook_lib.parameters import Parameters
from runbook_lib.steps.folder import folder_of


def plan(parameters: Parameters, change_id: str, bundle: str) -> tuple[Command, ...]:
    """Writes the certificate with its chain, PEM, leaf first, into the change's folder."""
    folder = folder_of(parameters, change_id)
    script = f"cd {folder} && cat >nginx.crt.new && sync nginx.crt.new && mv -T nginx.crt.new nginx.crt && sync ."
    return (Command("stage the certificate beside its key", script, undo=f"rm {folder}/nginx.crt", stdin=bundle),)


def plan_recorded(parameters: Parameters, change_id: str, source: str) -> tuple[Command, ...]:
    """Copies a recorded pair into the change's folder.

    Args:
        parameters: The run's parameters.
        change_id: The restore.
        source: The folder on the server that holds the recorded pair.
    """
    folder = folder_of(parameters, change_id)
    script = f"cd {folder} && cp {source}/nginx.key {source}/nginx.crt . && chmod 600 nginx.key nginx.crt && sync nginx.key nginx.crt ."
    return (Command("stage the recorded pair", script, undo=f"rm {folder}/nginx.key {folder}/nginx.crt"),)


def plan_sent(parameters: Parameters, change_id: str, certificate: bytes, key: bytes) -> tuple[Command, ...]:
    """Writes a pair that comes from the operator's side into the change's folder, byte for byte.

    Args:
        parameters: The run's parameters.
        change_id: The restore.
        certificate: The certificate file.
        key: The key file, which goes over standard input and is shown nowhere.
    """
    folder = folder_of(parameters, change_id)
    script = f"cd {folder} && umask 077 && base64 -d >{{0}}.new && sync {{0}}.new && mv -T {{0}}.new {{0}} && sync ."
    sent = {
        name: base64.b64encode(data).decode() + "\n" for name, data in (("nginx.crt", certificate), ("nginx.key", key))
    }
    return (
        Command(
            "stage the fetched certificate",
            script.format("nginx.crt"),
            undo=f"rm {folder}/nginx.crt",
            stdin=sent["nginx.crt"],
        ),
        Command(
            "stage its key", script.format("nginx.key"), undo=f"rm {folder}/nginx.key", secret_stdin=sent["nginx.key"]
        ),
    )
