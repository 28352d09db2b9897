"""Telling an address of a night: one POST of a small JSON object. Off by default, and all that a run sends anywhere."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from faceline.within import within

TIMEOUT_S = 10.0
"""How long one attempt may take as a whole: looking up the name, connecting, sending, and waiting for the answer."""

PAUSES_S = (2.0, 8.0)
"""Pauses before the second and the third attempt, in seconds."""


def check_address(text: str) -> None:
    """Refuse what is no address to send to.

    Raises:
        ValueError: why, in words.
    """
    try:
        parts = urllib.parse.urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or any(not "!" <= character <= "~" for character in text):
        raise ValueError("must be an address that begins with http:// or https://")


def send(
    address: str,
    body: Mapping[str, Any],
    *,
    timeout_s: float = TIMEOUT_S,
    pauses_s: Sequence[float] = PAUSES_S,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Send a JSON object; empty, or why it could not be delivered. Never raises for what the network does.

    What can pass (no answer, 408, 429, 5xx) is tried again after each of the pauses; a refusal is not. Redirections are
    not followed: they would send the night to an address that nobody named.
    """
    try:
        data = json.dumps(body, allow_nan=False).encode("ascii")
        check_address(address)
    except ValueError as error:
        return str(error)
    request = urllib.request.Request(address, data, {"Content-Type": "application/json", "User-Agent": "faceline"})
    opener = urllib.request.build_opener(_NoRedirection)
    why = ""
    for pause_s in (*pauses_s, None):
        why, can_pass = _attempt(opener, request, timeout_s)
        if not why or not can_pass or pause_s is None:
            break
        sleep(pause_s)
    return why


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _attempt(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request, timeout_s: float
) -> tuple[str, bool]:
    """Why it could not be delivered (empty if it was), and whether trying again may help."""

    def ask() -> None:
        with opener.open(request, timeout=timeout_s):
            pass

    try:
        # The library's own limit is one for each time that it waits: who sends a byte now and then is never late.
        within(timeout_s, ask)
        return "", False
    except urllib.error.HTTPError as error:
        error.close()
        return f"it answered {error.code}", error.code in (408, 429) or error.code >= 500
    except urllib.error.URLError as error:
        return f"it did not answer ({error.reason})", True
    except (OSError, ValueError) as error:
        # A timeout while reading; an answer that is no HTTP.
        return f"it did not answer ({error or type(error).__name__})", True
    except Exception as error:
        # `http.client` has exceptions of its own for what is no HTTP.
        return f"it answered with no HTTP ({type(error).__name__})", True
