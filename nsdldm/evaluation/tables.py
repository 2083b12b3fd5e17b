"""One table of all scores and of published ones. Imports are light: no networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nsdldm.evaluation.published import list_published
from nsdldm.intervals import bootstrap_group
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import load_table, save_table

CEILING = "true-zc"
NUMBERS = (
    *("value", "ci_low", "ci_high", "ties_missed"),
    *("chance_random", "chance_mean", "chance_shuffled", "ceiling"),
)
COLUMNS = (
    *("data", "protocol", "subject", "method", "metric", *NUMBERS, "n_images", "n_samples"),
    *("sessions", "definition", "comparable", "evidence", "source", "note"),
)


def tabulate_metrics(
    *,
    summaries: dict[tuple[str, ...], Path | str],
    tables: dict[tuple[str, ...], Path | str],
    dataset: str,
    bootstrap: int,
    seed: int,
    output: Path | str,
) -> None:
    """Tabulate the scores of all subjects, protocols and methods together with published ones.

    Parameters
    ----------
    summaries, tables : dict of path
        Keys (subject, protocol, method): summary and table by image, as
        `nsdldm.evaluation.evaluate.evaluate_reconstructions` writes them.
    dataset : {"demo", "nsd"}
        The dataset of the scores.
    bootstrap : int
        Draws of images for the confidence intervals of means over subjects.
    seed : int
        Of these draws.
    output : path
        Table with `COLUMNS`. `data` is `dataset`, or ``published``. There is a row per subject and
        one for their mean (subject ``mean``), with a 95 % interval over images; an image is drawn
        jointly for all subjects. `ties_missed` is identification with ties counted as misses
        instead of one half, as in the published code; `ceiling` is the same metric of the method
        ``true-zc``. Of published rows, `definition` says whether the metric is defined like ours:
        "same", "similar" or "unknown"; `sessions` and `n_images` say which test it is (37
        sessions test on other images than 40), `comparable` beside which of our rows it may
        stand, `note` what differs, and `evidence` how the value is known.

    Raises
    ------
    InputError
        A file is missing or malformed, or summaries and tables are not from the same runs.
    """
    rows = collect_scores(summaries, tables, bootstrap, seed)
    rows = join_ceiling(rows, ["protocol", "subject", "metric"]).assign(data=dataset)
    published = pd.DataFrame(list_published()).assign(data="published")
    table = pd.concat([rows, published], ignore_index=True)
    save_scores(output, table.reindex(columns=COLUMNS))


def collect_scores(
    summaries: dict[tuple[str, ...], Path | str],
    tables: dict[tuple[str, ...], Path | str],
    bootstrap: int,
    seed: int,
    metrics: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Gather scores of all subjects, and their means over subjects.

    Parameters
    ----------
    summaries, tables, bootstrap, seed
        As `tabulate_metrics`.
    metrics : sequence of str, optional
        Metrics to gather; all by default.

    Returns
    -------
    DataFrame
        Columns subject, protocol, method, metric, value, ci_low, ci_high, chance levels, n_images,
        n_samples and note; rows of subjects, then those of means.
    """
    if set(summaries) != set(tables):
        expected, remedy = "a summary and a table of every method", "Evaluate again"
        only = " ".join(next(iter(set(summaries) ^ set(tables))))
        raise InputError(Finding(only, expected, "only one of them", remedy))
    parts = [_read_summary(*key, path) for key, path in summaries.items()]
    rows = pd.concat(parts, ignore_index=True)
    if metrics is not None:
        rows = rows[rows["metric"].isin(metrics)]
    return pd.concat([rows, _average(rows, tables, bootstrap, seed)], ignore_index=True)


