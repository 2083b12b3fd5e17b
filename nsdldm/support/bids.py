"""How BIDS writes names."""

from __future__ import annotations

import re

SIDES = {"lh": "L", "rh": "R"}


def name_space(name: str) -> str:
    """Write a name in letters and digits only, as values of BIDS entities must be.

    Parameters
    ----------
    name : str
        Such as zc-n100 or z+zc.

    Returns
    -------
    str
        Such as zcN100 or zAndZc.
    """
    words = re.split(r"[^A-Za-z0-9]+", name.replace("+", "-and-"))
    return words[0] + "".join(word[:1].upper() + word[1:] for word in words[1:])


def name_subject(subject: str) -> str:
    """Write the entity of a subject.

    Parameters
    ----------
    subject : str
        Such as subj01 or sub-03.

    Returns
    -------
    str
        Such as sub-01.
    """
    return f"sub-{name_space(re.sub(r'^(subj|sub-)', '', subject))}"
