"""A replacement by the conductor alone, without notebooks: `conductor.py PARAMETERS.yaml`, both runs in one process."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from runbook_lib.change import Change, Install, Request, go_on, open_change
from runbook_lib.parameters import read_yaml
from runbook_lib.record.archive import open_record
from runbook_lib.secrets import REGISTRY
from runbook_lib.session import prepare


async def replace(values: Mapping[str, object], base: Path) -> None:
    """Requests a certificate and installs it, by the same calls in the same order as the notebooks' cells.

    Raises:
        RunbookError: A run ended in another way than done.
    """
    prepared = prepare("request", values, base, None)
    request = await open_change(prepared, lambda change_id: open_record(prepared.records, change_id, REGISTRY.redact))
    try:
        await _steps(request)
        await _steps(go_on(request))
    finally:
        await request.close()


async def _steps(change: Change) -> None:
    await change.check()
    await change.plan()
    match change:
        case Request():
            await change.back_up()
            await change.make_key()
            await change.make_csr()
            await change.sign()
        case Install():
            await change.compare()
            await change.install()
            await change.confirm()
    change.summary()


if __name__ == "__main__":
    file = Path(sys.argv[1])
    asyncio.run(replace(read_yaml(file.read_text(encoding="utf-8"), name=str(file)), file.parent))
