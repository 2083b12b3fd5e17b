"""What the stages have learned: completing masked responses, and finding test images from
responses.

Everything here is fitted on training rows and scored on test rows, after training.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch

from nsdldm import ridge
from nsdldm.intervals import bootstrap_interval
from nsdldm.support.devices import choose_device
from nsdldm.support.files import create_hdf5, load_array, load_table, save_table
from nsdldm.trained import networks
from nsdldm.trained.alignment import load_alignment
from nsdldm.trained.checkpoints import load_encoder, read_metadata
from nsdldm.trained.data import TestSet, TrainingSet
from nsdldm.trained.pretraining import load_pretraining

if TYPE_CHECKING:
    from nsdldm.trained.alignment import Alignment
    from nsdldm.trained.networks import Encoder
    from nsdldm.trained.pretraining import Pretraining

logger = logging.getLogger(__name__)

# Number of masks per test row.
DRAWS = 8
AT_ONCE = 64
ALPHAS = tuple(10.0**k for k in range(-2, 7))
FOLDS = 5
PREDICTORS = ("model", "mean", "neighbour")
SCORES = ("value", "ci_low", "ci_high")


def _batches(n):
    return [np.arange(start, min(start + AT_ONCE, n)) for start in range(0, n, AT_ONCE)]


def predict_neighbour(train: np.ndarray, responses: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Predict each hidden voxel from the nearest visible one.

    Parameters
    ----------
    train : float32 array of shape (n_rows, n_voxels)
        Standardised training rows, which give the slope for each pair.
    responses : float32 array of shape (n, n_voxels)
    visible : bool array of shape (n_voxels,)

    Returns
    -------
    float32 array of shape (n, n_hidden)
        By simple linear regression; nearest in the order of voxels, and the lower one in a tie.
    """
    known, hidden = np.flatnonzero(visible), np.flatnonzero(~visible)
    right = np.searchsorted(known, hidden).clip(1, len(known) - 1)
    below, above = known[right - 1], known[right]
    nearest = np.where(hidden - below <= above - hidden, below, above)
    slopes = np.einsum("nv,nv->v", train[:, nearest], train[:, hidden])
    slopes /= np.square(train[:, nearest]).sum(axis=0)
    return responses[:, nearest] * slopes


@torch.no_grad()
def complete_responses(
    network: Pretraining,
    responses: torch.Tensor,
    masks: tuple[torch.Tensor, torch.Tensor],
    device: torch.device,
) -> np.ndarray:
    """Complete responses with masked patches.

    Parameters
    ----------
    network : nsdldm.trained.pretraining.Pretraining
    responses : float32 tensor of shape (n, length)
        Adapted.
    masks : (kept, masked)
        int64 tensors of shape (1, k) and (1, m), the same for all.
    device : torch.device

    Returns
    -------
    float32 array of shape (n, length)
        Visible voxels are unchanged.
    """
    made = []
    for rows in _batches(len(responses)):
        part = responses[rows].to(device)
        kept, masked = (places.expand(len(part), -1).to(device) for places in masks)
        outputs, _ = network.predict(part, kept, masked)
        values = network.target.decode(outputs, masked).float()
        patches = networks.cut_patches(part, network.encoder.patch).clone()
        patches.scatter_(1, masked[..., None].expand_as(values), values)
        made.append(patches.flatten(1).cpu().numpy())
    return np.concatenate(made)


