"""Whether what a run cannot do without is still there: its store, and the Prefect server that it reports to.

Where it is not, each further footage would wait for minutes and fail for the same reason.
"""

from __future__ import annotations

from collections.abc import Callable

from faceline.errors import FacelineError, StoreError
from faceline.folders import folder_at
from faceline.within import within
from flows.server import named_api_url, server_answers

ANSWER_S = 15.0
"""How long either may take to answer one small question."""


class OutageError(FacelineError):
    """The run ends here, since what it needs has gone away."""


def may_be_an_outage(error: Exception) -> bool:
    """Whether a footage may have failed for something that the next one would meet as well."""
    if isinstance(error, StoreError):
        return error.can_pass
    # What Prefect's client raises of a server that is gone is no error of faceline's, and of many kinds.
    return not isinstance(error, FacelineError)


def outage(store: str) -> tuple[str, str, str] | None:
    """What does not answer, where, and the cure; None where all does.

    Args:
        store: root of the store; a folder is not asked.
    """
    if "://" in store:
        try:
            within(ANSWER_S, lambda: folder_at(store).names())
        except (StoreError, TimeoutError) as error:
            if not isinstance(error, StoreError) or error.can_pass:
                return "the store does not answer", store, "check the network and AWS_ENDPOINT_URL, then run again"
    url = named_api_url()
    if url and not _within(lambda: server_answers(url)):
        return "the Prefect server does not answer", url, "see whether it runs, then run again"
    return None


def _within(ask: Callable[[], bool]) -> bool:
    try:
        return within(ANSWER_S, ask)
    except TimeoutError:
        return False
