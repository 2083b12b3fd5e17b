import math

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing, nn

from nsdldm.trained.contrast import align_cosine, cross_contrast, info_nce, self_contrast


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def reference(a, b, temperature):
    """InfoNCE of one direction, in float64 and one term at a time."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    terms = []
    for i in range(len(a)):
        cosines = [a[i] @ row / np.linalg.norm(a[i]) / np.linalg.norm(row) for row in b]
        exponentials = [math.exp(cosine / temperature) for cosine in cosines]
        terms.append(-math.log(exponentials[i] / sum(exponentials)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("n, temperature", [(2, 1.0), (5, 0.1), (16, 0.5)])
def test_closed_forms(n, temperature):
    unit = torch.eye(n)
    expected = math.log(1 + (n - 1) * math.exp(-1 / temperature))
    assert info_nce(unit, 3 * unit, temperature).item() == pytest.approx(expected, abs=1e-6)
    # Opposite to the own partner, orthogonal to all others.
    expected = math.log(1 + (n - 1) * math.exp(1 / temperature))
    assert info_nce(unit, -unit, temperature).item() == pytest.approx(expected, rel=1e-5)
    same = torch.ones(n, 3)
    assert info_nce(same, same, temperature).item() == pytest.approx(math.log(n), rel=1e-6)


def test_one_sample_has_nothing_to_be_told_from():
    a = draw(1, 4).requires_grad_()
    loss = info_nce(a, draw(1, 4, seed=1))
    loss.backward()
    assert loss.item() == 0
    assert not a.grad.any()


@pytest.mark.parametrize("symmetric", [False, True])
def test_info_nce_agrees_with_a_loop(symmetric):
    a, b = draw(7, 12), draw(7, 12, seed=1)
    expected = reference(a, b, 0.1)
    if symmetric:
        expected = (expected + reference(b, a, 0.1)) / 2
    assert info_nce(a, b, 0.1, symmetric).item() == pytest.approx(expected, rel=1e-5)


def test_info_nce_gradients_agree_with_differences():
    a, b = draw(4, 5).requires_grad_(), draw(4, 5, seed=1).requires_grad_()
    info_nce(a, b, 0.5).backward()
    step = 1e-6
    for tensor in (a, b):
        for place in [(0, 0), (2, 3), (3, 4)]:
            values = []
            for sign in (1, -1):
                moved = [each.detach().double().clone() for each in (a, b)]
                moved[tensor is b][place] += sign * step
                values.append(reference(*moved, 0.5))
            expected = (values[0] - values[1]) / (2 * step)
            assert tensor.grad[place].item() == pytest.approx(expected, abs=1e-5)


def test_temperature_can_be_learned():
    temperature = torch.tensor(0.5, requires_grad=True)
    info_nce(draw(4, 5), draw(4, 5, seed=1), temperature).backward()
    step = 1e-5
    values = [reference(draw(4, 5), draw(4, 5, seed=1), 0.5 + sign * step) for sign in (1, -1)]
    expected = (values[0] - values[1]) / (2 * step)
    assert temperature.grad.item() == pytest.approx(expected, abs=1e-5)


def test_vis_dec_contrasts_compare_whole_vectors():
    responses = draw(6, 12)
    predicted = responses + 0.5 * draw(6, 12, seed=1)
    patches = predicted.unflatten(1, (3, 4))
    expected = reference(predicted, responses, 0.1)
    assert self_contrast(patches, responses).item() == pytest.approx(expected, rel=1e-5)
    assert self_contrast(patches, responses) < self_contrast(patches.flip(0), responses)
    other = patches + draw(6, 3, 4, seed=2)
    expected = reference(predicted, other.flatten(1), 0.1)
    assert cross_contrast(patches, other).item() == pytest.approx(expected, rel=1e-5)


def test_both_maskings_are_trained():
    predicted, other = draw(3, 8).requires_grad_(), draw(3, 8, seed=1).requires_grad_()
    cross_contrast(predicted, other).backward()
    assert predicted.grad.any() and other.grad.any()


def test_half_precision_is_raised_before_the_logarithm():
    a, b = draw(7, 300), draw(7, 300, seed=1)
    loss = info_nce(a.bfloat16(), b.bfloat16())
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(reference(a.bfloat16().float(), b.bfloat16().float(), 0.1))


def test_mixed_precision_does_not_reach_the_cosines():
    a, b = draw(7, 300), draw(7, 300, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        loss = info_nce(a, b)
    assert torch.equal(loss, info_nce(a, b))


def test_cosine_alignment():
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[3.0, 4.0], [1.0, 1.0]]])
    target = torch.tensor([[[5.0, 0.0], [3.0, 0.0]], [[-6.0, -8.0], [1.0, 0.0]]])
    expected = ((0 + 1) / 2 + (2 + 1 - math.sqrt(0.5)) / 2) / 2
    assert align_cosine(tokens, target).item() == pytest.approx(expected, rel=1e-6)


def test_cosine_alignment_does_not_see_lengths():
    tokens, target = draw(2, 3, 4).requires_grad_(), draw(2, 3, 4, seed=1)
    loss = align_cosine(tokens, target)
    loss.backward()
    assert align_cosine(7 * tokens, 0.1 * target).item() == pytest.approx(loss.item(), rel=1e-5)
    # So that the gradient is orthogonal to the vector.
    torch.testing.assert_close((tokens.grad * tokens).sum(-1), torch.zeros(2, 3), atol=1e-6, rtol=0)


def make_map():
    torch.manual_seed(3)
    return nn.Linear(6, 4)


SHARES = [([0, 1, 2], [3, 4, 5]), ([0, 1, 2, 3], [4, 5])]


def run_process(rank, folder):
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    found = []
    for places in SHARES:
        network, rows = make_map(), places[rank]
        loss = info_nce(network(draw(6, 6)[rows]), network(draw(6, 6, seed=1)[rows]), 0.1, True)
        # DistributedDataParallel takes the mean over processes.
        weighted = loss * 2 * len(rows) / 6
        weighted.backward()
        found.append(np.append(network.weight.grad.numpy().ravel(), weighted.item()))
    np.save(folder / f"{rank}.npy", found)
    distributed.destroy_process_group()


def test_two_processes_are_as_one_with_all_samples(tmp_path):
    multiprocessing.spawn(run_process, (tmp_path,), nprocs=2)
    found = np.mean([np.load(tmp_path / f"{rank}.npy") for rank in (0, 1)], axis=0)
    network = make_map()
    loss = info_nce(network(draw(6, 6)), network(draw(6, 6, seed=1)), 0.1, symmetric=True)
    loss.backward()
    expected = np.append(network.weight.grad.numpy().ravel(), loss.item())
    np.testing.assert_allclose(found, [expected, expected], rtol=1e-4, atol=1e-6)
