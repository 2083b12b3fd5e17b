"""One table of all scores beside published ones. Light imports: no networks."""

import pandas as pd

from nsdldm.errors import Finding, InputError, reading
from nsdldm.files import load_table, save_table
from nsdldm.metrics.intervals import bootstrap_group
from nsdldm.metrics.published import list_published

CEILING = "true-zc"
NUMBERS = ("value", "ci_low", "ci_high", "floor_random", "floor_mean", "floor_shuffled", "ceiling")
COLUMNS = (
    *("data", "protocol", "subject", "method", "metric", *NUMBERS, "n_images", "n_samples"),
    *("definition", "evidence", "source", "note"),
)


def tabulate_metrics(*, summaries, tables, data, n_bootstrap, seed, output):
    """Put the scores of all subjects, protocols and methods beside published ones.

    Parameters
    ----------
    summaries, tables : dict of path
        Keys (subject, protocol, method): summary and table by image, as
        `nsdldm.metrics.evaluate.evaluate_reconstructions` writes them.
    data : {"demo", "nsd"}
        Where the scores come from.
    n_bootstrap : int
        Draws of images for the confidence intervals of means over subjects.
    seed : int
        Of these draws.
    output : path
        Table with `COLUMNS`. `data` is that of the scores, or ``published``. A row a subject and
        one for their mean (subject ``mean``), with a 95 % interval over images: an image is drawn
        for all subjects at once. `ceiling` is the same metric of the method ``true-zc``.
        `definition` says whether a published metric is defined as ours: "same", "similar" or
        "unknown"; `note` says what differs, and `evidence` how the value is known.

    Raises
    ------
    InputError
        A file is missing or of another form, or summaries and tables are not of the same runs.
    """
    if set(summaries) != set(tables):
        expected, remedy = "a summary and a table of every method", "Evaluate again"
        raise InputError(Finding(str(output), expected, "others", remedy))
    parts = [_read_summary(*key, path) for key, path in summaries.items()]
    rows = pd.concat(parts, ignore_index=True)
    rows = pd.concat([rows, _average(rows, tables, n_bootstrap, seed)], ignore_index=True)
    keys = ["protocol", "subject", "metric"]
    ceiling = rows[rows["method"] == CEILING].set_index(keys)["value"].rename("ceiling")
    rows = rows.join(ceiling, on=keys).assign(data=data)
    published = pd.DataFrame(list_published()).assign(data="published")
    table = pd.concat([rows, published], ignore_index=True).reindex(columns=COLUMNS)
    for column in NUMBERS:
        # An empty field, for pandas would write nan for what was not computed or published.
        table[column] = ["" if pd.isna(x) else f"{x:.6g}" for x in table[column]]
    save_table(output, table.astype(object).where(table.notna(), ""))


def _read_summary(subject, protocol, method, path):
    """A summary with the columns that tell it from others."""
    with reading(path, "a summary of an evaluation", "Evaluate again"):
        table = load_table(path)
        table[["metric", *NUMBERS[:-1], "n_images", "n_samples", "note"]]
    return table.assign(subject=subject, protocol=protocol, method=method)


def _average(rows, tables, n_bootstrap, seed):
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
        row["ci_low"], row["ci_high"] = bootstrap_group(shown, n_bootstrap, seed)
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
