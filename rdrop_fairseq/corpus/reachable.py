"""Whether an address answers, without fetching what it serves."""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rdrop_fairseq.corpus import transfer
from rdrop_fairseq.corpus.download import candidates

TIMEOUT = 10  # seconds


def why_not(urls: Sequence[str]) -> str:
    """Empty if one of the addresses (those of DATA_MIRROR, if it is set) answers; else why each does not."""
    reasons = []
    for url in candidates(urls):
        reason = _why_not(url)
        if not reason:
            return ""
        reasons.append(f"{url}: {reason}")
    return "; ".join(reasons)


def _why_not(url: str) -> str:
    if urlsplit(url).scheme == "file":
        return "" if Path(unquote(urlsplit(url).path)).is_file() else "no such file"
    answer = _ask(url, "HEAD")
    # some hosts answer HEAD with an error and GET with the file
    return _ask(url, "GET") if answer.startswith("HTTP") else answer


def _ask(url: str, method: str) -> str:
    headers = {"User-Agent": "rdrop_fairseq", "Range": "bytes=0-0"}
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with contextlib.closing(transfer.opener(url).open(request, timeout=TIMEOUT)):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"HTTP {error.code} {error.reason}"
    except (*transfer.NETWORK, ValueError) as error:
        return f"no answer ({getattr(error, 'reason', error)})"
