"""Losses based on cosines between vectors, shared by the stages.

Cosines and logarithms are computed in float32, whatever the precision of the networks.
"""

from __future__ import annotations

import torch
from torch import distributed
from torch.distributed.nn.functional import all_gather
from torch.nn import functional


def info_nce(
    a: torch.Tensor,
    b: torch.Tensor,
    temperature: float | torch.Tensor = 0.1,
    symmetric: bool = False,
) -> torch.Tensor:
    """Compute how well each vector identifies its partner among the partners of all samples.

    InfoNCE (van den Oord et al., 2018) on cosines: the mean over samples i of -log(exp(cos(a_i,
    b_i) / T) / sum_j exp(cos(a_i, b_j) / T)). If training has several processes, j runs over the
    samples of all of them. The mean of the processes' losses, weighted by their numbers of samples,
    equals the loss of one process with all samples, including its gradients.

    Parameters
    ----------
    a, b : tensors of shape (n, d)
        Row i of one belongs to row i of the other.
    temperature : float or scalar tensor
        T.
    symmetric : bool
        Average with the loss of b identifying a, as in CLIP.

    Returns
    -------
    scalar float32 tensor
        log(n) if vectors are uninformative; 0 for a single sample, which has no others.
    """
    a, b = (functional.normalize(vectors.float(), dim=1) for vectors in (a, b))
    loss = _pick(a, b, temperature)
    return (loss + _pick(b, a, temperature)) / 2 if symmetric else loss


def _pick(queries, keys, temperature):
    """InfoNCE of unit vectors, one direction."""
    keys, first = _gather(keys)
    partners = torch.arange(first, first + len(queries), device=queries.device)
    with torch.autocast(queries.device.type, enabled=False):
        return functional.cross_entropy(queries @ keys.T / temperature, partners)


def _gather(rows):
    """Rows of all processes, in order, and where the process' own rows begin."""
    if not (distributed.is_initialized() and distributed.get_world_size() > 1):
        return rows, 0
    count = torch.tensor([len(rows)], device=rows.device)
    counts = torch.cat(all_gather(count)).tolist()
    padded = functional.pad(rows, (0, 0, 0, max(counts) - len(rows)))
    # This passes gradients back to the process that a row comes from; distributed.all_gather does
    # not.
    parts = all_gather(padded)
    gathered = torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])
    return gathered, sum(counts[: distributed.get_rank()])


def self_contrast(
    predicted: torch.Tensor, responses: torch.Tensor, temperature: float = 0.1
) -> torch.Tensor:
    """Compute Vis-Dec's self-contrast: a prediction must resemble its own sample, not others.

    As in its published code (`MAEforFMRIContrast`), the prediction is the query, the samples of the
    batch are the keys, and both are whole response vectors, not only their masked part.

    Parameters
    ----------
    predicted : tensor of shape (n, length) or (n, n_tokens, patch)
        The decoder's output for every token, in order.
    responses : tensor of shape (n, length)
        Its target.
    temperature : float

    Returns
    -------
    scalar float32 tensor
    """
    return info_nce(predicted.flatten(1), responses, temperature)


def cross_contrast(
    predicted: torch.Tensor, other: torch.Tensor, temperature: float = 0.1
) -> torch.Tensor:
    """Compute Vis-Dec's cross-contrast: two maskings of a sample must lead to the same prediction.

    As in its published code, gradients flow through both predictions.

    Parameters
    ----------
    predicted, other : tensors of shape (n, length) or (n, n_tokens, patch)
        As `self_contrast`, each from its own masking.
    temperature : float

    Returns
    -------
    scalar float32 tensor
    """
    return info_nce(predicted.flatten(1), other.flatten(1), temperature)


def align_cosine(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Compute the cosine distance of equation 3 of the fCAE paper.

    The paper prints cos(y - y'); its next line defines the cosine of y and y', which is used here,
    as in CAE v2.

    Parameters
    ----------
    predicted, target : tensors of shape (n, ..., d)
        Vectors, such as the tokens of samples.

    Returns
    -------
    scalar float32 tensor
        Mean of 1 - cosine over a sample's vectors, then over samples.
    """
    return (1 - functional.cosine_similarity(predicted.float(), target.float(), dim=-1)).mean()