def join_ceiling(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Add the column ceiling: the value of the method ``true-zc`` with the same `keys`."""
    ceiling = rows[rows["method"] == CEILING].drop_duplicates(keys).set_index(keys)["value"]
    return rows.join(ceiling.rename("ceiling"), on=keys)


def save_scores(path: Path | str, table: pd.DataFrame, numbers: Sequence[str] = NUMBERS) -> None:
    """Write scores, with empty fields for what was not computed or published.

    Parameters
    ----------
    path : path
    table : DataFrame
    numbers : sequence of str
        Columns that are written with six digits.
    """
    for column in numbers:
        # pandas would write nan.
        table[column] = ["" if pd.isna(x) else f"{x:.6g}" for x in table[column]]
    save_table(path, table.astype(object).where(table.notna(), ""))


def _read_summary(subject, protocol, method, path):
    """A summary with the columns that identify it."""
    with reading(path, "a summary of an evaluation", "Evaluate again"):
        table = load_table(path)
        table[["metric", *NUMBERS[:-1], "n_images", "n_samples", "note"]]
    return table.assign(subject=subject, protocol=protocol, method=method)


def _average(rows, tables, bootstrap, seed):
    """Means over subjects with intervals over images, in the form of `rows`."""
    values = {key: _read_values(path) for key, path in tables.items()}
    means = []
    keys = ["protocol", "method", "metric"]
    for (protocol, method, metric), group in rows.groupby(keys, sort=False):
        row = {"subject": "mean", "protocol": protocol, "method": method, "metric": metric}
        row |= {"note": group["note"].iloc[0], "n_samples": group["n_samples"].iloc[0]}
        subjects = {key[0] for key in tables if key[1:] == (protocol, method)}
        if set(group["subject"]) != subjects:
            found = ", ".join(sorted(subjects - set(group["subject"])))
            where = f"{protocol}, {method}, {metric}"
            raise InputError(Finding(where, "all subjects", f"none of {found}", "Evaluate again"))
        lacking = group[group["value"].isna()]
        if len(lacking):
            means.append(row | {"note": lacking["note"].iloc[0]})
            continue
        row |= group[list(NUMBERS[:-1])].mean().to_dict()
        shown = [values[subject, protocol, method][metric] for subject in group["subject"]]
        row["ci_low"], row["ci_high"] = bootstrap_group(shown, bootstrap, seed)
        row["n_images"] = len(set().union(*(ids for ids, _ in shown)))
        means.append(row)
    return pd.DataFrame(means)


def _read_values(path):
    """Images and values of each metric."""
    with reading(path, "scores by image", "Evaluate again"):
        groups = load_table(path).groupby("metric")
        return {
            metric: (group["nsd_id"].to_numpy(), group["value"].to_numpy())
            for metric, group in groups
        }


def tabulate_protocols(*, tables: dict[str, Path | str], demo: bool, output: Path | str) -> None:
    """Join the comparisons of all subjects, and their mean, in one table.

    Parameters
    ----------
    tables : dict of path
        By subject, as `nsdldm.decoding.decoders.compare_protocols` writes them.
    demo : bool
        The brains are simulated.
    output : path
        Output: data ("demo" or "nsd"), subject (or "mean") and the columns of the tables.
    """
    table = pd.concat({name: load_table(path) for name, path in tables.items()}, names=["subject"])
    table = table.reset_index("subject")
    keys = ["variant", "target"]
    mean = table.drop(columns="subject").groupby(keys, sort=False).mean().reset_index()
    mean.insert(0, "subject", "mean")
    joined = pd.concat([table, mean])
    joined.insert(0, "data", "demo" if demo else "nsd")
    save_table(output, joined)


def tabulate_learning_curve(
    *, tables: dict[str, Path | str], demo: bool, output: Path | str
) -> None:
    """Join the learning curves of all subjects.

    Parameters
    ----------
    tables : dict of path
        By subject, as `nsdldm.evaluation.learning.score_learning_curve` writes them.
    demo : bool
        The brains are simulated.
    output : path
        Output: data ("demo" or "nsd"), subject and the columns of the tables.
    """
    joined = pd.concat({name: load_table(path) for name, path in tables.items()}, names=["subject"])
    joined = joined.reset_index("subject")
    joined.insert(0, "data", "demo" if demo else "nsd")
    save_table(output, joined)
