"""Score decoders by the number of sessions that they were fitted to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from nsdldm import stats
from nsdldm.diffusion.loading import Model, load_autoencoder
from nsdldm.diffusion.reconstruction import decode_pictures
from nsdldm.evaluation.identification import correlate_rows, identify
from nsdldm.evaluation.pixels import average_blocks
from nsdldm.intervals import bootstrap_interval
from nsdldm.nsd.stimuli import read_images
from nsdldm.support.batching import run_images
from nsdldm.support.files import load_array, load_table, open_hdf5, save_table


def score_learning_curve(
    *,
    predictions: Path | str,
    features: dict[str, Path | str],
    images: Path | str,
    stimuli: Path | str,
    model: Model,
    bootstrap: int,
    seed: int,
    table: Path | str,
) -> None:
    """Score the predictions of every number of sessions.

    Parameters
    ----------
    predictions : path
        As `nsdldm.decoding.learning.fit_learning_curve` writes them.
    features : dict of path
        True features by target.
    images : path
        ``images.tsv``.
    stimuli : path
        ``nsd_stimuli.hdf5``.
    model : Model
        Whose autoencoder decodes z.
    bootstrap, seed : int
        Draws of the interval.
    table : path
        Output: sessions, n_trials, target, score, value, low, high and chance. Scores are ``r``,
        the median over dimensions of the correlation across test images, and for z
        ``identification``: of the pictures that the autoencoder makes of it, averaged over 16 x 16
        blocks, the fraction of other images whose picture is less similar to the one shown. Only
        the latter is a mean over images and has an interval and a chance level.

    Raises
    ------
    InputError
        The model cannot be used, or inputs contradict each other.
    """
    test = load_table(images).query("split == 'test'")
    true = {name: np.array(load_array(path)[test.index]) for name, path in features.items()}
    shown = _average(read_images(stimuli, test["nsd_id"].to_numpy())) if "z" in true else None
    rows = []
    with open_hdf5(predictions) as file:
        for end in sorted(file, key=int):
            for name in sorted(file[end]):
                found = file[f"{end}/{name}"]
                own = {"sessions": int(end), "n_trials": found.attrs["n_trials"], "target": name}
                values, truth = (x.reshape(len(x), -1) for x in (found[:], true[name]))
                varies = np.ptp(truth, axis=0) > 0
                r = stats.correlate(truth[:, varies], values[:, varies])
                rows.append(own | {"score": "r", "value": float(np.median(r))})
                if name == "z":
                    scores = identify(correlate_rows(shown, _average(_decode(model, found[:]))))[0]
                    low, high = bootstrap_interval(scores[:, None], bootstrap, seed)
                    own |= {"score": "identification", "value": scores.mean(), "low": low[0]}
                    rows.append(own | {"high": high[0], "chance": 0.5})
    save_table(table, pd.DataFrame(rows))


def _average(pictures):
    """Means of pictures over blocks, in a row per picture."""
    return np.stack([average_blocks(picture / 255).ravel() for picture in pictures])


def _decode(model, latents):
    """Pictures that the autoencoder makes of latents."""
    device, dtype = model.choose()
    autoencoder = load_autoencoder(model.path, model.revision, device, dtype)

    def decode(batch):
        return decode_pictures(autoencoder, torch.from_numpy(latents[batch]))

    made = run_images(decode, len(latents), model.batch_size, device, "pictures of z")
    return [picture for _, picture in made]
