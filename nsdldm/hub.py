"""Where huggingface-hub keeps models, and whether it may fetch them. Standard library only."""

import os
from pathlib import Path

FETCH = "Fetch it once where there is a network (docs/offline.md), or unset HF_HUB_OFFLINE"


def is_offline():
    """Whether huggingface-hub is told to use no network, as it reads its own settings."""
    setting = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return setting.upper() in ("1", "ON", "YES", "TRUE")


def find_snapshot(name, revision):
    """Where huggingface-hub keeps a revision of a model that was fetched.

    Parameters
    ----------
    name : str
        Hub id (owner/name).
    revision : str
        Commit, or a branch or tag that was fetched by that name.

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
