"""Telling an address of a night, where one is named: what is sent, and what is said of it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from faceline.nightly.headline import LIMIT
from faceline.nightly.summary import VERSION
from faceline.nightly.words import cut, shown
from flows.options import ArchiveOptions
from flows.report_links import address_of

log = logging.getLogger(__name__)

ADDRESS = "FACELINE_WEBHOOK"
"""Environment variable with the address, for one that holds a secret and so must not stand in the configuration."""

SENT = "sent"


def tell_address(options: ArchiveOptions, body: Callable[[], Mapping[str, Any]], *, patient: bool = True) -> str:
    """Send a night to the address that wants to know; `SENT`, why it was not, or empty where there is no address.

    Args:
        body: makes what is sent.
        patient: whether it is tried again.
    """
    address = options.webhook or os.environ.get(ADDRESS, "")
    if not address:
        return ""
    # Here, since few need the network's libraries.
    from faceline.nightly.notification import PAUSES_S, send

    try:
        why = send(address, body(), pauses_s=PAUSES_S if patient else ())
    except Exception as error:
        log.exception("the notification failed")
        why = f"unexpected {type(error).__name__}"
    host = _host(address)
    if why:
        # The rest of the address may be a secret, and what the network said may repeat it.
        why = cut(shown(why.replace(address, host)), 200)
        log.warning("%s was not told of this run: %s", host, why)
        return f"not sent to {host}: {why}"
    log.info("%s was told of this run", host)
    return SENT


def _host(address: str) -> str:
    try:
        return shown(urlsplit(address).hostname or ADDRESS)
    except ValueError:
        return ADDRESS


def failure_body(folder: Path, error: object, state: str = "failed") -> dict[str, Any]:
    """What is sent of a run that could not even begin: the first keys of a night."""
    return {
        "version": VERSION,
        "state": state,
        "title": state.capitalize(),
        "text": cut(shown(error), 400),
        "archive": cut(shown(folder), 200),
        "host": socket.gethostname(),
        "limit": cut(LIMIT, 200),
    }


def page_of(output: Path, page: str = "archive.html") -> str:
    """Where a page of the results folder is: its address where `serve` offers it, else its path."""
    return address_of(output / page) or shown((output / page).absolute())
