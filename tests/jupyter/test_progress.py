"""What is shown while a run goes on: it never stands in the run's way."""

from runbook_lib.jupyter.progress import Progress


def test_what_cannot_be_shown_ends_no_run() -> None:
    """Without a loop to show it in, and for an event that is none of ours: the journal is written all the same."""
    progress = Progress()
    for event in ({"event": "intent", "step": "install", "purpose": "restart nginx"}, {"event": "result"}):
        progress(event)
