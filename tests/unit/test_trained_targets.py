import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import rankdata
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import log_loss, pairwise_distances_argmin
from trained_files import (
    draw,
    one_thread,  # noqa: F401
)

from nsdldm.support.errors import InputError
from nsdldm.trained import targets
from nsdldm.trained.networks import draw_mask, take_tokens

N, N_TOKENS, PATCH = 40, 6, 4
PATCHES = draw(N, N_TOKENS, PATCH).numpy()
KINDS = ["kmeans", "randproj", "quantile"]


def hide(seed=0, n=7):
    """Patches of other rows, at masked places."""
    _, masked = draw_mask(torch.Generator().manual_seed(seed), n, N_TOKENS, 0.5)
    return take_tokens(draw(n, N_TOKENS, PATCH, seed=5), masked), masked


def test_values_are_their_own_target():
    target = targets.fit_target("mse", PATCHES, 8, 0)
    hidden, masked = hide()
    outputs = draw(7, 3, PATCH, seed=6)
    expected = np.mean((outputs.numpy() - hidden.numpy()) ** 2)
    assert target.loss(outputs, hidden, masked).item() == pytest.approx(expected, rel=1e-5)
    assert target.decode(outputs, masked) is outputs
    assert target.n_outputs == PATCH


def find_codes(kind, target, hidden):
    """The nearest code of each patch, by scikit-learn."""
    flat = hidden.flatten(0, 1).double().numpy()
    return pairwise_distances_argmin(flat @ target.projection.double().numpy(), target.codes)


@pytest.mark.parametrize("kind", ["kmeans", "randproj"])
def test_one_code_a_patch(kind):
    target = targets.fit_target(kind, PATCHES, 8, 0)
    hidden, masked = hide()
    codes = find_codes(kind, target, hidden)
    assert np.array_equal(target.encode(hidden).flatten(), codes)
    assert len(set(codes)) > 4
    outputs = draw(7, 3, 8, seed=6)
    expected = log_loss(codes, softmax(outputs.double().flatten(0, 1), axis=1), labels=range(8))
    assert target.loss(outputs, hidden, masked).item() == pytest.approx(expected, rel=1e-5)
    expected = softmax(outputs.double().numpy(), axis=-1) @ target.means.double().numpy()
    np.testing.assert_allclose(target.decode(outputs, masked), expected, rtol=1e-4, atol=1e-6)
    sure = 100 * torch.nn.functional.one_hot(target.encode(hidden), 8).float()
    torch.testing.assert_close(target.decode(sure, masked), target.means[target.encode(hidden)])


def test_centres_are_those_of_k_means():
    target = targets.fit_target("kmeans", PATCHES, 5, 3)
    other = MiniBatchKMeans(5, random_state=3, n_init=1, batch_size=4096)
    other.fit(PATCHES.reshape(-1, PATCH))
    np.testing.assert_allclose(target.codes, other.cluster_centers_, rtol=1e-5)
    assert torch.equal(target.codes, target.means)
    assert torch.equal(target.projection, torch.eye(PATCH))


def test_random_codes_are_of_length_1_and_stand_for_mean_patches():
    target = targets.fit_target("randproj", PATCHES, 60, 0)
    np.testing.assert_allclose(target.codes.norm(dim=1), 1, rtol=1e-5)
    assert target.projection.shape == (PATCH, 16)
    flat = PATCHES.reshape(-1, PATCH)
    codes = target.encode(torch.from_numpy(flat)).numpy()
    for code in range(60):
        own = flat[codes == code]
        expected = own.mean(axis=0) if len(own) else flat.mean(axis=0)
        np.testing.assert_allclose(target.means[code], expected, rtol=1e-4, atol=1e-6)
    assert 20 < len(set(codes)) < 60
    # Nothing of it but the means is fitted.
    other = targets.fit_target("randproj", PATCHES[::-1] * 2, 60, 0)
    assert torch.equal(other.codes, target.codes)
    assert torch.equal(other.projection, target.projection)


