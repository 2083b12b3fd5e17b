"""One table of all scores of all cases: what holds where, against chance and ceiling."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from nsdldm.evaluation.case_draws import (
    CEILING,
    CHANCE,
    Drawn,
    Draws,
    Key,
    Scores,
    average_subjects,
    divide_margins,
    read_scores,
    read_table,
)
from nsdldm.evaluation.readings import read_row
from nsdldm.prevalence import prevalence
from nsdldm.stats import double_reliability
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import save_table

logger = logging.getLogger(__name__)

EVERYONE, SHARED = "all", "shared"
HALVES = ("half-1", "half-2")
ENCODER = "encoder"
# Rate at which the 95 % interval of a subject without an effect lies above chance.
ALPHA = 0.025
NUMBERS = ("value", "low", "high", "chance", "ceiling")
NORMALISED = ("normalised", "normalised_low", "normalised_high")
PREVALENCE = ("prevalence", "prevalence_low", "prevalence_high")
COLUMNS = (
    *("subject", "kind", "case", "source", "score", "candidates", "region", "space"),
    *(*NUMBERS, *NORMALISED, "reliability", "n_images", "n_subjects", "above", *PREVALENCE),
    *("reading", "dataset"),
)
ENCODED = ("region", "space", "group", "n_images", "r", "low", "high", "ceiling", *NORMALISED)
INFERRED = ("space", "measure", "region", "share_fdr", "share_fwe", "reliability")
INFERENCES = ("share_fdr", "share_fwe")


class _Subject(NamedTuple):
    """Draws of one subject, or of the mean over subjects."""

    means: dict[Key, Drawn]
    ceilings: dict[tuple[str, str], Drawn]
    pairs: dict[Key, tuple[Drawn, Drawn]]
    slopes: dict[Key, Drawn]


def tabulate_generalisation(
    *,
    scores: dict[tuple[str, str], Path | str],
    encoders: dict[tuple[str, str], Path | str],
    inference: dict[str, Path | str],
    kinds: dict[str, str],
    ceilings: dict[str, str],
    bootstrap: int,
    seed: int,
    dataset: str,
    table: Path | str,
) -> None:
    """Tabulate the scores of all cases and subjects with intervals, ceilings and prevalence.

    Intervals (95 %) are those of a bootstrap over images, which are drawn jointly for all subjects
    who saw them, for a score and its ceiling, and for what is computed from several scores.
    Encoders have none of single images here: the interval of their mean over subjects is the mean
    of the ends of the subjects' intervals, which is right if images affect all subjects alike, and
    too wide otherwise.

    Parameters
    ----------
    scores : dict of path
        By subject and case: as `nsdldm.evaluation.generalisation.score_case` writes them. The cases
        half-1 and half-2 give the reliability of the scores of shared.
    encoders : dict of path
        By subject and case: as `nsdldm.encoding.case_scores.score_case_encoders` writes them.
    inference : dict of path
        By subject: as `nsdldm.encoding.inference.infer_encoders` writes them.
    kinds : dict of str
        The kind of each case, in the order of the table.
    ceilings : dict of str
        The case of each with the same test images whose source `ceiling` applies.
    bootstrap, seed : int
        Number of draws, and their seed.
    dataset : str
    table : path
        Output: TSV with `COLUMNS`. Subject `all` is the mean over subjects. Chance is .5 for
        identification, 0 for correlations. `normalised` is the share of the way from chance to the
        ceiling, empty if the ceiling is not above chance by its own interval. `reliability` is the
        correlation over images of a score from both halves of the trials (Spearman-Brown), of `all`
        its mean. `n_images` of `all` are distinct images, for encoders the most of a subject.
        `above`: subjects whose interval lies above chance; `prevalence` in the population, with
        interval: see `nsdldm.prevalence`. Further scores: ``z-category-share``, the share of the
        margin above chance that is lost among images of the same group (of shared), likewise for
        other scores; ``z-by-similarity``, the rank correlation over images with similarity to the
        nearest training image. Kind `encoder`: r of encoders by region and space, candidates being
        the class of images, and the shares of voxels share_fdr and share_fwe.

    Raises
    ------
    InputError
        A table lacks columns or is of a case without kind, or no score was given.
    """
    _check_cases(scores, encoders, kinds)
    rows = []
    for case in kinds:
        subjects = [subject for subject, other in scores if other == case]
        if subjects:
            rows += _tabulate_case(case, subjects, scores, ceilings.get(case), bootstrap, seed)
            logger.info("%s: %d subjects", case, len(subjects))
    judged = {subject: read_table(path, INFERRED) for subject, path in inference.items()}
    rows += _tabulate_encoders(encoders, judged, list(kinds)) + _tabulate_inference(judged)
    empty = {"candidates": "", "region": "", "space": "", "dataset": dataset}
    rows = [{"kind": kinds[row["case"]]} | empty | row for row in rows]
    known = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    known["reading"] = [read_row(row) for row in known.to_dict("records")]
    save_table(table, known)


def _check_cases(scores, encoders, kinds):
    """Every case needs a kind, and there must be scores."""
    unknown = sorted({case for _, case in (*scores, *encoders)} - set(kinds))
    if unknown:
        expected, remedy = f"cases with a kind: {', '.join(kinds)}", "Give its kind"
        raise InputError(Finding("`scores`", expected, ", ".join(unknown), remedy))
    if not scores:
        raise InputError(Finding("`scores`", "scores of a case", "none", "Score a case first"))


def _tabulate_case(case, subjects, paths, ceiling, bootstrap, seed) -> list[dict]:
    """Rows of one case: of each subject, then of their mean."""
    scores = {subject: read_scores(paths[subject, case]) for subject in subjects}
    images = np.concatenate([own.ids for own in scores.values()])
    draws = Draws(images, bootstrap, seed)
    drawn = {}
    for subject, own in scores.items():
        above = own
        if ceiling != case and (subject, ceiling) in paths:
            above = _restrict(read_scores(paths[subject, ceiling]), own.ids)
        drawn[subject] = _Subject(
            draws.average(own),
            {key[1:]: each for key, each in draws.average(above).items() if key[0] == CEILING},
            draws.pair(own) if case == SHARED else {},
            draws.relate(own),
        )
    halves = {}
    if case == SHARED:
        halves = {subject: _relate_halves(paths, subject) for subject in subjects}
    rows = []
    for subject, own in drawn.items():
        rows += [
            {"subject": subject, "case": case, "n_subjects": 1, **row}
            | {"reliability": halves.get(subject, {}).get(_key(row), np.nan)}
            for row in _list_rows(own)
        ]
    return rows + _tabulate_everyone(case, drawn, rows)


def _key(row):
    return row["source"], row["score"], row["candidates"]


def _restrict(scores, ids):
    """Scores of some images only."""
    inside = np.isin(scores.ids, ids)
    return Scores(scores.ids[inside], scores.keys, scores.values[inside], scores.similarity[inside])


def _relate_halves(paths, subject) -> dict[Key, float]:
    """Reliability of each score of a subject."""
    if not all((subject, half) in paths for half in HALVES):
        return {}
    a, b = (read_scores(paths[subject, half]) for half in HALVES)
    ids = np.intersect1d(a.ids, b.ids)
    a, b = _restrict(a, ids), _restrict(b, ids)
    return {
        key: double_reliability(a.values[:, place], b.values[:, b.keys.index(key)])
        for place, key in enumerate(a.keys)
        if key in b.keys
    }


def _list_rows(own: _Subject) -> Iterator[dict]:
    """What is said of the scores of one subject, or of the mean over subjects."""
    for key, drawn in own.means.items():
        source, score, candidates = key
        chance = 0.0 if score.endswith("-r") else CHANCE
        ceiling = own.ceilings.get((score, candidates)) if source != CEILING else None
        yield _describe(key, drawn, chance, ceiling)
    for key, (part, whole) in own.pairs.items():
        kept = divide_margins(part, whole, CHANCE)
        # Of no margin, nothing can be lost.
        lost = 1 - kept.means if kept else np.full(len(part.means), np.nan)
        yield _describe(key, Drawn(lost, part.ids), np.nan)
    for key, drawn in own.slopes.items():
        yield _describe(key, drawn, 0.0)


def _describe(key, drawn, chance, ceiling=None) -> dict:
    """A score with its interval, and as a share of the way to the ceiling."""
    low, high = drawn.interval
    row = dict(zip(("source", "score", "candidates"), key, strict=True))
    row |= {"value": drawn.means[0], "low": low, "high": high, "chance": chance}
    row |= {"n_images": len(drawn.ids), "above": _judge(row)}
    if ceiling is not None:
        row["ceiling"] = ceiling.means[0]
        share = divide_margins(drawn, ceiling, chance)
        if share:
            row |= dict(zip(NORMALISED, (share.means[0], *share.interval), strict=True))
    return row


def _tabulate_everyone(case, drawn, rows) -> list[dict]:
    """Rows of the mean over the subjects of a case."""
    parts = [defaultdict(list) for _ in _Subject._fields]
    for own in drawn.values():
        for found, values in zip(parts, own, strict=True):
            for key, value in values.items():
                found[key].append(value)
    means, ceilings, pairs, slopes = parts
    everyone = _Subject(
        {key: average_subjects(each) for key, each in means.items()},
        {key: average_subjects(each) for key, each in ceilings.items()},
        {
            key: tuple(average_subjects(list(side)) for side in zip(*each, strict=True))
            for key, each in pairs.items()
        },
        {key: average_subjects(each) for key, each in slopes.items()},
    )
    singles = defaultdict(list)
    for row in rows:
        singles[_key(row)].append(row)
    return [{"case": case, **row, **_count(singles[_key(row)])} for row in _list_rows(everyone)]


def _count(rows: list[dict]) -> dict:
    """What the rows of single subjects say of the population."""
    known = [row["above"] for row in rows if np.isfinite(row["above"])]
    found = {"subject": EVERYONE, "n_subjects": len(rows), "above": np.nan}
    found["reliability"] = np.mean([row["reliability"] for row in rows])
    if known:
        found["above"] = int(sum(known))
        shares = prevalence(found["above"], len(known), ALPHA)
        found |= dict(zip(PREVALENCE, shares, strict=True))
    return found


def _tabulate_encoders(encoders, judged, cases) -> list[dict]:
    """Rows of encoders by case, space, region and class: of each subject, then of their mean."""
    found = defaultdict(list)
    for (subject, case), path in sorted(encoders.items(), key=lambda each: cases.index(each[0][1])):
        table = read_table(path, ENCODED)
        for own in table.rename(columns={"group": "candidates", "r": "value"}).to_dict("records"):
            own = own | {"candidates": str(own["candidates"]), "n_subjects": 1, "chance": 0.0}
            own |= {"subject": subject, "case": case, "kind": ENCODER, "source": ENCODER}
            own |= {"score": "r", "above": _judge(own)}
            own["reliability"] = np.nan
            if case == SHARED and own["candidates"] == EVERYONE and subject in judged:
                own["reliability"] = _find_reliability(judged[subject], own["space"], own["region"])
            found[case, own["space"], own["region"], own["candidates"]].append(own)
    names = ("value", "low", "high", "ceiling", *NORMALISED)
    return _append_means(found, names)


def _judge(row):
    """Whether an interval lies above chance; NaN if either is not known."""
    known = np.isfinite([row["low"], row["chance"]]).all()
    return int(row["low"] > row["chance"]) if known else np.nan


def _find_reliability(table, space, region):
    """Reliability of r over the voxels of a region."""
    own = table[(table["measure"] == "r") & (table["space"] == space)]
    own = own[own["region"] == region]
    return own["reliability"].iloc[0] if len(own) else np.nan


def _tabulate_inference(judged) -> list[dict]:
    """Rows of the shares of significant voxels: of each subject, then of their mean."""
    found = defaultdict(list)
    for subject, table in judged.items():
        for own in table.to_dict("records"):
            for score in INFERENCES:
                row = {"subject": subject, "case": SHARED, "kind": ENCODER, "source": ENCODER}
                row |= {"score": score, "value": own[score], "n_subjects": 1, "above": np.nan}
                row |= {name: own[name] for name in ("space", "region", "reliability")}
                found[score, own["space"], own["region"]].append(row)
    return _append_means(found, ("value",))


def _append_means(found, names) -> list[dict]:
    """All rows, those of the mean over subjects behind those of single ones."""
    rows = [row for each in found.values() for row in each]
    for each in found.values():
        mean = {name: np.mean([row[name] for row in each]) for name in names}
        n_images = max((row["n_images"] for row in each if "n_images" in row), default=np.nan)
        rows.append(each[0] | mean | _count(each) | {"n_images": n_images})
    return rows
