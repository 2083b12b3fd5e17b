"""Pages that lead to others."""

from __future__ import annotations

from html import escape
from pathlib import Path

from nsdldm.support.files import replacing


def write_redirect(*, output: Path | str, target: str) -> None:
    """Write a page that leads to another one.

    Parameters
    ----------
    output : str or Path
    target : str
        Relative address, with the map after a #.
    """
    address = escape(target)
    with replacing(output) as part:
        part.write_text(
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Maps</title>'
            f'<meta http-equiv="refresh" content="0; url={address}"></head>'
            f'<body><a href="{address}">Maps</a></body></html>\n',
            encoding="utf-8",
        )
