"""Tables 2 and 3 of Yang et al. 2025 (fCAE), with our numbers next to theirs."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pandas as pd

from nsdldm.evaluation.names import find_chance
from nsdldm.evaluation.published import FCAE, FCAE_TOP1, list_trained
from nsdldm.evaluation.tables import CEILING, NUMBERS, collect_scores, join_ceiling, save_scores
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import load_table, save_table
from nsdldm.trained.checkpoints import REMEDY, read_metadata

logger = logging.getLogger(__name__)

COLUMNS = (
    *("data", "metric", "method", "encoder", "modalities", "tuned", "subject", *NUMBERS),
    *("chance", "parameters", "counted", "n_images", "n_samples", "protocol"),
    *("definition", "evidence", "source", "note"),
)
PIXELS = ("mse", "mse-signed", "pixcorr", "ssim")
# The demo's own small networks stand in for the published ones.
LIKENESS = {
    "demo": ("clipscore:demo-clip", "2way-reconstruction:demo-clip:image_embeds"),
    "nsd": ("clipscore:clip-b32", "clipscore:clip", "clip"),
}
JUDGES = {"demo": "demo-judge", "nsd": "vit-h-14"}
# What an encoder learns from: F (responses), I (images), T (captions).
MODALITIES = {
    "none": "F",
    "image": "F+I",
    "text": "F+T",
    "image+text": "F+I+T",
    "cross_mae": "F+I",
}
# Methods that are not trained: z comes from the images, c from the captions.
RIDGE = {
    "encoder": "ridge",
    "modalities": "F+I+T",
    "tuned": "penalties, by cross-validation on training images",
    "parameters": "",
    "counted": "",
}
# Presets whose settings were chosen on our data, at the demo's sizes.
TUNED_PRESETS = ("fcae", "fcae-base")
TUNED = "stages 2 and 3, by validation losses with test scores in sight"
NOT_TUNED = {"demo": "no; settings chosen for fcae", "full": "no; published or usual settings"}
NOT_STATED = "not stated"
# In the metadata of weights, along with the counts of parts.
TRAINED = "trained"


def tabulate_fcae_table2(
    *,
    summaries: dict[tuple[str, ...], Path | str],
    tables: dict[tuple[str, ...], Path | str],
    weights: dict[str, Path | str],
    alignments: dict[str, str],
    presets: dict[str, str],
    size: str,
    dataset: str,
    bootstrap: int,
    seed: int,
    output: Path | str,
) -> None:
    """Compare trained decoders and the ridge baseline: error, correlation, SSIM and CLIP score.

    Parameters
    ----------
    summaries, tables : dict of path
        Keys (subject, protocol, method), as `nsdldm.evaluation.tables.tabulate_metrics` takes them.
        The method ``true-zc``, if present, is the ceiling for all other methods of its subject and
        has no rows of its own.
    weights : dict of path
        First-stage weights of every trained method; the parameters of all parts are counted. With
        one map per patch they depend on the subject.
    alignments : dict of str
        For every trained method, what its second stage aligns (key of `MODALITIES`).
    presets : dict of str
        For every trained method, the preset that it is based on.
    size : {"full", "demo"}
        Size of the networks.
    dataset : {"demo", "nsd"}
    bootstrap, seed : int
        Of the intervals of means over subjects.
    output : path
        Table with `COLUMNS`: for each metric and method a row per subject, a row for their mean
        (with a 95 % interval over images), and the paper's row, with data ``published``.
        `definition` says whether the paper's metric is defined like ours, `note` what is not known,
        `tuned` whether settings were chosen on these data, and `counted` which parts `parameters`
        sums; `chance` is empty where it does not follow from the definition.

    Raises
    ------
    InputError
        A file is missing or malformed.
    """
    metrics = [*PIXELS, *LIKENESS[dataset]]
    rows = collect_scores(summaries, tables, bootstrap, seed, metrics)
    models = _describe(weights, alignments, presets, size)
    _save(output, rows.assign(data=dataset), metrics, models, list_trained(FCAE.source))


def tabulate_fcae_table3(
    *,
    summaries: dict[tuple[str, ...], Path | str],
    tables: dict[tuple[str, ...], Path | str],
    weights: dict[str, Path | str],
    alignments: dict[str, str],
    presets: dict[str, str],
    size: str,
    dataset: str,
    bootstrap: int,
    seed: int,
    output: Path | str,
) -> None:
    """Compare the full model, its ablations and the ridge baseline by n-way top-1 accuracy.

    Accuracy is the expectation over all draws of other classes
    (`nsdldm.evaluation.identification.score_n_way`), once for each n of the configuration.

    Parameters
    ----------
    summaries, tables, weights, alignments, presets, size, dataset, bootstrap, seed, output
        As `tabulate_fcae_table2`, except that only parameters of the encoder and the regressor are
        counted, as in the paper's table. The paper's rows are next to ours for 50 classes, although
        it does not say how many classes it uses.

    Raises
    ------
    InputError
        As `tabulate_fcae_table2`, or no network for it is configured. If the network has no
        weights, values are empty and `note` says so.
    """
    rows = collect_scores(summaries, tables, bootstrap, seed)
    # Use another judge if the usual one is not among the networks.
    for judge in (JUDGES[dataset], ".+"):
        ways = rows["metric"].str.fullmatch(rf"nway-\d+:{judge}")
        if ways.any():
            break
    metrics = list(dict.fromkeys(rows.loc[ways, "metric"]))
    if not metrics:
        expected = f"n-way accuracy by {JUDGES[dataset]}"
        remedy = "Evaluate with it among `networks`"
        raise InputError(Finding("evaluations of trained decoders", expected, "none", remedy))
    models = _describe(weights, alignments, presets, size, ("encoder", "regressor"))
    published = list_trained(FCAE_TOP1.source)
    _save(output, rows[ways].assign(data=dataset), metrics, models, published)


def tabulate_encoders(
    *, inputs: dict[str, dict[str, Path | str]], outputs: dict[str, Path | str], dataset: str
) -> None:
    """Join the tables that `nsdldm.trained.probes.evaluate_encoders` wrote for each subject.

    Parameters
    ----------
    inputs : dict of dict of path
        By table and subject.
    outputs : dict of path
        By table: data and subject, then the columns of the inputs.
    dataset : {"demo", "nsd"}
    """
    for name, paths in inputs.items():
        parts = [load_table(path).assign(subject=subject) for subject, path in paths.items()]
        table = pd.concat(parts, ignore_index=True)
        table.insert(0, "subject", table.pop("subject"))
        table.insert(0, "data", dataset)
        save_table(outputs[name], table)


def _describe(weights, alignments, presets, size, parts=None):
    """The columns encoder to tuned, parameters and counted for each trained method."""
    models = {}
    for method, path in weights.items():
        with reading(path, "weights of a first stage, with parameters by part", REMEDY):
            about = read_metadata(path)
            kind, counts = about["encoder"]["encoder"], about["parameters"]
            counts = {k: n for k, n in counts.items() if k != TRAINED and (not parts or k in parts)}
            words = ", ".join(f"{part} {n / 1e6:.3g} M" for part, n in counts.items())
        tuned = size == "demo" and presets[method] in TUNED_PRESETS
        models[method] = {
            "encoder": kind,
            "modalities": MODALITIES[alignments[method]],
            "tuned": TUNED if tuned else NOT_TUNED[size],
            "parameters": sum(counts.values()),
            "counted": words,
        }
    return models


def _kind(metric):
    """The kind of a metric, regardless of network and classes: clipscore, nway."""
    return re.match(r"\w+", metric)[0]


def _save(output, rows, metrics, models, published):
    """Order our rows and the paper's by metric and method, and write them."""
    rows = join_ceiling(rows, ["subject", "metric"])
    rows = rows[rows["method"] != CEILING].reset_index(drop=True)
    missing = rows.loc[rows["value"].isna(), "metric"].unique()
    if len(missing):
        logger.warning("not computed: %s", ", ".join(missing))
    known = pd.DataFrame([models.get(method, RIDGE) for method in rows["method"]])
    chance = [f"{x:.6g}" if (x := find_chance(metric)) else "" for metric in rows["metric"]]
    ours = pd.concat([rows, known], axis=1).assign(chance=chance, model=rows["method"])
    theirs = pd.DataFrame(published).assign(data="published", tuned=NOT_STATED)
    table = pd.concat([ours, theirs], ignore_index=True)
    methods = list(dict.fromkeys(rows["method"]))
    order = {name: place for place, name in enumerate([*metrics, *methods])}
    # A published value with another network or number of classes follows ours of the same kind.
    last = {_kind(metric): place for place, metric in enumerate(metrics)}
    for metric in theirs["metric"]:
        order.setdefault(metric, last.get(_kind(metric), len(metrics)) + 0.5)
    # Stable sort: within metric and method come subjects, their mean, then the published row.
    table = table.sort_values(
        ["metric", "model"], key=lambda names: names.map(order), kind="stable"
    )
    table = table.reindex(columns=COLUMNS).astype({"n_samples": "Int64"})
    save_scores(output, table)
    logger.info("%d methods, %d rows, %d of them published", len(methods), len(table), len(theirs))
