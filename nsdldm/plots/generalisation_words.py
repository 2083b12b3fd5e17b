"""Sentences of the page on generalisation, made from numbers alone.

A score is above chance if its whole interval is, and below if its whole interval is. Two scores
differ if their intervals do not overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    # A row of the table for each score of one case, source and kind of candidates.
    Rows = Mapping[str, pd.Series]

ABOVE, NOT, BELOW, UNKNOWN = "above", "not", "below", "unknown"
ENOUGH = 0.95  # of the margin of all dimensions
HALF = 0.5  # of the population


def join_words(words: Iterable[str]) -> str:
    """Join words as in "z, c and layout"."""
    words = list(words)
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def format_number(value: float, signed: bool = False) -> str:
    """A number with two decimals and a true minus; -0.00 is 0.00."""
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def format_percent(value: float) -> str:
    """A share in percent."""
    text = f"{100 * value:.0f}"
    return f"{'0' if float(text) == 0 else text.replace('-', '−')} %"


def format_interval(row: pd.Series, percent: bool = False, prefix: str = "") -> str:
    """The ends of a row's interval, or an empty text.

    Parameters
    ----------
    row : Series
        With low and high, behind `prefix` if there is one.
    percent : bool
    prefix : str

    Returns
    -------
    str
    """
    ends = row[f"{prefix}low"], row[f"{prefix}high"]
    if not np.isfinite(ends).all():
        return ""
    if percent:
        return f"{format_percent(ends[0]).removesuffix(' %')} to {format_percent(ends[1])}"
    return " to ".join(map(format_number, ends))


def judge(row: pd.Series) -> str:
    """Whether a score is above chance by its interval.

    Parameters
    ----------
    row : Series
        With low, high and chance.

    Returns
    -------
    {"above", "not", "below", "unknown"}
        Unknown without an interval or chance.
    """
    if not np.isfinite([row["low"], row["high"], row["chance"]]).all():
        return UNKNOWN
    if row["low"] > row["chance"]:
        return ABOVE
    return BELOW if row["high"] < row["chance"] else NOT


def sort_by_verdict(rows: Rows) -> dict[str, list[str]]:
    """Names of scores by what `judge` says of them."""
    found = {verdict: [] for verdict in (ABOVE, NOT, BELOW, UNKNOWN)}
    for name, row in rows.items():
        found[judge(row)].append(name)
    return found


def read_verdicts(rows: Rows) -> str:
    """Say which scores are above chance.

    Parameters
    ----------
    rows : dict of Series
        By score.

    Returns
    -------
    str
        A sentence, empty if no score has an interval and chance.
    """
    found = sort_by_verdict(rows)
    known = len(rows) - len(found[UNKNOWN])
    if not known:
        return ""
    if len(found[ABOVE]) == known:
        return "All above chance." if known > 1 else "Above chance."
    words = {ABOVE: "above chance", NOT: "not above chance", BELOW: "below chance"}
    if len(found[NOT]) == known:
        return "None above chance." if known > 1 else "Not above chance."
    parts = [f"{words[key]}: {join_words(found[key])}" for key in words if found[key]]
    return _begin("; ".join(parts))


def _begin(text):
    """Make a sentence of words; names within keep their letters."""
    return f"{text[0].upper()}{text[1:]}."


def lower(sentence: str) -> str:
    """A sentence that goes on after a colon; names within keep their letters."""
    return f"{sentence[:1].lower()}{sentence[1:]}"


def differ(a: pd.Series, b: pd.Series) -> int:
    """1 if a lies above b, -1 if below, 0 if their intervals overlap or are unknown."""
    return int(a["low"] > b["high"]) - int(a["high"] < b["low"])


def read_difference(rows: Rows, others: Rows, name: str) -> str:
    """Say how scores differ from those of another case.

    Parameters
    ----------
    rows, others : dict of Series
        By score.
    name : str
        Of the other case.

    Returns
    -------
    str
        A sentence, empty if no score is known of both.
    """
    both = [score for score in rows if score in others]
    if not both:
        return ""
    parts = []
    for sign, word in ((-1, "lower"), (1, "higher")):
        own = [score for score in both if differ(rows[score], others[score]) == sign]
        gaps = [rows[score]["value"] - others[score]["value"] for score in own]
        each = [f"{s} ({format_number(gap, True)})" for s, gap in zip(own, gaps, strict=True)]
        where = join_words(each)
        if len(own) == len(both) > 2:
            ends = [format_number(gap, True) for gap in (min(gaps), max(gaps))]
            where = f"all ({' to '.join(dict.fromkeys(ends))})"
        parts += [f"{word} than {name} in {where}"] * bool(own)
    if not parts:
        return f"No clear difference from {name}."
    return _begin("; ".join(parts))


def read_case(rows: Rows, similar: Rows, others: Rows, reference: str) -> str:
    """Say what holds in a case.

    Parameters
    ----------
    rows, similar : dict of Series
        By score: among all test images, and among similar ones.
    others : dict of Series
        As `rows`, of the case it is compared with.
    reference : str
        Name of that case; empty if there is none.

    Returns
    -------
    str
    """
    everything, close = read_verdicts(rows), read_verdicts(similar)
    sentences = [everything]
    if close and close == everything:
        sentences = [f"{everything.removesuffix('.')}, also among similar images."]
    elif close:
        sentences.append(f"Among similar images: {lower(close)}")
    if reference:
        sentences.append(read_difference(rows, others, reference))
    return " ".join(filter(None, sentences))


def read_share(name: str, share: pd.Series, within: pd.Series | None) -> str:
    """Say how much of a score above chance is owed to the category.

    Parameters
    ----------
    name : str
        Of the score.
    share : Series
        Row whose value is the share of the margin above chance that is lost among images of the
        same category.
    within : Series or None
        Row of the score among those.

    Returns
    -------
    str
    """
    if not np.isfinite(share["value"]):
        return f"{name}: no margin above chance to divide."
    ends = format_interval(share, percent=True)
    text = f"{name} owes {format_percent(share['value'])}{f' ({ends})' if ends else ''} of its "
    text += "margin above chance to the category"
    if within is None or judge(within) == UNKNOWN:
        return f"{text}."
    words = {ABOVE: "is still above chance", NOT: "is not above chance", BELOW: "is below chance"}
    value = format_number(within["value"])
    return f"{text}; within a category it {words[judge(within)]} ({value})."


def read_bottleneck(
    name: str, curve: Mapping[int, pd.Series], full: pd.Series | None, noise: Iterable[pd.Series]
) -> str:
    """Say how many dimensions a score needs, and whether it needs responses.

    Parameters
    ----------
    name : str
        Of the score.
    curve : dict of Series
        Rows by number of dimensions.
    full : Series or None
        Row of the unrestricted decoder.
    noise : iterable of Series
        Rows of the same decoders fitted to noise.

    Returns
    -------
    str
    """
    above = sorted(number for number, row in curve.items() if judge(row) == ABOVE)
    few = f"as few as {above[0]}" if above else "none of these numbers"
    text = f"{name} is above chance with {few}"
    if full is not None and judge(full) == ABOVE:
        need = ENOUGH * (full["value"] - full["chance"])
        enough = [n for n, row in sorted(curve.items()) if row["value"] - row["chance"] >= need]
        words = f"with {enough[0]}" if enough else "with none of them"
        text += f", and {words} it has {format_percent(ENOUGH)} of the unrestricted margin"
    noisy = [judge(row) == ABOVE for row in noise]
    if noisy:
        text += f"; from noise it is above chance with {sum(noisy)} of {len(noisy)} numbers"
    return f"{text}."


def read_classes(rows: pd.DataFrame) -> str:
    """Say in which regions, and for which classes of image, encoders predict responses.

    Parameters
    ----------
    rows : DataFrame
        Of one case and feature space, with region and candidates (the class).

    Returns
    -------
    str
    """
    verdicts = rows.assign(above=[judge(row) == ABOVE for _, row in rows.iterrows()])
    counts = verdicts.groupby("candidates", sort=False)["above"].agg(["sum", "size"])
    everything = counts.loc["all"] if "all" in counts.index else None
    parts = []
    if everything is not None:
        n, total = everything["sum"], everything["size"]
        parts.append(f"Over all images r is above 0 in {n} of {total} regions.")
    classes = counts.drop(index="all", errors="ignore")
    if len(classes):
        lost = list(classes.index[classes["sum"] == 0])
        words = f"Classes predicted in no region: {join_words(lost)}." if lost else ""
        parts.append(words or f"Each of {len(classes)} classes is predicted in some region.")
    return " ".join(parts)


def read_inference(fdr: pd.Series, fwe: pd.Series) -> str:
    """Say how many voxels are significant by either kind of inference.

    Parameters
    ----------
    fdr, fwe : Series of float
        Shares of voxels by space and region, with the same index.

    Returns
    -------
    str
    """
    lost = int(((fdr > 0) & (fwe == 0)).sum())
    found = int((fdr > 0).sum())
    text = f"On average over {len(fdr)} regions and spaces {format_percent(fdr.mean())} of voxels "
    text += f"are significant by FDR and {format_percent(fwe.mean())} family-wise"
    return f"{text}; in {lost} of {found} with any by FDR, none is left family-wise."


def read_prevalence(rows: pd.DataFrame) -> str:
    """Say of how many scores most of the population shows the effect.

    Parameters
    ----------
    rows : DataFrame
        Rows of the mean over subjects whose prevalence is known.

    Returns
    -------
    str
    """
    every = int((rows["above"] >= rows["n_subjects"]).sum())
    most = int((rows["prevalence_low"] > HALF).sum())
    counts = dict.fromkeys(int(n) for n in sorted(rows["n_subjects"]))
    return (
        f"Of {len(rows)} scores of a case, {every} are above chance in every subject (of "
        f"{join_words(map(str, counts))}); for {most} the whole interval of prevalence lies above "
        f"{format_percent(HALF)}."
    )


def read_reliability(rows: Rows) -> str:
    """Say how reliable scores of single images are.

    Parameters
    ----------
    rows : dict of Series
        By score, with reliability.

    Returns
    -------
    str
    """
    known = {name: row["reliability"] for name, row in rows.items()}
    known = {name: value for name, value in known.items() if np.isfinite(value)}
    if not known:
        return ""
    best = max(known, key=known.get)
    worst = [name for name, value in known.items() if value <= 0]
    text = f"Scores of single images are most reliable for {best} ({format_number(known[best])})"
    return f"{text}; not above 0: {join_words(worst)}." if worst else f"{text}; all are above 0."


def merge_sentences(sentences: Mapping[str, str]) -> list[str]:
    """Name together whatever the same is said of.

    Parameters
    ----------
    sentences : dict of str
        By what they are about.

    Returns
    -------
    list of str
        Such as "a and b: ...".
    """
    about = {}
    for name, sentence in sentences.items():
        about.setdefault(sentence, []).append(name)
    return [f"{join_words(names)}: {sentence}" for sentence, names in about.items()]


def read_slopes(rows: Rows) -> str:
    """Say which scores grow with similarity to the training images.

    Parameters
    ----------
    rows : dict of Series
        By score: rank correlations with similarity.

    Returns
    -------
    str
    """
    found = sort_by_verdict(rows)
    words = {ABOVE: "higher", BELOW: "lower"}
    parts = [
        f"{words[key]} for more similar images: {join_words(found[key])}"
        for key in words
        if found[key]
    ]
    return f"{'; '.join(parts) or 'no clear relation of any score to similarity'}."
