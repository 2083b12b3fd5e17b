"""Tables 2 and 3 of Yang et al. 2025 (fCAE) with our numbers, beside theirs."""

import logging

import pandas as pd

from nsdldm.errors import Finding, InputError
from nsdldm.metrics.names import find_chance
from nsdldm.metrics.published import FCAE, FCAE_TOP1, list_trained
from nsdldm.metrics.tables import CEILING, NUMBERS, collect_scores, join_ceiling, save_scores
from nsdldm.plots.pictures import split_method
from nsdldm.trained.checkpoints import read_metadata

logger = logging.getLogger(__name__)

COLUMNS = (
    *("data", "metric", "method", "encoder", "modalities", "subject", *NUMBERS, "chance"),
    *("parameters", "counted", "n_images", "n_samples", "protocol"),
    *("definition", "evidence", "source", "note"),
)
PIXELS = ("mse", "mse-signed", "pixcorr", "ssim")
# The demo's own small networks stand in for the published ones.
LIKENESS = {
    "demo": ("clipscore:demo-clip", "2way-reconstruction:demo-clip:image_embeds"),
    "nsd": ("clipscore:clip-b32", "clipscore:clip", "clip"),
}
JUDGES = {"demo": "demo-judge", "nsd": "vit-h-14"}
# Encoder, and what it learns from: F (responses), I (images), T (captions).
MODELS = {
    "zc": ("ridge", "F+I+T"),
    "mind-vis": ("mae", "F"),
    "vis-dec": ("mae", "F+I"),
    "fcae": ("cae", "F+I+T"),
    "fcae-f": ("cae", "F"),
    "fcae-fi": ("cae", "F+I"),
    "fcae-ft": ("cae", "F+T"),
    "mae-fi": ("mae", "F+I"),
    "mae-f": ("mae", "F"),
}


def tabulate_fcae_table2(*, summaries, tables, weights, data, n_bootstrap, seed, output):
    """Compare trained decoders and the ridge baseline: error, correlation, SSIM and CLIP score.

    Parameters
    ----------
    summaries, tables : dict of path
        Keys (subject, protocol, method), as `nsdldm.metrics.tables.tabulate_metrics` takes them.
        The method ``true-zc``, if there, is the ceiling of all others of its subject and has no
        rows of its own.
    weights : dict of path
        Of trained methods, the file whose metadata has their parameters by part; all parts count.
    data : {"demo", "nsd"}
    n_bootstrap, seed : int
        Of the intervals of means over subjects.
    output : path
        Table with `COLUMNS`, for each metric and method a row a subject, one for their mean (with
        a 95 % interval over images), then the paper's, with data ``published``. `definition` says
        whether theirs is defined as ours and `note` what is not known; `counted` is what
        `parameters` is the sum of; `chance` is empty where only the floors tell it.

    Raises
    ------
    InputError
        A file is missing or of another form, or nothing of the table was evaluated.
    """
    metrics = [*PIXELS, *LIKENESS[data]]
    rows = collect_scores(summaries, tables, n_bootstrap, seed, metrics)
    _save(output, rows.assign(data=data), metrics, _count(weights), list_trained(FCAE.source))


def tabulate_fcae_table3(*, summaries, tables, weights, data, n_bootstrap, seed, output):
    """Compare the full model, its ablations and the ridge baseline by n-way top-1 accuracy.

    Accuracy is the expectation over all draws of the other classes
    (`nsdldm.metrics.identification.score_n_way`), once for each n of the configuration.

    Parameters
    ----------
    summaries, tables, weights, data, n_bootstrap, seed, output
        As `tabulate_fcae_table2`; of parameters those of the encoder and the regressor count, as
        in the paper's table. Its rows stand with ours of 50 classes, though it does not say how
        many it takes.

    Raises
    ------
    InputError
        As `tabulate_fcae_table2`.
    """
    rows = collect_scores(summaries, tables, n_bootstrap, seed)
    ways = rows["metric"].str.fullmatch(rf"nway-\d+:{JUDGES[data]}")
    metrics = list(dict.fromkeys(rows.loc[ways, "metric"]))
    counts = _count(weights, ("encoder", "regressor"))
    published = list_trained(FCAE_TOP1.source)
    _save(output, rows[ways].assign(data=data), metrics, counts, published)


def _count(weights, parts=None):
    """Parameters of each method and of what they are the sum, of all parts or of some."""
    counts = {}
    for method, path in weights.items():
        found = read_metadata(path).get("parameters", {})
        own = {part: n for part, n in found.items() if parts is None or part in parts}
        if not own:
            expected = f"parameters of {' or '.join(parts or ['some part'])} in its metadata"
            raise InputError(Finding(str(path), expected, "none", "Delete it and train again"))
        words = ", ".join(f"{part} {n / 1e6:.3g} M" for part, n in own.items())
        counts[method] = (sum(own.values()), words)
    return counts


def _save(output, rows, metrics, counts, published):
    """Order ours and theirs by metric and method, and write them."""
    rows = join_ceiling(rows, ["subject", "metric"])
    rows = rows[rows["method"] != CEILING]
    if rows["value"].isna().all():
        expected = f"a value of one of {', '.join(metrics) or 'n-way accuracy'}"
        remedy = "Give evaluation.networks the weights of one that computes it"
        raise InputError(Finding(str(output), expected, "none", remedy))
    methods = list(dict.fromkeys(rows["method"]))
    known = rows["method"].map(lambda method: MODELS.get(split_method(method)[0], ("", "")))
    rows = rows.assign(
        model=rows["method"],
        encoder=known.str[0],
        modalities=known.str[1],
        chance=[f"{x:.6g}" if (x := find_chance(metric)) else "" for metric in rows["metric"]],
        parameters=[counts.get(method, ("",))[0] for method in rows["method"]],
        counted=[counts.get(method, ("", ""))[1] for method in rows["method"]],
    )
    theirs = pd.DataFrame(published).assign(data="published")
    table = pd.concat([rows, theirs], ignore_index=True)
    order = {name: place for place, name in enumerate([*metrics, *methods])}
    # Stable: of a metric and method subjects, their mean, what was published.
    table = table.sort_values(
        ["metric", "model"], key=lambda names: names.map(order), kind="stable"
    )
    save_scores(output, table.reindex(columns=COLUMNS))
    logger.info("%d methods, %d rows, %d of them published", len(methods), len(table), len(theirs))
