"""One table of what every added target is worth: pictures, retrieval, captions and depth.

Imports are light: no networks.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from nsdldm.evaluation.names import find_chance
from nsdldm.evaluation.published import list_published_beyond
from nsdldm.evaluation.tables import CEILING, save_scores
from nsdldm.support.errors import reading
from nsdldm.support.files import load_table

logger = logging.getLogger(__name__)

KINDS = ("reconstruction", "retrieval", "caption", "depth")
NUMBERS = ("value", "low", "high", "chance", "floor", "ceiling")
COLUMNS = (
    *("data", "subject", "protocol", "method", "kind", "score", *NUMBERS, "n"),
    *("sessions", "definition", "comparable", "evidence", "source", "note"),
)
NEAREST = "nearest"  # pictures that no generator made
INTERVAL = ("value", "low", "high", "chance", "n")
# In a summary of an evaluation, and what the columns are called here.
SUMMARY = {"metric": "score", "ci_low": "low", "ci_high": "high", "chance_mean": "floor"}
SUMMARY |= {"value": "value", "chance_shuffled": "chance", "n_images": "n"}


def tabulate_beyond(
    *,
    summaries: dict[tuple[str, ...], Path | str],
    retrieval: dict[tuple[str, ...], Path | str],
    captions: dict[tuple[str, ...], Path | str],
    depth: dict[tuple[str, ...], Path | str],
    ceilings: dict[str, str],
    dataset: str,
    table: Path | str,
) -> None:
    """Tabulate the scores of all methods and decoded targets, with published ones.

    Parameters
    ----------
    summaries : dict of path
        Keys (subject, protocol, method), as
        `nsdldm.evaluation.evaluate.evaluate_reconstructions` writes them.
    retrieval, captions, depth : dict of path
        Keys (subject, protocol, name), where the name is that of the decoded feature or of what
        chose the captions; as `nsdldm.evaluation.retrieval.score_retrieval`,
        `nsdldm.evaluation.captions.score_captions` and `nsdldm.evaluation.depth.score_depth` write
        them. Each may be empty.
    ceilings : dict of str to str
        By method, the one that is given true features of the same kind; without one it is
        ``true-zc``.
    dataset : {"demo", "nsd"}
    table : path
        Output with `COLUMNS`, a row per subject, protocol, method or name (`method`) and score.
        `low` and `high` are a 95 % interval over images, `n` is the number of images.

        `chance`: exact where it follows from the definition, otherwise the score of what was
        decoded for another image. `floor`: what the mean of the training images (picture, depth
        map) scores. `ceiling`: for a reconstruction, the same generator with true features if it
        was evaluated, otherwise ``true-zc``; for captions, the image's other captions; for
        retrieval and depth 1, the true feature itself. Empty where there is none, as of the nearest
        training image. True features of a generator have the method's name after ``true-``, whose
        end after a hyphen may be left out: ``true-zci`` is the ceiling of ``zci-rescaled``, too.

        Scores of retrieval are named as by `name_retrieval`, those of captions by what they are
        compared with, such as ``meteor:all``. Rows with data ``published`` end the table; what
        their other columns mean is said by `nsdldm.evaluation.tables.tabulate_metrics`.

    Raises
    ------
    InputError
        A file is missing or malformed.
    """
    parts = [_join(summaries, _read_summary, "reconstruction")]
    parts += [_join(retrieval, _read_retrieval, "retrieval")]
    parts += [_join(captions, _read_captions, "caption")]
    parts += [_join(depth, _read_depth, "depth")]
    # Without empty tables, whose columns have no types.
    rows = pd.concat([part for part in parts if len(part)], ignore_index=True)
    rows = _set_ceilings(rows, ceilings).assign(data=dataset)
    published = pd.DataFrame(list_published_beyond()).assign(data="published")
    published = published.rename(columns={"metric": "score", "n_images": "n"})
    joined = pd.concat([rows, published], ignore_index=True).reindex(columns=COLUMNS)
    logger.info("%d scores, %d of them published", len(joined), len(published))
    save_scores(table, joined, NUMBERS)


def name_retrieval(direction: str, k: int, candidates: int, n: int, centred: bool) -> str:
    """Name a score of retrieval.

    Parameters
    ----------
    direction, k, candidates, n, centred
        Columns of the table of `nsdldm.evaluation.retrieval.score_retrieval`.

    Returns
    -------
    str
        Such as ``image-top1-of-300-centred``: whether an image is found from the brain or, with
        ``brain``, the other way round; among how many, where ``test`` is all test images and
        ``all`` all that the subject saw; whether the mean of the training images was subtracted.
    """
    among = "test" if candidates == n else candidates
    if direction == "all":
        direction, among = "image", "all"
    return f"{direction}-top{k}-of-{among}{'-centred' if centred else ''}"


def _join(paths, read, kind):
    """Rows of several files, each with its key."""
    parts = [
        read(path).assign(subject=subject, protocol=protocol, method=method, kind=kind)
        for (subject, protocol, method), path in paths.items()
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _read(path, what, columns):
    """Columns of a table that must have them."""
    with reading(path, what, "Evaluate again"):
        return load_table(path)[list(columns)]


def _read_summary(path):
    """Scores of reconstructions that were computed."""
    rows = _read(path, "a summary of an evaluation", SUMMARY).rename(columns=SUMMARY)
    rows = rows[rows["value"].notna()]
    exact = rows["score"].map(find_chance).astype(float)
    return rows.assign(chance=exact.fillna(rows["chance"]))


def _read_retrieval(path):
    columns = ["direction", "k", "candidates", "n", "centred"]
    rows = _read(path, "scores of retrieval", {*columns, *INTERVAL})
    names = [name_retrieval(*row) for row in rows[columns].itertuples(index=False)]
    return rows.assign(score=names, ceiling=1.0)


def _read_captions(path):
    columns = ("score", "references", *INTERVAL, "ceiling")
    rows = _read(path, "scores of captions", columns)
    return rows.assign(score=rows["score"] + ":" + rows["references"])


def _read_depth(path):
    return _read(path, "scores of depth", ("score", *INTERVAL, "floor")).assign(ceiling=1.0)


def _set_ceilings(rows, ceilings):
    """Add the ceilings of reconstructions, which do not depend on the decoders' protocol."""
    made = rows["kind"] == "reconstruction"
    values = rows[made].set_index(["subject", "method", "score"])["value"].to_dict()

    def find(row):
        return values.get((row.subject, ceilings.get(row.method, CEILING), row.score))

    ceilings = [None if row.method == NEAREST else find(row) for row in rows[made].itertuples()]
    rows = rows if "ceiling" in rows else rows.assign(ceiling=float("nan"))
    rows.loc[made, "ceiling"] = pd.Series(ceilings, rows.index[made], float)
    return rows
