"""Divisions of a subject's images into training and test images, by name.

A division is two tables: one says for every image where it goes, the other for every trial. The
splits are ``train``, ``test``, ``align`` (shared images that subjects are aligned by) and
``unused``.

* ``shared``: the paper's: own images train, images that all subjects saw are tested.
* ``sessions-N``: the same, of the first N sessions.
* ``unique-N``: tests on own images of the first N sessions, as many as there are shared ones.
* ``random``, ``cluster``, ``category``: single images, whole clusters of similar images, or whole
  categories of objects are held out, whoever else saw them.
* ``half-1``, ``half-2``: as ``shared``, but each test image has its first and third trial, or its
  second.
* others: as a file lists them by the names of images, such as those of LAION-fMRI.
* ``hour``, ``hour-all``: half of the shared images are tested and the other half aligns subjects;
  training and alignment have the first session only, or all.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from nsdldm.nsd.categories import read_categories
from nsdldm.support.errors import Finding, InputError, Unexpected, reading
from nsdldm.support.files import load_array, load_table, save_table

logger = logging.getLogger(__name__)

SPLITS = ("train", "test", "align", "unused")
# Divisions whose groups are held out as a whole.
GROUPED = ("cluster", "category")
# Held out at most, relative to the share that is asked for.
MOST = 2
HALVES = {"half-1": (0, 2), "half-2": (1,)}


class SplitSettings(NamedTuple):
    """How images are held out.

    Parameters
    ----------
    share : float
        Of the images that cluster, category and random hold out, at least.
    clusters : int
        Number of clusters.
    seed : int
    """

    share: float
    clusters: int
    seed: int


def split_images(
    *,
    name: str,
    trials: Path | str,
    images: Path | str,
    output_trials: Path | str,
    output_images: Path | str,
    settings: SplitSettings,
    features: Path | str | None = None,
    instances: list[Path | str] | None = None,
    listing: Path | str | None = None,
) -> None:
    """Write a division of a subject's images.

    Parameters
    ----------
    name : str
        Of the division; see the top of this module.
    trials, images : path
        ``trials.tsv`` and ``images.tsv`` of the subject.
    output_trials, output_images : path
        Outputs: the same rows in the same order, with other splits. n_trials counts the trials
        used, and the column group of the images has the number of the cluster, or the main
        category; it is empty without `instances`. In the column grouped, all images say whether
        whole groups are held out.
    settings : SplitSettings
    features : path, optional
        ``.npy`` with an embedding of every image, for ``cluster``.
    instances : list of path, optional
        COCO's objects, for ``category`` and for the groups of others.
    listing : path, optional
        A file that `read_listing` reads, for a division of any other name. Images that it does not
        list, and only these, are unused.

    Raises
    ------
    InputError
        There is no such division, too few images are left on a side, or something is missing.
    """
    listed, known = load_table(trials), load_table(images)
    _check_listed(known, listed, images)
    known = known.assign(group="", grouped=name in GROUPED)
    objects = None
    if instances:
        objects = read_categories(instances, known["coco_id"])
        known["group"] = objects["main"].to_numpy()
    if listing:
        listed, known = _divide_as(read_listing(listing), listed, known, listing)
    else:
        listed, known = _divide(name, listed, known, settings, features, objects)
    counts = listed.loc[listed["split"] != "unused", "nsd_id"].value_counts()
    known["n_trials"] = known["nsd_id"].map(counts).fillna(0).astype(int)
    known.loc[known["n_trials"] == 0, "split"] = "unused"
    check_split(known, listed, f"split {name}")
    save_table(output_trials, listed)
    save_table(output_images, known)
    logger.info("%s: images %s", name, known["split"].value_counts().to_dict())
    logger.info("%s: trials %s", name, listed["split"].value_counts().to_dict())


def read_listing(path: Path | str) -> dict[str, str]:
    """Read a division from a file.

    Parameters
    ----------
    path : str or Path
        JSON with train_ids and test_ids, lists of the names of images, or as LAION-fMRI has it,
        with one entry of ``variants`` that has them. n_train and n_test, if given, are compared.

    Returns
    -------
    dict of str to str
        train or test, by name.

    Raises
    ------
    InputError
        The file cannot be used, has several variants, or a name is on both sides.
    """
    expected = "a JSON file with train_ids and test_ids, lists of names"
    with reading(path, expected):
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        variants = content.get("variants", [content])
        if len(variants) != 1:
            raise Unexpected(f"{len(variants)} variants, of which one is used")
        sides = {side: variants[0][f"{side}_ids"] for side in ("train", "test")}
        for side, names in sides.items():
            if not names or not all(isinstance(name, str) for name in names):
                raise Unexpected(f"{side}_ids without names")
            stated = content.get(f"n_{side}", len(names))
            if stated != len({*names}):
                raise Unexpected(f"{len({*names})} different {side}_ids where it states {stated}")
        both = sorted({*sides["train"]} & {*sides["test"]})
        if both:
            raise Unexpected(f"{both[0]} among both")
    return {name: side for side, names in sides.items() for name in names}


def _divide_as(listing, trials, images, path):
    """Both tables as a file says; nothing else counts."""
    if "name" not in images:
        expected, remedy = "images with names", "Use splits that are made here, such as cluster"
        raise InputError(Finding(str(path), expected, "numbers alone", remedy))
    split = images["name"].map(listing).fillna("unused")
    for side in ("train", "test"):
        if not (split == side).any():
            remedy = "Use the file of this subject's pool of images"
            expected = f"names of the subject's images among {side}_ids"
            raise InputError(Finding(str(path), expected, f"{next(iter(listing))}, ...", remedy))
    images = images.assign(split=split)
    where = images.set_index("nsd_id")["split"]
    return trials.assign(split=trials["nsd_id"].map(where)), images


def _divide(name, trials, images, settings, features, objects):
    """Both tables with their new splits."""
    if name in HALVES:
        return _halve(trials, images, HALVES[name])
    if found := re.fullmatch(r"(sessions|unique)-([0-9]+)", name):
        # No more than there are.
        used = trials["session"].isin(sorted(trials["session"].unique())[: int(found[2])])
        trials = trials.assign(split=trials["split"].where(used, "unused"))
        if found[1] == "unique":
            images = _test_own(trials[used], images, settings.seed)
    elif name in ("hour", "hour-all"):
        images = _reserve(images, settings.seed)
        first = trials["session"] == trials["session"].min()
        if name == "hour":
            tested = trials["nsd_id"].isin(images.loc[images["split"] == "test", "nsd_id"])
            trials = trials.assign(split=trials["split"].where(first | tested, "unused"))
    elif name == "random":
        chosen = _draw(images["nsd_id"].to_numpy(), settings.share, settings.seed)
        images = images.assign(split=np.where(images["nsd_id"].isin(chosen), "test", "train"))
    elif name == "cluster":
        images = _hold_out_clusters(images, features, settings)
    elif name == "category":
        images = _hold_out_categories(images, objects, settings)
    elif name != "shared":
        expected = "shared, sessions-N, unique-N, random, cluster or category"
        raise InputError(Finding("`name`", expected, name, "Correct it"))
    # A trial goes where its image goes, unless it is left out.
    where = images.set_index("nsd_id")["split"]
    split = trials["nsd_id"].map(where).where(trials["split"] != "unused", "unused")
    return trials.assign(split=split), images


def _rank(nsd_ids, seed):
    """Images in an order that does not depend on which others there are."""
    drawn = [np.random.default_rng([seed, int(number)]).random() for number in nsd_ids]
    return nsd_ids[np.argsort(drawn, kind="stable")]


def _draw(nsd_ids, share, seed):
    """A share of the images."""
    return _rank(nsd_ids, seed)[: round(share * len(nsd_ids))]


def _halve(trials, images, places):
    """Test images that have at least two trials, with some of these trials."""
    tested = trials["split"] == "test"
    occasion = trials.groupby("nsd_id").cumcount()
    count = trials.groupby("nsd_id")["nsd_id"].transform("size")
    used = ~tested | ((count >= 2) & occasion.isin(places))
    trials = trials.assign(split=trials["split"].where(used, "unused"))
    return trials, images


def _test_own(trials, images, seed):
    """Test own images, as many as there are shared ones, among those with the most trials."""
    shown = images["nsd_id"].map(trials["nsd_id"].value_counts()).fillna(0)
    shared = (images["split"] == "test") & (shown > 0)
    own = images[(images["split"] == "train") & (shown > 0)].assign(shown=shown)
    order = {number: place for place, number in enumerate(_rank(own["nsd_id"].to_numpy(), seed))}
    own = own.assign(order=own["nsd_id"].map(order)).sort_values(
        ["shown", "order"], ascending=[False, True]
    )
    chosen = own["nsd_id"].to_numpy()[: shared.sum()]
    split = np.where(images["split"] == "test", "unused", "train")
    return images.assign(split=np.where(images["nsd_id"].isin(chosen), "test", split))


def _reserve(images, seed):
    """Half of the shared images to align subjects by, the same for all subjects."""
    shared = images["split"] == "test"
    drawn = [np.random.default_rng([seed, int(number)]).random() for number in images["nsd_id"]]
    aligned = shared & (np.array(drawn) < 0.5)
    return images.assign(split=images["split"].where(~aligned, "align"))


def _hold_out(groups, share, seed, what):
    """Draw whole groups until they hold a share of the images, without any that holds too many.

    Their order does not depend on which others there are, so that subjects get nearly the same.
    """
    sizes = {name: int((groups == name).sum()) for name in sorted(set(groups) - {""})}
    order = sorted(sizes, key=lambda name: np.random.default_rng([seed, *name.encode()]).random())
    chosen, held_out = [], 0
    for name in order:
        if held_out >= share * len(groups):
            break
        if held_out + sizes[name] <= MOST * share * len(groups):
            chosen.append(name)
            held_out += sizes[name]
    if not chosen or len(chosen) == len(sizes):
        found = f"{len(sizes)} of at most {max(sizes.values(), default=0)} images"
        expected = f"groups that leave out about {share:.0%} of {len(groups)} images"
        raise InputError(Finding(what, expected, found, "Hold out another share"))
    return chosen


def _hold_out_clusters(images, features, settings):
    """Hold out clusters of images by k-means on directions from the mean."""
    from sklearn.cluster import KMeans

    if features is None:
        remedy = "Give the embedding by which images are similar"
        raise InputError(Finding("clusters", "an embedding of every image", "none", remedy))
    values = load_array(features)
    if values.ndim < 2 or len(values) != len(images) or not np.isfinite(values).all():
        expected = f"finite values, a row for each of {len(images)} images"
        found = f"an array of shape {values.shape}"
        if values.ndim >= 2 and len(values) == len(images):
            found = "infinite or undefined ones"
        remedy = "Compute it again from the same images"
        raise InputError(Finding(str(features), expected, found, remedy))
    values = np.array(values, np.float64).reshape(len(images), -1)
    values -= values.mean(axis=0)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    values /= np.where(lengths > 0, lengths, 1)
    if not 2 <= settings.clusters < len(images):
        expected = f"from 2 to fewer than the {len(images)} images"
        raise InputError(Finding("`clusters`", expected, str(settings.clusters), "Correct it"))
    model = KMeans(settings.clusters, n_init=10, random_state=settings.seed)
    groups = model.fit_predict(values).astype(str)
    chosen = _hold_out(groups, settings.share, settings.seed, "clusters")
    return images.assign(group=groups, split=np.where(np.isin(groups, chosen), "test", "train"))


def _hold_out_categories(images, objects, settings):
    """Hold out main categories; images that merely contain one are unused."""
    if objects is None:
        remedy = "Give COCO's instances_train2017.json and instances_val2017.json"
        raise InputError(Finding("categories", "the objects in the images", "none", remedy))
    groups = objects["main"].to_numpy()
    chosen = _hold_out(groups, settings.share, settings.seed, "categories")
    contained = np.array([bool({*own} & {*chosen}) for own in objects["all"]])
    split = np.where(np.isin(groups, chosen), "test", np.where(contained, "unused", "train"))
    return images.assign(split=split)


def check_split(images: pd.DataFrame, trials: pd.DataFrame, where: Path | str) -> None:
    """Refuse a division in which something is on both sides.

    Parameters
    ----------
    images, trials : DataFrame
        With nsd_id and split; images also with group, and grouped: whether whole groups are held
        out, so that none may be in both training and test.
    where : str or path
        Of the division, for messages.

    Raises
    ------
    InputError
        A group or an image is on both sides, an image is listed twice, a split is unknown, or a
        side has too few images.
    """
    remedy = "Divide the images again"
    known = images["split"]
    unknown = sorted({*map(str, known), *map(str, trials["split"])} - {*SPLITS})
    if unknown:
        expected = f"the splits {', '.join(SPLITS)}"
        raise InputError(Finding(str(where), expected, ", ".join(unknown), remedy))
    _check_listed(images, trials, where)
    own = trials["nsd_id"].map(images.set_index("nsd_id")["split"])
    leaked = trials[(trials["split"] != "unused") & (trials["split"] != own)]
    if len(leaked):
        row = leaked.iloc[0]
        expected = "every trial where its image is"
        found = f"a trial of image {row['nsd_id']} in {row['split']}, the image in {own[row.name]}"
        raise InputError(Finding(str(where), expected, found, remedy))
    if images["grouped"].any():
        sides = images[known.isin(["train", "test"])].groupby("group")["split"].unique()
        both = sides[sides.map(len) > 1]
        if len(both):
            group = both.index[0]
            number = images.loc[(images["group"] == group) & (known == "test"), "nsd_id"].iloc[0]
            expected = "each group of images on one side"
            found = f"group {group!r} on both, such as test image {number}"
            raise InputError(Finding(str(where), expected, found, remedy))
    for split, least in (("train", 2), ("test", 3)):
        if (n := int((known == split).sum())) < least:
            expected = f"at least {least} {split} images"
            raise InputError(Finding(str(where), expected, str(n), "Use more sessions"))


def _check_listed(images, trials, where):
    """Refuse tables in which an image is listed twice, or that of a trial is not."""
    twice = images["nsd_id"][images["nsd_id"].duplicated()]
    absent = trials["nsd_id"][~trials["nsd_id"].isin(images["nsd_id"])]
    for wrong, often in ((twice, "twice"), (absent, "in a trial only")):
        if len(wrong):
            expected, found = "every image once", f"image {wrong.iloc[0]} {often}"
            remedy = "Tabulate images and trials again"
            raise InputError(Finding(str(where), expected, found, remedy))