@pytest.mark.parametrize("n, n_codes", [(40, 4), (10, 4), (41, 3), (9, 9)])
def test_one_quantile_a_voxel(n, n_codes):
    patches = draw(n, N_TOKENS, PATCH, seed=2).numpy()
    target = targets.fit_target("quantile", patches, n_codes, 0)
    assert target.n_outputs == PATCH * n_codes
    places = torch.arange(N_TOKENS).expand(n, -1)
    codes = target.encode(torch.from_numpy(patches), places).numpy()
    # Rank r of n values is the quantile r / (n - 1), as numpy interpolates.
    quantile = (rankdata(patches, axis=0) - 1) / (n - 1)
    np.testing.assert_array_equal(codes, np.maximum(np.ceil(quantile * n_codes - 1e-9) - 1, 0))
    for place in np.ndindex(N_TOKENS, PATCH):
        column, own = patches[:, *place], codes[:, *place]
        for code in range(n_codes):
            expected = column[own == code].mean()
            assert target.means[*place, code].item() == pytest.approx(expected, rel=1e-5)


def test_loss_and_expectation_of_quantiles():
    target = targets.fit_target("quantile", PATCHES, 4, 0)
    hidden, masked = hide()
    outputs = draw(7, 3, PATCH * 4, seed=6)
    losses, expected = [], np.empty((7, 3, PATCH))
    for row, k, voxel in np.ndindex(7, 3, PATCH):
        edges = np.quantile(PATCHES[:, masked[row, k], voxel].astype(np.float64), [0.25, 0.5, 0.75])
        code = sum(hidden[row, k, voxel].item() > edges)
        logits = outputs[row, k, 4 * voxel : 4 * voxel + 4].double().numpy()
        losses.append(-log_softmax(logits)[code])
        expected[row, k, voxel] = softmax(logits) @ target.means[masked[row, k], voxel].numpy()
    found = target.loss(outputs, hidden, masked).item()
    assert found == pytest.approx(np.mean(losses), rel=1e-5)
    np.testing.assert_allclose(target.decode(outputs, masked), expected, rtol=1e-4, atol=1e-6)


def test_voxels_of_few_values():
    """Such as one that is missing, and 0 everywhere."""
    patches = PATCHES.copy()
    patches[:, 0] = 0
    patches[:, 1] = np.where(np.arange(N) < 30, 0, 5)[:, None]
    target = targets.fit_target("quantile", patches, 4, 0)
    masked = torch.tensor([[0, 1]])
    hidden = torch.tensor([[[0.0] * PATCH, [0.0, 5, 0, 5]]])
    codes = target.encode(hidden, masked)
    sure = 100 * torch.nn.functional.one_hot(codes, 4).float().flatten(-2)
    torch.testing.assert_close(target.decode(sure, masked), hidden)
    assert target.means.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_does_not_reach_codes(kind):
    target = targets.fit_target(kind, PATCHES, 8, 0)
    hidden, masked = hide(n=400)
    outputs = draw(400, 3, target.n_outputs, seed=6)
    expected = target.loss(outputs, hidden, masked), target.decode(outputs, masked)
    with torch.autocast("cpu", torch.bfloat16):
        found = target.loss(outputs, hidden, masked), target.decode(outputs, masked)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_of_many_patches_a_part_is_fitted(kind, monkeypatch):
    monkeypatch.setattr(targets, "MOST_PATCHES", 60)
    expected = targets.fit_target(kind, PATCHES, 3, 0).state_dict()
    again = targets.fit_target(kind, PATCHES, 3, 0).state_dict()
    other = targets.fit_target(kind, PATCHES, 3, 1).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in expected.items())
    assert not torch.equal(expected["means"], other["means"])


@pytest.mark.parametrize("kind", KINDS)
def test_more_codes_than_training_patches(kind):
    with pytest.raises(InputError, match=r"at most the .* Lower codes"):
        targets.fit_target(kind, PATCHES, 1000, 0)


@pytest.mark.parametrize("kind", ["mse", *KINDS])
def test_targets_survive_storage(kind):
    target = targets.fit_target(kind, PATCHES, 4, 0)
    state = {f"target.{name}": tensor for name, tensor in target.state_dict().items()}
    state["encoder.start"] = torch.zeros(1)
    restored = targets.restore_target({"target": kind, "patch": PATCH}, state)
    assert type(restored) is type(target)
    hidden, masked = hide()
    outputs = draw(7, 3, target.n_outputs)
    assert torch.equal(restored.loss(outputs, hidden, masked), target.loss(outputs, hidden, masked))
    assert torch.equal(restored.decode(outputs, masked), target.decode(outputs, masked))
