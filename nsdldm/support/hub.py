"""Where huggingface-hub keeps models, and whether it may download them. Standard library only."""

from __future__ import annotations

import os
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from nsdldm.support.errors import Finding

FETCH = "Fetch it once where there is a network (docs/offline.md), or unset HF_HUB_OFFLINE"
CONNECT = "Fetch it once where there is a network (docs/offline.md), or give a folder as `path`"
# Time for the hub to answer at all; its library would retry for half a minute.
PATIENCE_SECONDS = 5


def is_offline() -> bool:
    """Whether huggingface-hub is told not to use the network, according to its own settings."""
    setting = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return setting.upper() in ("1", "ON", "YES", "TRUE")


def find_snapshot(name: str, revision: str) -> Path:
    """Where huggingface-hub keeps a downloaded revision of a model.

    Parameters
    ----------
    name : str
        Hub id (owner/name).
    revision : str
        Commit, or a branch or tag that was downloaded under that name.

    Returns
    -------
    Path
        In the folder that HF_HUB_CACHE, HF_HOME or XDG_CACHE_HOME chooses; need not exist.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    home = Path(os.environ.get("HF_HOME", base / "huggingface"))
    cache = Path(os.path.expandvars(os.environ.get("HF_HUB_CACHE", home / "hub"))).expanduser()
    repository = cache / f"models--{name.replace('/', '--')}"
    reference = repository / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    return repository / "snapshots" / commit


def check_connection(name: str, revision: str) -> list[Finding]:
    """Check whether the hub can be reached, within a few seconds.

    Parameters
    ----------
    name, revision : str
        What is to be downloaded, for the message.

    Returns
    -------
    list of Finding
        Empty if anything answers, even if it refuses.
    """
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    answers = []
    # In a thread, since name lookup has no timeout.
    asking = Thread(target=lambda: answers.append(_find_obstacle(endpoint)), daemon=True)
    asking.start()
    asking.join(PATIENCE_SECONDS)
    obstacle = answers[0] if answers else f"no answer within {PATIENCE_SECONDS} s"
    if obstacle is None:
        return []
    folder = find_snapshot(name, revision)
    expected = f"revision {revision} at {folder}, or a connection to {endpoint}"
    return [Finding(f"`path` {name}", expected, f"neither ({obstacle})", CONNECT)]


def _find_obstacle(endpoint):
    """Why an address does not answer, or None; uses a proxy if there is one."""
    try:
        with urlopen(Request(endpoint, method="HEAD"), timeout=PATIENCE_SECONDS):
            return None
    except HTTPError:
        return None
    except URLError as error:
        reason = error.reason
        return getattr(reason, "strerror", None) or str(reason)
    except (OSError, HTTPException, ValueError) as error:
        return str(error)
