"""Scores of every test image of a case, by what was decoded and by what needs no decoder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from nsdldm.evaluation.candidates import find_candidates, read_groups
from nsdldm.evaluation.pattern_scores import compare_patterns, score_patterns
from nsdldm.evaluation.picture_scores import (
    Viewer,
    average_training,
    load_layer,
    look_at,
    look_at_images,
    look_at_made,
    score_pictures,
)
from nsdldm.support.devices import choose_device
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_array, load_table, save_table

logger = logging.getLogger(__name__)

COLUMNS = ("nsd_id", "group", "similarity", "source", "score", "candidates", "value")


class Images(NamedTuple):
    """Files of the images that decoders are tested on, or were fitted to.

    Parameters
    ----------
    images : path
        Table of images with the columns nsd_id and split; of those tested on also group, empty
        where an image has none.
    stimuli : path
        Their pictures.
    space : path
        ``.npy`` with a row per row of the table: embeddings by which images are similar.
    features : dict of path
        By target: ``.npy`` with a row per row of the table, true features.
    """

    images: Path | str
    stimuli: Path | str
    space: Path | str
    features: dict[str, Path | str]


class _Rows(NamedTuple):
    """A table of images and the rows used."""

    table: pd.DataFrame
    rows: np.ndarray

    @property
    def nsd_ids(self):
        return self.table["nsd_id"].to_numpy(np.int64)[self.rows]


def score_case(
    *,
    tested: Images,
    known: Images,
    decoded: dict[str, Path | str],
    reconstructions: dict[str, Path | str],
    network: dict,
    similar: int,
    samples: int,
    seed: int,
    device: str,
    batch_size: int,
    table: Path | str,
) -> None:
    """Score what was decoded for each test image of a case, next to baselines and the ceiling.

    All identification is two-way: the share of other images (candidates) to which what was decoded
    is less similar than to the image itself; a tie counts one half. Similarity is Pearson
    correlation: of standardised features (see `nsdldm.evaluation.pattern_scores`), of means over
    16 x 16 blocks of pictures (`layout`), or of a network's features of them (`content`).

    Parameters
    ----------
    tested : Images
        Images with the split test are scored.
    known : Images
        Images with the split train are those that decoders were fitted to.
    decoded : dict of path
        By target: ``.npy`` of shape (n_test, ...), in the order of the test images.
    reconstructions : dict of path
        By source, the case's own first: pictures of the test images, as
        `nsdldm.diffusion.pictures` writes them. If there are none, no pictures are scored.
    network : dict
        `network` and `layer` by which content is compared, and the network's `settings` for
        `nsdldm.features.networks.load_extractors`.
    similar : int
        Number of most similar test images that are candidates.
    samples : int
        Pictures of each image that are used; r is their mean.
    seed : int
        Of the other images of the source `shuffled`.
    device : str
    batch_size : int
        Pictures looked at together.
    table : path
        Output: TSV with a row for each test image, source, score and kind of candidates. Columns:
        nsd_id; group; similarity, the cosine to the nearest training image in `space`, centred on
        the mean of training images; source: `decoded`, a key of `reconstructions`, or `shuffled`,
        `nearest` (training image), `mean` (of training images), `ceiling`; score: a target,
        `layout`, `content`, or the correlations `layout-r` and `content-r`; candidates: `all` other
        test images, `similar` ones, those of the same `group` if it has at least 3, all `training`
        images (targets only), or none for a correlation; value.

    Raises
    ------
    InputError
        Files contradict each other, there are fewer than two test images or no training image, or
        the network or its layer is not there.
    """
    device = choose_device(device)
    test, train = _read_rows(tested.images, "test", 2), _read_rows(known.images, "train", 1)
    groups = read_groups(_find_group(tested.images, test.table))[test.rows]
    spaces = (_open_rows(side.space, rows) for side, rows in ((tested, test), (known, train)))
    among = find_candidates(next(spaces)[test.rows], next(spaces), train.rows, groups, similar)
    about = pd.DataFrame({"nsd_id": test.nsd_ids, "group": groups, "similarity": among.similarity})
    parts, near = [], 0
    for target, path in decoded.items():
        patterns = compare_patterns(*_open_target(target, path, tested, known, test, train))
        found = score_patterns(patterns, among, seed)
        parts += [_tabulate(about, source, target, *own) for source, *own in found]
        near = near + patterns.r if patterns.nearest is not None else near
        logger.info("%s: %d test images, %d training images", target, *patterns.r.shape)
    if reconstructions:
        look = load_layer(network["network"], network["layer"], network["settings"], device)
        viewer = Viewer(look, batch_size, device)
        made = {
            source: look_at_made(path, tested.images, samples, viewer)
            for source, path in reconstructions.items()
        }
        made |= _look_at_baselines(known.stimuli, train.nsd_ids, near, viewer)
        seen = look_at_images(tested.stimuli, test.nsd_ids, viewer)
        parts += [_tabulate(about, *own) for own in score_pictures(seen, made, among, seed)]
    if not parts:
        expected = "decoded features or reconstructions"
        raise InputError(Finding("`decoded`", expected, "neither", "Give either"))
    save_table(table, pd.concat(parts, ignore_index=True)[list(COLUMNS)])


def _tabulate(about, source, score, candidates, values):
    """Rows of the images that have candidates."""
    own = about.assign(source=source, score=score, candidates=candidates, value=values)
    return own[np.isfinite(values)]


def _read_rows(path, split, least):
    """A table of images, and its rows of a split."""
    table = load_table(path)
    rows = np.flatnonzero(table["split"] == split)
    if len(rows) < least:
        what = {"test": "test", "train": "training"}[split]
        expected, remedy = f"at least {least} {what} images", "Use other sessions or another split"
        raise InputError(Finding(str(path), expected, str(len(rows)), remedy))
    return _Rows(table, rows)


def _find_group(path, table):
    """The column of groups."""
    if "group" not in table:
        remedy = "Make the table of the case again"
        raise InputError(Finding(str(path), "the column group", "none", remedy))
    return table["group"]


def _open_rows(path, side):
    """An array with a row for each of a table."""
    values = load_array(path)
    if values.ndim < 2 or len(values) != len(side.table):
        expected = f"a row for each of {len(side.table)} images"
        remedy = "Compute it again from the same images"
        raise InputError(Finding(str(path), expected, f"shape {values.shape}", remedy))
    return values


def _open_target(target, path, tested, known, test, train):
    """Decoded features, true ones of the test images, and those of the images known."""
    for side, name in ((tested, "tested"), (known, "known")):
        if target not in side.features:
            found = ", ".join(side.features) or "none"
            remedy = "Give them, or leave it out of what was decoded"
            raise InputError(Finding(f"`{name}`", f"features of {target}", found, remedy))
    true = _open_rows(tested.features[target], test)
    features = _open_rows(known.features[target], train)
    made = load_array(path)
    shape = (len(test.rows), *features.shape[1:])
    remedy = "Compute both again from the same images"
    if true.shape[1:] != features.shape[1:]:
        where, found = str(tested.features[target]), f"shape {true.shape}"
        raise InputError(Finding(where, f"rows of shape {features.shape[1:]}", found, remedy))
    if made.shape != shape:
        raise InputError(Finding(str(path), f"shape {shape}", f"shape {made.shape}", remedy))
    return made, true[test.rows], features, train.rows


def _look_at_baselines(stimuli, nsd_ids, near, viewer) -> dict[str, dict]:
    """Describe the mean training picture, and those whose features are nearest to what was
    decoded, in the sum of r over targets."""
    mean = average_training(stimuli, nsd_ids)
    made = {"mean": look_at(lambda batch: [mean], 1, viewer)}
    if np.ndim(near):
        unique, places = np.unique(nsd_ids[near.argmax(axis=1)], return_inverse=True)
        found = look_at_images(stimuli, unique, viewer)
        made["nearest"] = {name: values[places] for name, values in found.items()}
    return {
        source: {name: values[:, None] for name, values in own.items()}
        for source, own in made.items()
    }
