"""What the first stage predicts for a masked patch: its values, or discrete codes.

The paper uses the cross-entropy of a discretised patch but does not say how to discretise
responses, for which there is no tokenizer as there is for images. Here are four ways, all fitted on
training rows only:

``mse``
    The values themselves, with the squared error (MAE, MinD-Vis).
``kmeans``
    The nearest k-means centre of training patches.
``randproj``
    The random unit vector nearest to a random projection of the patch, not fitted (BEST-RQ).
``quantile``
    For each voxel, the quantile of the training responses that its value falls into.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import nn
from torch.nn import functional

from nsdldm.support.devices import check_choice
from nsdldm.support.errors import Finding, InputError

TARGETS = ("mse", "kmeans", "randproj", "quantile")
# Number of training patches that centres are fitted to: 13 MB at 16 voxels.
MOST_PATCHES = 200_000
PROJECTED = 16
AT_ONCE = 16_384


class Values(nn.Module):
    """The target `mse`: the values of a patch."""

    def __init__(self, patch):
        super().__init__()
        self.n_outputs = patch

    def loss(
        self, outputs: torch.Tensor, patches: torch.Tensor, masked: torch.Tensor
    ) -> torch.Tensor:
        """Mean squared error of outputs (n, m, patch) of patches of that shape."""
        return functional.mse_loss(outputs, patches)

    def decode(self, outputs: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Values (n, m, patch) that outputs stand for."""
        return outputs


