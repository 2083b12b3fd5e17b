"""Divisions of images into training and test, in the form of LAION-fMRI's split files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

from nsdldm.demo.cortex import tabulate_content
from nsdldm.support.files import replacing

if TYPE_CHECKING:
    from nsdldm.demo.laion_images import Picture
    from nsdldm.demo.scenes import Scene

TEST_SHARE, FOLDS = 0.2, 5
# Weights of the content, positions and light of scenes in their distance.
CONTENT, PLACES, LIGHT = 1.0, 2.0, 1.0


def divide_pool(
    pictures: list[Picture], ood: list[Picture], seed: int
) -> Iterator[tuple[str, dict, np.ndarray]]:
    """Divide the images of a pool in all ways of the release.

    Parameters
    ----------
    pictures : list of nsdldm.demo.laion_images.Picture
        The pool.
    ood : list of nsdldm.demo.laion_images.Picture
        Images out of distribution, which are in no pool.
    seed : int

    Yields
    ------
    name : str
        tau, cluster_k5_0 ..., ood, random_0 ...
    params : dict
        What the file tells about the way.
    test : str array of shape (n_test,)
        Names of the images to test; the others of the pool are to train.
    """
    # sklearn is slow to import.
    from sklearn.cluster import KMeans

    names = np.array([picture.name for picture in pictures])
    features = measure_scenes([picture.scene for picture in pictures])
    yield "tau", {"method": "greedy_far_apart"}, names[choose_distant(features)]
    content = np.hstack(list(tabulate_content([p.scene for p in pictures]).values()))
    clusters = KMeans(FOLDS, n_init=4, random_state=seed).fit_predict(content)
    for fold in range(FOLDS):
        params = {"method": "kmeans_content_k5_holdout", "held_out_cluster": fold}
        yield f"cluster_k5_{fold}", params, names[clusters == fold]
    yield "ood", {"method": "ood_holdout"}, np.array([picture.name for picture in ood])
    shuffled = np.random.default_rng([seed, len(names)]).permutation(names)
    for fold, test in enumerate(np.array_split(shuffled, FOLDS)):
        yield f"random_{fold}", {"method": "shuffled_kfold", "seed": seed, "fold": fold}, test


def measure_scenes(scenes: list[Scene]) -> np.ndarray:
    """Measure what scenes show, where, and in which light.

    Parameters
    ----------
    scenes : list of nsdldm.demo.scenes.Scene

    Returns
    -------
    float array of shape (n_scenes, n_features)
    """
    content = np.hstack(list(tabulate_content(scenes).values()))
    places = [[s.objects[0].x, s.objects[0].y, s.objects[0].size, s.horizon] for s in scenes]
    light = [s.gain for s in scenes]
    return np.hstack([CONTENT * content, PLACES * np.array(places), LIGHT * np.array(light)])


def choose_distant(features: np.ndarray, share: float = TEST_SHARE) -> np.ndarray:
    """Choose images to test that are far from all images to train.

    One after the other, the image is taken whose nearest image among those left is farthest.

    Parameters
    ----------
    features : float array of shape (n_images, n_features)
    share : float
        Of images to test.

    Returns
    -------
    int64 array of shape (n_test,)
        Rows of the images to test, in the order in which they were chosen.
    """
    distances = cdist(features, features)
    np.fill_diagonal(distances, np.inf)
    chosen = []
    for _ in range(round(share * len(features))):
        nearest = distances.min(axis=1)
        nearest[chosen] = -1
        row = int(np.argmax(nearest))
        chosen.append(row)
        distances[:, row] = np.inf
    return np.array(chosen, dtype=np.int64)


def save_split(
    path: Path | str, *, name: str, pool: str, params: dict, train: list[str], test: list[str]
) -> None:
    """Write a division of images.

    Parameters
    ----------
    path : str or Path
        A JSON file.
    name, pool : str
    params : dict
    train, test : list of str
        Names of images, written in alphabetical order.
    """
    variant = {"variant_id": 0, "train_ids": sorted(train), "test_ids": sorted(test)}
    content = {
        "name": name,
        "pool": pool,
        "splitter": "min_nn_stochastic",
        "params": params,
        "n_train": len(train),
        "n_test": len(test),
        "variants": [variant],
    }
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
