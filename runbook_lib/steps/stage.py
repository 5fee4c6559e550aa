"""Step 4: what the signer handed back, staged beside its key on the server."""

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