class Codes(nn.Module):
    """The targets `kmeans` and `randproj`: one code per patch.

    Parameters
    ----------
    projection : float32 tensor of shape (patch, d)
        Projection of a patch before comparison.
    codes : float32 tensor of shape (n_codes, d)
    means : float32 tensor of shape (n_codes, patch)
        The patch that a code stands for: the centre, or the mean of the training patches with that
        code.
    """

    def __init__(self, projection, codes, means):
        super().__init__()
        for name, value in (("projection", projection), ("codes", codes), ("means", means)):
            self.register_buffer(name, value)
        self.n_outputs = len(codes)

    def encode(self, patches: torch.Tensor) -> torch.Tensor:
        """Codes, int64 (...,), of patches (..., patch)."""
        # In float32, whatever the networks' precision, since codes can be close to each other.
        with torch.autocast(patches.device.type, enabled=False):
            projected = patches.float() @ self.projection
            parts = projected.flatten(0, -2).split(AT_ONCE)
            squared = self.codes.square().sum(1)
            nearest = [(squared - 2 * part @ self.codes.T).argmin(1) for part in parts]
        return torch.cat(nearest).view(patches.shape[:-1])

    def loss(
        self, outputs: torch.Tensor, patches: torch.Tensor, masked: torch.Tensor
    ) -> torch.Tensor:
        """Cross-entropy of outputs (n, m, n_codes) with the codes of patches (n, m, patch)."""
        return functional.cross_entropy(
            outputs.flatten(0, 1).float(), self.encode(patches).flatten()
        )

    def decode(self, outputs: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Values (n, m, patch): the mean over codes, weighted by probability."""
        with torch.autocast(outputs.device.type, enabled=False):
            return outputs.float().softmax(-1) @ self.means


class Quantiles(nn.Module):
    """The target `quantile`: one code per voxel.

    Parameters
    ----------
    edges : float32 tensor of shape (n_tokens, patch, n_codes - 1)
        Between the quantiles of each voxel.
    means : float32 tensor of shape (n_tokens, patch, n_codes)
        Mean training response within each; the edge if there is none, as for a voxel with few
        values.
    """

    def __init__(self, edges, means):
        super().__init__()
        self.register_buffer("edges", edges)
        self.register_buffer("means", means)
        self.n_codes = means.shape[-1]
        self.n_outputs = means.shape[1] * self.n_codes

    def encode(self, patches: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Codes, int64 (n, m, patch), of patches (n, m, patch) at the positions (n, m)."""
        return (patches.float()[..., None] > self.edges[masked.to(patches.device)]).sum(-1)

    def loss(
        self, outputs: torch.Tensor, patches: torch.Tensor, masked: torch.Tensor
    ) -> torch.Tensor:
        """Mean cross-entropy of outputs (n, m, patch x n_codes) with the codes of patches."""
        logits = outputs.float().unflatten(-1, (-1, self.n_codes))
        return functional.cross_entropy(
            logits.flatten(0, 2), self.encode(patches, masked).flatten()
        )

    def decode(self, outputs: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Values (n, m, patch): the mean over codes, weighted by probability."""
        weights = outputs.float().unflatten(-1, (-1, self.n_codes)).softmax(-1)
        return (weights * self.means[masked.to(outputs.device)]).sum(-1)


def fit_target(
    kind: str, patches: np.ndarray, n_codes: int, seed: int
) -> Values | Codes | Quantiles:
    """Fit a target to training rows.

    Parameters
    ----------
    kind : {"mse", "kmeans", "randproj", "quantile"}
    patches : float32 array of shape (n, n_tokens, patch)
        Of training rows; if there are more than 200,000 patches, a random subset is used.
    n_codes : int
        Per patch, or for ``quantile`` per voxel.
    seed : int

    Returns
    -------
    Values, Codes or Quantiles

    Raises
    ------
    InputError
        There are more codes than patches.
    """
    check_choice("kind", kind, TARGETS)
    if kind == "mse":
        return Values(patches.shape[-1])
    rng = np.random.default_rng(seed)
    if kind == "quantile":
        return _fit_quantiles(patches, n_codes, rng)
    flat = patches.reshape(-1, patches.shape[-1])
    if len(flat) > MOST_PATCHES:
        flat = flat[np.sort(rng.choice(len(flat), MOST_PATCHES, replace=False))]
    if n_codes > len(flat):
        expected = f"at most the {len(flat)} patches of the training rows"
        raise InputError(Finding("trained: codes", expected, str(n_codes), "Lower codes"))
    if kind == "randproj":
        return _fit_random(flat, n_codes, rng)
    fitted = MiniBatchKMeans(n_codes, random_state=seed, n_init=1, batch_size=4096).fit(flat)
    centres = torch.from_numpy(fitted.cluster_centers_.astype(np.float32))
    return Codes(torch.eye(flat.shape[1]), centres, centres.clone())


def _fit_random(flat, n_codes, rng):
    """Random projection and codes; the patch that a code stands for is fitted, for
    reconstructions."""
    projection = rng.standard_normal((flat.shape[1], PROJECTED), np.float32)
    codes = rng.standard_normal((n_codes, PROJECTED), np.float32)
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    target = Codes(*map(torch.from_numpy, (projection, codes)), torch.zeros(n_codes, flat.shape[1]))
    found = target.encode(torch.from_numpy(flat)).numpy()
    counts = np.bincount(found, minlength=n_codes)[:, None]
    sums = np.zeros((n_codes, flat.shape[1]))
    np.add.at(sums, found, flat)
    # A code without training patches stands for the mean patch.
    means = np.where(counts > 0, sums / np.maximum(counts, 1), flat.mean(axis=0))
    target.means.copy_(torch.from_numpy(means))
    return target


def _fit_quantiles(patches, n_codes, rng):
    """Edges between the quantiles of each voxel and the mean response within each."""
    if n_codes > len(patches):
        expected = f"at most the {len(patches)} training rows"
        raise InputError(Finding("trained: codes", expected, str(n_codes), "Lower codes"))
    rows = max(MOST_PATCHES // patches.shape[1], 10 * n_codes)
    if len(patches) > rows:
        patches = patches[np.sort(rng.choice(len(patches), rows, replace=False))]
    shares = np.arange(1, n_codes) / n_codes
    edges = np.moveaxis(np.quantile(patches, shares, axis=0), 0, -1).astype(np.float32)
    return Quantiles(torch.from_numpy(edges), torch.from_numpy(_average_within(patches, edges)))


def _average_within(patches, edges):
    """Mean response of each voxel between its edges; (n_tokens, patch, n_codes)."""
    counts, sums = np.zeros((2, *edges.shape[:2], edges.shape[2] + 1))
    for code in range(counts.shape[-1]):
        inside = np.ones(patches.shape, bool)
        if code:
            inside &= patches > edges[..., code - 1]
        if code < edges.shape[-1]:
            inside &= patches <= edges[..., code]
        counts[..., code] = inside.sum(axis=0)
        sums[..., code] = (patches * inside).sum(axis=0, dtype=np.float64)
    nearest = edges[..., np.minimum(np.arange(counts.shape[-1]), edges.shape[-1] - 1)]
    return np.where(counts > 0, sums / np.maximum(counts, 1), nearest).astype(np.float32)


def restore_target(settings: dict, state: dict[str, torch.Tensor]) -> Values | Codes | Quantiles:
    """Make a target from the weights of stage 1.

    Parameters
    ----------
    settings : dict
        Of stage 1.
    state : dict of tensor
        Its weights.

    Returns
    -------
    Values, Codes or Quantiles
    """
    own = {n.removeprefix("target."): t for n, t in state.items() if n.startswith("target.")}
    if settings["target"] == "mse":
        return Values(settings["patch"])
    return (Quantiles if settings["target"] == "quantile" else Codes)(**own)