def score_completion(
    network: Pretraining, train: TrainingSet, test: TestSet, seed: int, device: torch.device
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Complete test rows under several masks, with a network and with two simple rules.

    Parameters
    ----------
    network : nsdldm.trained.pretraining.Pretraining
    train : nsdldm.trained.data.TrainingSet
    test : nsdldm.trained.data.TestSet
    seed : int
        Of the masks.
    device : torch.device

    Returns
    -------
    errors : float array of shape (n_test, 3)
        Mean squared error of hidden voxels, in the order of `PREDICTORS`. Voxels repeated as
        padding are left out.
    shown : dict of float array
        Under the first mask: true, model, mean, neighbour and visible, each (n_test, n_voxels).
    """
    network = network.to(device)
    rows = np.arange(len(test.nsd_ids))
    with torch.no_grad():
        true = network.encoder.adapt(test.responses(rows).to(device), _subject(rows, device)).cpu()
        given = train.responses(train.train).to(device)
        fitted = network.encoder.adapt(given, _subject(train.train, device)).cpu().numpy()
    length, patch = network.encoder.length, network.encoder.patch
    n_voxels = length if network.encoder.adapters else test.n_voxels[0]
    counted = np.zeros(length, bool)
    counted[max(length - n_voxels, 0) : n_voxels] = True
    generator = torch.Generator().manual_seed(seed)
    errors, shown = np.zeros((len(rows), 3)), None
    for _ in range(DRAWS):
        ratio = network.settings["mask_ratio"]
        masks = networks.draw_mask(generator, 1, network.encoder.n_tokens, ratio)
        visible = np.zeros(length // patch, bool)
        visible[masks[0].numpy()] = True
        visible = np.repeat(visible, patch)
        seen = true.numpy()
        completed = {"model": complete_responses(network, true, masks, device)}
        completed |= {name: seen.copy() for name in PREDICTORS[1:]}
        completed["mean"][:, ~visible] = 0
        completed["neighbour"][:, ~visible] = predict_neighbour(fitted, seen, visible)
        scored = counted & ~visible
        for column, name in enumerate(PREDICTORS):
            wrong = np.square(completed[name][:, scored] - seen[:, scored])
            errors[:, column] += wrong.mean(axis=1) / DRAWS
        if shown is None:
            shown = {name: values[:, :n_voxels] for name, values in completed.items()}
            spread = np.broadcast_to(visible[:n_voxels], shown["model"].shape)
            shown |= {"true": seen[:, :n_voxels], "visible": spread}
    return errors, shown


def _subject(rows, device):
    """The only subject, for adapters."""
    return torch.zeros(len(rows), dtype=torch.int64, device=device)


@torch.no_grad()
def pool_states(
    encoder: Encoder, samples: TrainingSet | TestSet, rows: np.ndarray, device: torch.device
) -> np.ndarray:
    """Mean state of the tokens of samples, and state of the class token, float32 (n, 2 x width).

    Parameters
    ----------
    encoder : nsdldm.trained.networks.Encoder
    samples : TrainingSet or TestSet
    rows : int array of shape (n,)
    device : torch.device

    Returns
    -------
    float32 array of shape (n, 2 x width)
    """
    encoder, pooled = encoder.to(device).eval(), []
    for part in _batches(len(rows)):
        batch = samples.batch(rows[part])
        states = encoder(batch["responses"].to(device), None, batch["subject"].to(device))
        pooled.append(torch.cat([states[:, 1:].mean(1), states[:, 0]], dim=1).float().cpu())
    return torch.cat(pooled).numpy()


def find_images(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Find which images are nearest to their own prediction.

    Parameters
    ----------
    predicted, true : float arrays of shape (n, ..., d)
        Vectors whose cosines are compared, averaged over the middle axes.

    Returns
    -------
    bool array of shape (n,)
        Whether an image's own vector is nearer than all others.
    """
    units = [v / np.linalg.norm(v, axis=-1, keepdims=True).clip(1e-12) for v in (predicted, true)]
    cosines = np.tensordot(*units, axes=[tuple(range(1, predicted.ndim))] * 2)
    own = np.diag(cosines).copy()
    np.fill_diagonal(cosines, -np.inf)
    return own > cosines.max(axis=1)


def probe(
    X: np.ndarray, X_test: np.ndarray, train: np.ndarray, aims: np.ndarray, aims_test: np.ndarray
) -> np.ndarray:
    """Find test images with a linear readout fitted on training rows.

    Parameters
    ----------
    X, X_test : float32 arrays of shape (n_train, n), (n_test, n)
    train : int array of shape (n_train,)
        Images of the training rows; folds are grouped by them.
    aims, aims_test : float32 arrays of shape (n_train, d), (n_test, d)
        CLIP's embeddings of the pictures.

    Returns
    -------
    bool array of shape (n_test,)
    """
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    deviation[deviation == 0] = 1
    X, X_test = ((values - mean) / deviation for values in (X, X_test))
    middle = aims.mean(axis=0)
    folds = ridge.group_folds(train, FOLDS, 0)
    predicted, *_ = ridge.fit_decoder(X, aims - middle, X_test, ALPHAS, folds, True)
    return find_images(predicted, aims_test - middle)


@torch.no_grad()
def predict_by_heads(
    network: Alignment, samples: TestSet | TrainingSet, rows: np.ndarray, device: torch.device
) -> dict[str, np.ndarray]:
    """Predictions of stage 2's own heads for some rows.

    Parameters
    ----------
    network : nsdldm.trained.alignment.Alignment
    samples : nsdldm.trained.data.TestSet or TrainingSet
    rows : int array of shape (n,)
    device : torch.device

    Returns
    -------
    dict of float32 array
        Depending on the heads: image, CLIP's tokens of the picture or its embedding, (n, k, d); and
        text, the captions' embedding, (n, d).
    """
    network = network.to(device)
    heads = {"image": network.with_image and network.predict_image}
    heads["text"] = network.with_text and network.predict_text
    made = {name: [] for name, predict in heads.items() if predict}
    for part in _batches(len(rows)):
        batch = samples.batch(rows[part])
        states = network.embed(batch["responses"].to(device), subject=batch["subject"].to(device))
        for name, parts in made.items():
            parts.append(heads[name](*states).float().cpu())
    return {name: torch.cat(parts).numpy() for name, parts in made.items()}


class SubjectFiles(NamedTuple):
    """Files of one subject.

    Parameters
    ----------
    train, train_rows, test, test_rows : path
        As `nsdldm.trained.data.join_responses` writes them.
    images : path
        ``images.tsv``.
    clip_image, clip_text : path
        As `nsdldm.trained.clip.embed_clip` writes them.
    """

    train: Path
    train_rows: Path
    test: Path
    test_rows: Path
    images: Path
    clip_image: Path
    clip_text: Path


def evaluate_encoders(
    *,
    subject: SubjectFiles,
    encoders: dict[str, Path],
    aligned: dict[str, Path],
    before: dict[str, str],
    seed: int,
    bootstrap: int,
    device: str,
    masked: Path,
    completed: Path,
    retrieval: Path,
) -> None:
    """Score the first and second stages of a subject's decoders on the test images.

    Parameters
    ----------
    subject : SubjectFiles
    encoders, aligned : dict of path
        Weights of stage 1 by encoder, and of stage 2 by method.
    before : dict of str
        By method, its encoder.
    seed : int
        Of masks and intervals.
    bootstrap : int
        Draws of images.
    device : {"auto", "cpu", "cuda"}
    masked : path
        Output: encoder, predictor (model, mean: the voxel's training mean, neighbour: linear
        regression on the nearest visible voxel), n_images, mse with ci_low and ci_high (95 %, over
        images), and gain with gain_low and gain_high: by how much the model's error is smaller.
    completed : path
        Output: HDF5 of the first encoder with true, model, mean, neighbour (float32) and visible
        (bool) of shape (n_test, n_voxels), and nsd_id.
    retrieval : path
        Output: name (encoder or method), stage, readout, n_images, top1, the fraction of test
        images that are the nearest of all to their own prediction, with ci_low and ci_high; chance;
        and, for probes, gain with gain_low and gain_high over stage 1 of the same encoder.
        Readouts: ``probe``, ridge from pooled states to CLIP's embedding of the picture, fitted on
        training rows; ``image`` and ``text``, stage 2's own heads, compared with their training
        targets. ``responses`` is the probe of the responses themselves.
    """
    device = choose_device(device)
    ridge.set_device(device.type)
    features = {"clip_image": {"": subject.clip_image}}
    paths = {"": subject.train}, {"": subject.train_rows}
    errors, found, shown = {}, {}, None
    for name, path in encoders.items():
        network, metadata = load_pretraining(path)
        samples = TrainingSet(*paths, metadata["vector"], {"": subject.images}, features)
        tested = TestSet(subject.test, subject.test_rows, metadata["vector"])
        errors[name], first = score_completion(network, samples, tested, seed, device)
        shown = shown or first
        logger.info("%s: mean squared errors %s", name, errors[name].mean(axis=0).round(4))
    places = _find_rows(subject.images, tested.nsd_ids)
    pictures = np.array(load_array(subject.clip_image)[places], np.float32)
    captions = np.array(load_array(subject.clip_text)[places], np.float32)
    aims = samples.features("clip_image", np.arange(len(samples.nsd_ids)))[:, 0].numpy()
    everything = np.arange(len(samples.nsd_ids))

    def read_out(X, X_test):
        return probe(X, X_test, samples.nsd_ids, aims, pictures[:, 0])

    rows = np.arange(len(tested.nsd_ids))
    own = samples.responses(everything).numpy(), tested.responses(rows).numpy()
    found["responses", 0, "probe"] = read_out(*own)
    for stage, group in ((1, encoders), (2, aligned)):
        for name, path in group.items():
            encoder, _ = load_encoder(path)
            states = (
                pool_states(encoder, samples, everything, device),
                pool_states(encoder, tested, rows, device),
            )
            found[name, stage, "probe"] = read_out(*states)
    for name, path in aligned.items():
        if read_metadata(path)["alignment"]["align"] != "cross_mae":
            network, _ = load_alignment(path)
            for head, predicted in predict_by_heads(network, tested, rows, device).items():
                truth = captions if head == "text" else pictures[:, : predicted.shape[1]]
                found[name, 2, head] = find_images(predicted, truth)
    save_table(masked, _tabulate_errors(errors, bootstrap, seed))
    save_table(retrieval, _tabulate_found(found, before, bootstrap, seed))
    with create_hdf5(completed, sum(values.nbytes for values in shown.values())) as file:
        for name, values in shown.items():
            file.create_dataset(name, data=values, compression="gzip")
        file["nsd_id"] = tested.nsd_ids


def _find_rows(images, nsd_ids):
    """Rows of images in their table."""
    table = load_table(images)
    return pd.Series(np.arange(len(table)), index=table["nsd_id"])[nsd_ids].to_numpy()


def _interval(values, bootstrap, seed):
    """Mean over images, with its interval."""
    low, high = bootstrap_interval(values[:, None], bootstrap, seed)
    return float(values.mean()), float(low[0]), float(high[0])


def _tabulate_errors(errors, bootstrap, seed):
    """The table of completed responses."""
    rows = []
    for name, values in errors.items():
        for column, predictor in enumerate(PREDICTORS):
            row = {"encoder": name, "predictor": predictor, "n_images": len(values)}
            scores = _interval(values[:, column], bootstrap, seed)
            row |= dict(zip(("mse", *SCORES[1:]), scores, strict=True))
            gain = _interval(values[:, column] - values[:, 0], bootstrap, seed)
            rows.append(row | dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True)))
    return pd.DataFrame(rows)


def _tabulate_found(found, before, bootstrap, seed):
    """The table of images found."""
    rows = []
    for (name, stage, readout), hits in found.items():
        values = hits.astype(float)
        row = {"name": name, "stage": stage, "readout": readout, "n_images": len(hits)}
        scores = _interval(values, bootstrap, seed)
        row |= dict(zip(("top1", *SCORES[1:]), scores, strict=True)) | {"chance": 1 / len(hits)}
        gain = (np.nan,) * 3
        # Heads have other targets than the probe of stage 1.
        if stage == 2 and readout == "probe":
            gain = _interval(values - found[before[name], 1, "probe"], bootstrap, seed)
        rows.append(row | dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True)))
    return pd.DataFrame(rows)
