"""Score the reconstructions of one method against the pictures shown."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np
import pandas as pd
import torch

from nsdldm.diffusion.pictures import open_reconstructions
from nsdldm.evaluation import pixels
from nsdldm.evaluation.identification import (
    correlate_rows,
    derange,
    find_moments,
    identify,
    score_n_way,
)
from nsdldm.evaluation.names import SAMPLED, describe_metric
from nsdldm.features.networks import Unavailable, load_extractors
from nsdldm.features.views import list_metrics, name_ways
from nsdldm.intervals import bootstrap_interval
from nsdldm.nsd.stimuli import read_images
from nsdldm.support.batching import run_batched
from nsdldm.support.devices import choose_device
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import load_array, load_table, save_table
from nsdldm.support.logs import progress

if TYPE_CHECKING:
    from nsdldm.features.views import View

logger = logging.getLogger(__name__)

DATASET = "images"
NUMBERS = ("value", "ci_low", "ci_high", "ties_missed")
CHANCE = ("chance_random", "chance_mean", "chance_shuffled")


class Score(NamedTuple):
    """One metric.

    Parameters
    ----------
    values : float array of shape (n_images,)
        Empty if it was not computed.
    chance : tuple of 3 float
        In the order of `CHANCE`.
    samples : float array of shape (n_images, n_samples) or None
    note : str
    ties_missed : float
        For identification, the mean with ties counted as in the published code; NaN for other
        metrics.
    """

    values: np.ndarray
    chance: tuple
    samples: np.ndarray | None
    note: str
    ties_missed: float = np.nan


class Material(NamedTuple):
    """Everything that is compared.

    Parameters
    ----------
    seen : uint8 array of shape (n_images, height, width, 3)
    mean : uint8 array of shape (height, width, 3)
        Mean of the training pictures.
    made : h5py.Dataset
        uint8 of shape (n_images, n_samples, height, width, 3).
    unique : int array of shape (n_unique,)
        Flat indices of distinct reconstructions.
    inverse : int array of shape (n_images, n_samples)
        Position in `unique` of each reconstruction's equal.
    partners : int array of shape (n_images,)
        A different image for each image.
    """

    seen: np.ndarray
    mean: np.ndarray
    made: h5py.Dataset
    unique: np.ndarray
    inverse: np.ndarray
    partners: np.ndarray


class Comparison(NamedTuple):
    """How reconstructions are compared with the pictures shown.

    Parameters
    ----------
    networks : dict of str to dict or None
        Networks and where their weights are, as `nsdldm.features.networks.load_extractors` takes
        them. The metrics of a network that is not available are listed as not computed.
    n_way : int or list of int
        Numbers of classes among which that of the original has to win; ``nway`` uses the first,
        ``nway-50`` uses 50.
    bootstrap : int
        Draws of images for the confidence intervals (95 %).
    seed : int
        Of the permutation and of the draws.
    """

    networks: dict
    n_way: int | list[int] = 50
    bootstrap: int = 1000
    seed: int = 42


def evaluate_reconstructions(
    *,
    reconstructions: Path,
    images: Path,
    stimuli: str | Path,
    mean_picture: Path,
    comparison: Comparison,
    device: str,
    batch_size: int,
    table: Path,
    samples: Path,
    summary: Path,
) -> None:
    """Score one method's reconstructions of one subject's test images.

    Metrics are those of `nsdldm.evaluation.names`. Every metric comes with three chance levels, its
    values for reconstructions that know nothing about the image: another test picture in its place
    (``chance_random``), the mean of the training pictures for all images (``chance_mean``; with
    ``2way`` all comparisons tie), and the reconstruction of another image (``chance_shuffled``; of
    its first sample for metrics by pixel). All of them use the same seeded permutation, which
    leaves no image in its place.

    Correlations with a constant picture or feature vector are 0 as scores, and misses in
    identification. A tie in identification counts one half; ``ties_missed`` counts ties as misses,
    as in the published code. Identical pictures get identical features, whatever their batch, so
    they tie.

    Parameters
    ----------
    reconstructions : path
        HDF5 with ``images``, uint8 of shape (n_test, n_samples, height, width, 3), and ``nsd_id``.
    images : path
        Table of the images the subject saw, with the columns nsd_id and split.
    stimuli : path
        ``nsd_stimuli.hdf5``. The test pictures shown are kept in memory (0.54 MB each), with their
        float32 features under one view of one network (2.1 MB each for both hidden states of CLIP
        ViT-L/14). Reconstructions and their features are processed in batches.
    mean_picture : path
        As `nsdldm.evaluation.baselines.average_pictures` writes it.
    comparison : Comparison
    device : {"auto", "cpu", "cuda"}
    batch_size : int
        Pictures at once; halved when memory runs out.
    table : path
        Output: nsd_id, metric, value; one row per image and metric.
    samples : path
        Output: nsd_id, sample, metric, value, for ``psm``, ``clipscore``, ``category``,
        ``background``, ``pixcorr``, ``ssim`` and ``corr16``.
    summary : path
        Output: metric, value, ci_low, ci_high, ties_missed (identification only), chance_random,
        chance_mean, chance_shuffled, n_images, n_samples, note. Empty where not computed, with the
        reason as note.

    Raises
    ------
    InputError
        Inputs contradict each other, there are fewer than two test images, or weights are unusable.
    """
    device = choose_device(device)
    n_ways = [int(n) for n in np.atleast_1d(comparison.n_way)]
    with open_test_reconstructions(reconstructions, images) as (made, nsd_ids):
        # Load all networks first, so that wrong weights are found before the long computation.
        loaded = {
            name: load_network(name, settings, n_ways, device)
            for name, settings in comparison.networks.items()
        }
        mean, partners = np.array(load_array(mean_picture)), derange(len(nsd_ids), comparison.seed)
        material, scores = compare_pixels(made, stimuli, nsd_ids, mean, partners)
        for name, (extractors, reason) in loaded.items():
            missing = Score(np.array([]), (), None, reason)
            scores |= dict.fromkeys(list_metrics(name, n_ways), missing)
            for view, extract in extractors:
                compared = look(view, extract, material, device, batch_size)
                scores |= score_view(name, view, *compared, n_ways)
            logger.info("%s: %s", name, reason or "scored")
        n_samples = made.shape[1]
    save_table(table, _tabulate_images(scores, nsd_ids))
    save_table(samples, _tabulate_samples(scores, nsd_ids))
    save_table(summary, summarize(scores, n_samples, comparison.bootstrap, comparison.seed))


@contextmanager
def open_test_reconstructions(
    path: Path | str, images: Path | str
) -> Iterator[tuple[h5py.Dataset, np.ndarray]]:
    """Open a file of reconstructions and compare it with the table of images.

    Parameters
    ----------
    path, images : path

    Yields
    ------
    made : h5py.Dataset
        uint8 of shape (n_test, n_samples, height, width, 3).
    nsd_ids : int array of shape (n_test,)

    Raises
    ------
    InputError
        Another shape or dtype, images that differ from the table's, or fewer than two.
    """
    seen = load_table(images)
    wanted = seen.loc[seen["split"] == "test", "nsd_id"].to_numpy()
    if len(wanted) < 2:
        remedy = "Use sessions that share images with the other subjects"
        raise InputError(Finding(str(images), "at least 2 test images", str(len(wanted)), remedy))
    with open_reconstructions(path) as made:
        if not np.array_equal(made.nsd_ids, wanted):
            expected = f"pictures of the {len(wanted)} test images of {images}, in its order"
            found = f"pictures of {len(made.nsd_ids)} images, not the same"
            raise InputError(Finding(str(path), expected, found, "Reconstruct again"))
        yield made.images, made.nsd_ids


def read_made(made: h5py.Dataset, place: int | tuple[int, int]) -> np.ndarray:
    """Read one picture, uint8 of shape (height, width, 3), or one image's pictures, (n_samples,
    height, width, 3), of the file of reconstructions."""
    with reading(made.file.filename, "pictures", "Reconstruct again"):
        return made[place]


def compare_pixels(
    made: h5py.Dataset,
    stimuli: Path | str,
    nsd_ids: np.ndarray,
    mean: np.ndarray,
    partners: np.ndarray,
) -> tuple[Material, dict[str, Score]]:
    """Compare reconstructions with the pictures shown, pixel by pixel.

    Parameters
    ----------
    made : h5py.Dataset
        Read picture by picture.
    stimuli : path
    nsd_ids : int array of shape (n_images,)
    mean : uint8 array of shape (height, width, 3)
    partners : int array of shape (n_images,)

    Returns
    -------
    material : Material
    scores : dict of str to Score
    """
    seen = np.stack(list(read_images(stimuli, nsd_ids)))
    size = seen.shape[1:3]
    prepared_mean = pixels.prepare_picture(mean)
    first, inverse = {}, np.empty(made.shape[:2], np.int64)
    values = np.empty((len(made), made.shape[1] + 3, len(pixels.METRICS)))
    prepare, before = partial(pixels.prepare_picture, size=size), {}
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for i in progress(follow_partners(partners), len(made), "pixels"):
            own = prepare(seen[i])
            pictures = read_made(made, i)
            for s, picture in enumerate(pictures):
                digest = blake2b(picture, digest_size=16).digest()
                inverse[i, s] = first.setdefault(digest, i * made.shape[1] + s)
            prepared, partner = list(pool.map(prepare, pictures)), partners[i]
            if partner not in before:
                before = {partner: [prepare(seen[partner]), prepare(read_made(made, (partner, 0)))]}
            chance = before[partner][0], prepared_mean, before[partner][1]
            compared = pool.map(partial(pixels.compare_pictures, own), [*prepared, *chance])
            values[i] = [list(row.values()) for row in compared]
            before = {i: [own, prepared[0]]}
    scores = {}
    for k, metric in enumerate(pixels.METRICS):
        chance = values[:, -3:, k].mean(axis=0)
        scores[metric] = _make_score(metric, values[:, :-3, k], chance)
    unique, places = np.unique(inverse, return_inverse=True)
    material = Material(seen, mean, made, unique, places.reshape(inverse.shape), partners)
    return material, scores


def follow_partners(partners: np.ndarray) -> list[int]:
    """Order images so that each comes directly after its partner, wherever possible.

    Parameters
    ----------
    partners : int array of shape (n,)
        A permutation.

    Returns
    -------
    list of int
    """
    following, order = np.argsort(partners), {}
    for start in range(len(partners)):
        while start not in order:
            order[start] = None
            start = int(following[start])
    return list(order)


def load_network(
    name: str, settings: dict, n_ways: list[int], device: torch.device
) -> tuple[list, str]:
    """Load a network, or say why it is not available.

    Parameters
    ----------
    name, settings, device
        As `nsdldm.features.networks.load_extractors`.
    n_ways : list of int

    Returns
    -------
    extractors : list
        Empty if the network is not available.
    reason : str

    Raises
    ------
    InputError
        As `load_extractors`, or fewer than two classes are asked for, or more than there are.
    """
    try:
        extractors = load_extractors(name, settings, device)
    except Unavailable as reason:
        return [], f"not computed: {reason}"
    for view, _ in extractors:
        if "nway" in view.pairs:
            _, first, last = view.pairs["nway"]
            wrong = [n for n in n_ways if not 2 <= n <= last - first]
            if wrong:
                expected, remedy = f"from 2 to {last - first} classes", "Correct it"
                raise InputError(Finding("`n_way`", expected, str(wrong[0]), remedy))
    return extractors, ""


def _make_score(metric, values, chance):
    """Make a metric's score from its values by image and sample, (n_images, n)."""
    kept = values if metric.partition(":")[0] in SAMPLED else None
    return Score(values.mean(axis=1), tuple(map(float, chance)), kept, describe_metric(metric))


