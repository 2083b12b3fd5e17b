"""Rows of the table of generalisation: which are shown, in what order, and under which names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nsdldm.plots.pictures import read_columns
from nsdldm.support.errors import Finding, InputError

TEXT = ("subject", "kind", "case", "source", "score", "candidates", "region", "space")
NUMBERS = ("value", "low", "high", "chance", "ceiling")
NORMALISED = ("normalised", "normalised_low", "normalised_high")
PREVALENCE = ("prevalence", "prevalence_low", "prevalence_high")
COUNTS = ("reliability", "n_images", "n_subjects", "above")
COLUMNS = (*TEXT, *NUMBERS, *NORMALISED, *COUNTS, *PREVALENCE)
GROUP = "all"  # the mean over subjects; also: all other test images are candidates
ALL, SIMILAR, WITHIN = "all", "similar", "group"
SHARED = "shared"
DECODED = "decoded"
# Scores of pictures; all other scores of what was decoded are those of decoded features.
PICTURES = ("layout", "content")
# Whatever was not made by a case's own decoder.
OTHERS = ("ceiling", "true-z", "nearest", "mean", "shuffled", "encoder")
KINDS = {
    "split": "Divisions of the images",
    "test set": "Other test sets",
    "little data": "Little data",
    "baseline": "Without a brain",
    "betas": "Other betas",
}
NAMES = {
    SHARED: "Shared images",
    "cluster": "New clusters",
    "category": "New categories",
    "random": "Random images",
    "synthetic": "NSD-synthetic",
    "vision": "Seen targets",
    "imagery": "Imagined targets",
    "attention": "Attended targets",
    "hour": "One session",
    "hour-all": "All sessions",
    "hour-aligned": "Others, aligned",
    "hour-tuned": "Others, adapted",
    "others": "Others alone",
    "hour-joint": "Trained jointly",
    "mean": "Mean features",
    "true-caption": "True caption alone",
    "shuffled": "Another image's",
    "nearest": "Nearest training image",
    "betas": "Other betas",
    "half-1": "First half of trials",
    "half-2": "Second half of trials",
}
PATTERNS = {
    r"unique-(\d+)": "Own, {} sessions",
    r"sessions-(\d+)": "{} sessions",
    r"rank-(\d+)": "{} dimensions",
    r"noise-rank-(\d+)": "Noise, {} dimensions",
}
# The case with the same test images, or drawn from the same ones, that a case is compared with.
REFERENCES = {
    "imagery": "vision",
    "attention": "vision",
    **dict.fromkeys(("hour", "hour-aligned", "hour-tuned", "others", "hour-joint"), "hour-all"),
}
REFERENCED = ("split", "baseline", "betas")  # kinds of cases compared with the shared images


def read_generalisation(path: Path | str) -> pd.DataFrame:
    """Read the table that the figures and the page show.

    Parameters
    ----------
    path : path
        As `nsdldm.evaluation.generalisation_table.tabulate_generalisation` writes it.

    Returns
    -------
    DataFrame
        With `COLUMNS`; text that is missing is empty.

    Raises
    ------
    InputError
        The table lacks a column, or holds nothing that was decoded.
    """
    table = read_columns(path, COLUMNS)
    table[list(TEXT)] = table[list(TEXT)].astype(object).fillna("").astype(str)
    if not select_main(table).any():
        expected = "scores of decoded features or of pictures"
        raise InputError(Finding(str(path), expected, "none", "Make it again"))
    return table


def select_main(table: pd.DataFrame) -> pd.Series:
    """Which rows score what a case's own decoder made: features, or pictures of them.

    Parameters
    ----------
    table : DataFrame
        With `COLUMNS`.

    Returns
    -------
    Series of bool
    """
    picture = table["score"].isin(PICTURES) & ~table["source"].isin((*OTHERS, DECODED))
    feature = (table["source"] == DECODED) & table["score"].map(_is_feature)
    return (picture | feature) & table["candidates"].isin((ALL, SIMILAR, WITHIN))


def _is_feature(score):
    """Whether a score of decoded features is an identification, not what is derived from one."""
    ends = ("-r", "-by-similarity", "category-share")
    return score not in PICTURES and not score.endswith(ends)


def list_scores(table: pd.DataFrame) -> list[str]:
    """Scores of what was decoded, features before pictures.

    Parameters
    ----------
    table : DataFrame
        Rows that `select_main` takes.

    Returns
    -------
    list of str
        z and c first, layout and content last.
    """
    there = list(dict.fromkeys(table["score"]))
    first = [score for score in ("z", "c") if score in there]
    last = [score for score in PICTURES if score in there]
    return first + [score for score in there if score not in (*first, *last)] + last


def list_cases(table: pd.DataFrame, kinds: Sequence[str]) -> dict[str, list[str]]:
    """Cases of each kind, in the order of the table; kinds without any are left out."""
    found = {kind: list(dict.fromkeys(table.loc[table["kind"] == kind, "case"])) for kind in kinds}
    return {kind: cases for kind, cases in found.items() if cases}


def list_subjects(table: pd.DataFrame) -> list[str]:
    """Subjects in the order of the table, without their mean."""
    return [name for name in dict.fromkeys(table["subject"]) if name != GROUP]


def take_group(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the mean over subjects, or of the subject where there is only one.

    Parameters
    ----------
    table : DataFrame
        With `COLUMNS`.

    Returns
    -------
    DataFrame
    """
    group = table[table["subject"] == GROUP]
    if len(group) or len(list_subjects(table)) != 1:
        return group
    return table


def name_case(case: str) -> str:
    """Put a case into words that fit beside a row."""
    for pattern, words in PATTERNS.items():
        if found := re.fullmatch(pattern, case):
            words = words.format(found[1])
            return words.removesuffix("s") if found[1] == "1" else words
    return NAMES.get(case, case)


def name_score(score: str, mathematics: bool = True) -> str:
    """Put a score into words that fit above a panel or a column."""
    if score in ("z", "c"):
        return f"Decoded ${score}$" if mathematics else f"Decoded {score}"
    return f"Picture: {score}" if score in PICTURES else f"Decoded {score}"


def find_reference(case: str, kind: str, cases: Sequence[str]) -> str:
    """The case that another one is compared with, or an empty text."""
    other = REFERENCES.get(case, SHARED if kind in REFERENCED else "")
    return other if other in cases and other != case else ""