def look(
    view: View, extract: Callable, material: Material, device: torch.device, batch_size: int
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, dict[str, np.ndarray]]]:
    """Run a network on all pictures once, and correlate the features.

    Parameters
    ----------
    view : nsdldm.features.views.View
    extract : callable
        Of that view.
    material : Material
    device : torch.device
    batch_size : int

    Returns
    -------
    correlations : dict of str to dict of str to float64 array of shape (n, n, n_samples or 1)
        By feature: originals (first axis) with "made" pictures and with those of each of `CHANCE`.
    paired : dict of str to dict of str to float array of shape (d, n, n_samples or 1)
        By feature: values of "made" pictures, of those of each of `CHANCE`, and of the originals
        ("seen").
    """
    correlated = {*view.psm, *(layer for layer, _ in view.community.values())}
    kept = {layer: [] for layer, *_ in view.pairs.values()}
    seen, made, unique = material.seen, material.made, material.unique

    def extract_made(batch):
        places = (divmod(int(place), made.shape[1]) for place in unique[batch])
        return extract([read_made(made, place) for place in places])

    own = _gather(run_batched(lambda batch: extract(seen[batch]), len(seen), batch_size, device))
    mean = extract([material.mean])
    moments = {layer: find_moments(own[layer]) for layer in correlated}
    r = {layer: [] for layer in correlated}
    batches = run_batched(extract_made, len(unique), batch_size, device)
    for _, found in progress(batches, -(-len(unique) // batch_size), "batches of pictures"):
        for layer in correlated:
            r[layer].append(correlate_rows(own[layer], found[layer], moments[layer]))
        for layer in kept:
            kept[layer].append(found[layer].T)

    correlations, paired = {}, {}
    for layer in correlated:
        parts = (correlate_rows(own[layer], other[layer], moments[layer]) for other in (own, mean))
        correlations[layer] = _arrange(np.hstack(r[layer]), *parts, material)
    for layer in kept:
        parts = own[layer].T, mean[layer].T
        paired[layer] = _arrange(np.hstack(kept[layer]), *parts, material)
        paired[layer]["seen"] = own[layer].T[..., None]
    return correlations, paired


def _gather(batches):
    """Features of all pictures from those of batches."""
    found = [features for _, features in batches]
    return {layer: np.concatenate([features[layer] for features in found]) for layer in found[0]}


def _arrange(unique, seen, mean, material):
    """Lay columns that belong to pictures out as (rows, n_images, n_samples or 1).

    `unique`, `seen` and `mean` have one column per distinct reconstruction, per original, and for
    the mean.
    """
    made, partners = unique[:, material.inverse], material.partners
    return {
        "made": made,
        "chance_random": seen[:, partners, None],
        "chance_mean": np.repeat(mean, len(partners), axis=1)[..., None],
        "chance_shuffled": made[:, partners],
    }


def score_view(
    name: str, view: View, correlations: dict, paired: dict, n_ways: list[int]
) -> dict[str, Score]:
    """Score one view of a network.

    Parameters
    ----------
    name : str
        Of the network.
    view : nsdldm.features.views.View
    correlations, paired : dict
        As `look` returns them.
    n_ways : list of int

    Returns
    -------
    dict of str to Score
    """
    rules = [
        (f"{kind}:{name}:{layer}", correlations[layer], rule)
        for layer in view.psm
        for kind, rule in PSM.items()
    ]
    rules += [
        (metric, correlations[layer], COMMUNITY[kind])
        for metric, (layer, kind) in view.community.items()
    ]
    for kind, (layer, *ends) in view.pairs.items():
        groups = {key: values[slice(*ends)] for key, values in paired[layer].items()}
        rule = partial(PAIRS[kind], seen=groups.pop("seen"))
        rules += [
            (f"{own}:{name}", groups, partial(rule, n_way=n))
            for own, n in name_ways(kind, n_ways).items()
        ]
    scores = {}
    for metric, groups, rule in rules:
        chance = (rule(groups[level]).mean() for level in CHANCE)
        scores[metric] = _make_score(metric, rule(groups["made"]), chance)
        if rule in IDENTIFICATIONS:
            missed = rule(groups["made"], tie=0).mean()
            scores[metric] = scores[metric]._replace(ties_missed=missed)
    return scores


def _match(r):
    """Correlation of each original with its own reconstructions, (n_images, n_samples)."""
    return np.nan_to_num(np.einsum("iis->is", r))


def _identify_original(r, tie=0.5):
    """Fraction of other images' reconstructions that lose, averaging r over samples first,
    (n_images, 1)."""
    return identify(r.mean(axis=2), tie)[0][:, None]


def _identify_reconstruction(r, tie=0.5):
    """Fraction of other originals that lose, averaging r over samples first, (n_images, 1)."""
    return identify(r.mean(axis=2), tie)[1][:, None]


def _identify_each(r, tie=0.5):
    """Fraction of other originals that lose, for each sample separately, (n_images, n_samples)."""
    return np.stack([identify(r[..., s], tie)[1] for s in range(r.shape[2])], axis=1)


def _win_n_way(logits, seen, n_way):
    """Probability that the class of the original wins, (n_images, n_samples)."""
    labels = np.broadcast_to(seen.argmax(axis=0), logits.shape[1:])
    return score_n_way(np.moveaxis(logits, 0, -1), labels, n_way)


def _match_category(logits, seen, n_way):
    """Whether the likeliest class is one of the original's, which may be several."""
    # Independent logits: above 0 means more likely than not.
    shown = (seen[..., 0] > 0) | (seen[..., 0] == seen[..., 0].max(axis=0))
    return np.take_along_axis(shown, logits.argmax(axis=0).T, axis=0).T.astype(float)


def _match_class(logits, seen, n_way):
    """Whether the likeliest class is that of the original."""
    return (logits.argmax(axis=0) == seen.argmax(axis=0)).astype(float)


def _match_direction(embeddings, seen, n_way):
    """Cosine of the embeddings of reconstruction and original; 0 if either is zero."""
    made, seen = (values.astype(np.float64) for values in (embeddings, seen))
    lengths = np.linalg.norm(made, axis=0) * np.linalg.norm(seen, axis=0)
    products = (made * seen).sum(axis=0)
    return np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)


PSM = {
    "psm": _match,
    "2way": _identify_original,
    "2way-reconstruction": _identify_reconstruction,
}
COMMUNITY = {"2way": _identify_each, "distance": lambda r: 1 - _match(r)}
IDENTIFICATIONS = (_identify_original, _identify_reconstruction, _identify_each)
PAIRS = {
    "nway": _win_n_way,
    "category": _match_category,
    "background": _match_class,
    "clipscore": _match_direction,
}


def summarize(
    scores: dict[str, Score], n_samples: int, n_bootstrap: int, seed: int
) -> pd.DataFrame:
    """Summarise scores over images.

    Parameters
    ----------
    scores : dict of str to Score
    n_samples : int
    n_bootstrap : int
    seed : int

    Returns
    -------
    DataFrame
        Columns of text, as described by `evaluate_reconstructions`.
    """
    computed = {metric: score for metric, score in scores.items() if len(score.values)}
    values = np.stack([score.values for score in computed.values()], axis=1)
    low, high = bootstrap_interval(values, n_bootstrap, seed)
    rows = {}
    for metric, score, *ends in zip(computed, computed.values(), low, high, strict=True):
        numbers = (score.values.mean(), *ends, score.ties_missed, *score.chance)
        shown = ("" if np.isnan(x) else f"{x:.6g}" for x in numbers)
        rows[metric] = [*shown, len(values), n_samples, score.note]
    empty = [""] * 7
    table = pd.DataFrame.from_dict(
        {
            metric: rows.get(metric, [*empty, len(values), n_samples, score.note])
            for metric, score in scores.items()
        },
        orient="index",
        columns=(*NUMBERS, *CHANCE, "n_images", "n_samples", "note"),
    )
    return table.rename_axis("metric").reset_index()


def _tabulate_images(scores, nsd_ids):
    """One row per image and metric."""
    parts = [
        pd.DataFrame({"nsd_id": nsd_ids, "metric": metric, "value": score.values})
        for metric, score in scores.items()
        if len(score.values)
    ]
    return pd.concat(parts, ignore_index=True)


def _tabulate_samples(scores, nsd_ids):
    """One row per image, sample and metric."""
    parts = []
    for metric, score in scores.items():
        if score.samples is not None:
            n = score.samples.shape[1]
            columns = {
                "nsd_id": np.repeat(nsd_ids, n),
                "sample": np.tile(np.arange(n), len(nsd_ids)),
            }
            parts.append(pd.DataFrame(columns | {"metric": metric, "value": score.samples.ravel()}))
    return pd.concat(parts, ignore_index=True)
