import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional
from trained_files import (
    CLIP,
    N_TOKENS,
    alignment_inputs,
    draw,
    make_batch,
    make_encoder,
    needs_gpu,
    one_thread,  # noqa: F401
    pretraining_inputs,
    save,
    seeded,
    stage1,
    stage2,
    to_gpu,
    write_subject,
)

from nsdldm.support.errors import InputError
from nsdldm.trained.alignment import Alignment, align_encoder, load_alignment
from nsdldm.trained.checkpoints import load_encoder, load_weights
from nsdldm.trained.contrast import align_cosine, info_nce
from nsdldm.trained.networks import draw_mask, sparsify
from nsdldm.trained.pretraining import build_regressor, pretrain_encoder

KINDS = [{"kind": "cae"}, {"kind": "cae", "regressor_width": 6}, {"kind": "mae"}]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two subjects, and the first stage of one of them by both kinds."""
    home = tmp_path_factory.mktemp("alignment")
    write_subject(home / "subj01", 22)
    write_subject(home / "subj02", 13, seed=1)
    for kind in ("cae", "mae"):
        pretrain_encoder(**pretraining_inputs(home, home / kind, settings=stage1(kind, epochs=2)))
    return home


def make_network(kind="cae", n_voxels=None, regressor_width=8, **changes):
    settings = stage1(kind, regressor_width=regressor_width)
    encoder = make_encoder(n_voxels=n_voxels)
    regressor = build_regressor(settings, encoder) if kind == "cae" else None
    return Alignment(stage2(**changes), encoder, regressor, *CLIP)


def make_pairs(n=5):
    return make_batch(n) | {"clip_image": draw(n, *CLIP, seed=6), "clip_text": draw(n, 12, seed=7)}


@pytest.mark.parametrize("given", KINDS)
def test_states_are_in_the_order_of_tokens(given):
    network, responses = make_network(**given), make_batch()["responses"]
    kept, masked = draw_mask(seeded(), 5, N_TOKENS, 0.5)
    states, present = network.embed(responses, kept, masked)
    visible = network.encoder(responses, kept)
    for row in range(5):
        for k, place in enumerate(kept[row]):
            expected = visible[row, 1 + k]
            if network.regressor is not None:
                expected = network.regressor.enter(expected)
            torch.testing.assert_close(states[row, place], expected)
            assert present[row, place] == 1
    if network.regressor is None:
        assert (present.sum(dim=1) == 3).all()
        return
    assert present.all()
    others = network.regressor(visible, kept, masked)
    for row in range(5):
        torch.testing.assert_close(states[row, masked[row]], others[row])


@pytest.mark.parametrize("given", KINDS)
def test_without_a_mask_all_states_are_the_encoders(given):
    network, responses = make_network(**given), make_batch()["responses"]
    states, present = network.embed(responses)
    expected = network.encoder(responses)[:, 1:]
    if network.regressor is not None:
        expected = network.regressor.enter(expected)
    torch.testing.assert_close(states, expected)
    assert present.all() and present.shape == (5, N_TOKENS, 1)


def test_states_of_absent_tokens_count_nowhere():
    for changes in ({"mixer": "learned"}, {"mixer": "pool"}, {"level": "global"}):
        network = make_network("mae", **changes)
        states = draw(3, N_TOKENS, 8)
        present = torch.tensor([1.0, 0, 1, 1, 0, 1]).view(1, -1, 1).expand(3, -1, -1)
        other = torch.where(present.bool(), states, torch.tensor(77.0))
        for predict in (network.predict_image, network.predict_text):
            torch.testing.assert_close(predict(other, present), predict(states, present))


def test_predictions_of_pictures():
    states, present = draw(3, N_TOKENS, 8), torch.ones(3, N_TOKENS, 1)
    network = make_network()
    mixed = torch.einsum("ot,ntw->now", network.mixer.weight[..., 0], states)
    mixed = mixed + network.mixer.bias[:, None]
    found = network.predict_image(states, present)
    torch.testing.assert_close(found, network.image_head(mixed))
    assert found.shape == (3, *CLIP)
    network = make_network(mixer="pool")
    # Each picture token is the mean of the tokens of responses at its place: 6 of them to 5.
    pooled = torch.stack([states[:, k : k + 2].mean(dim=1) for k in range(5)], dim=1)
    torch.testing.assert_close(network.predict_image(states, present), network.image_head(pooled))
    network = make_network(level="global")
    expected = network.image_head(states.mean(dim=1))[:, None]
    torch.testing.assert_close(network.predict_image(states, present), expected)
    expected = network.text_head(states.mean(dim=1))
    torch.testing.assert_close(network.predict_text(states, present), expected)


def test_share_of_present_tokens_keeps_the_size_of_mixed_states():
    network = make_network("mae")
    torch.nn.init.zeros_(network.mixer.bias)
    present = torch.tensor([1.0, 0, 1, 0, 0, 1]).view(1, -1, 1)
    states = draw(1, N_TOKENS, 8)
    expected = 2 * (network.mixer.weight[..., 0] @ (states * present)[0])
    found = network.predict_image(states, present)[0]
    torch.testing.assert_close(found, network.image_head(expected))


@pytest.mark.parametrize("align", ["image", "text", "image+text"])
@pytest.mark.parametrize("level", ["token", "global"])
@pytest.mark.parametrize("kind", ["cae", "mae"])
def test_loss_is_that_of_the_paper(align, level, kind):
    network = make_network(kind, align=align, level=level, image_weight=0.7, text_weight=0.3)
    batch = make_pairs()
    losses = network(batch, seeded())
    generator = seeded()
    responses = sparsify(generator, batch["responses"], 0.2)
    masks = draw_mask(generator, 5, N_TOKENS, 0.75)
    states = network.embed(responses, *masks)
    total = 0
    if "image" in align:
        aim = batch["clip_image"] if level == "token" else batch["clip_image"][:, :1]
        expected = align_cosine(network.predict_image(*states), aim)
        torch.testing.assert_close(losses["image"], expected)
        total = total + 0.7 * expected
    if "text" in align:
        expected = info_nce(network.predict_text(*states), batch["clip_text"], 0.07, True)
        torch.testing.assert_close(losses["text"], expected)
        total = total + 0.3 * expected
    torch.testing.assert_close(losses["loss"], total)
    assert losses.keys() == {"loss", *align.split("+")}


def test_temperature_never_falls_below_that_of_clip():
    network = make_network(align="text")
    with torch.no_grad():
        network.steepness.fill_(50.0)
    loss = network(make_pairs(), seeded())["loss"]
    assert loss.isfinite()
    loss.backward()
    # It can come back.
    assert network.steepness.grad.abs() > 0 and network.steepness.item() < 5
    with torch.no_grad():
        expected = network(make_pairs(), seeded())["loss"]
        network.steepness.fill_(np.log(100))
    torch.testing.assert_close(network(make_pairs(), seeded())["loss"], expected)


VARIANTS = [
    {"kind": "cae", "regressor_width": 6},
    {"kind": "cae", "n_voxels": [20, 15]},
    {"kind": "cae", "train_regressor": True},
    {"kind": "mae"},
    {"kind": "mae", "level": "global"},
    {"kind": "mae", "mixer": "pool"},
]


@needs_gpu
@pytest.mark.parametrize("given", VARIANTS)
def test_gpus_draw_the_same_masks(given):
    network = make_network(**given)
    expected = network(make_pairs(), seeded())
    losses = network.cuda()(to_gpu(make_pairs()), seeded())
    for name, loss in losses.items():
        torch.testing.assert_close(loss.cpu(), expected[name], rtol=1e-3, atol=1e-4)
    with torch.autocast("cuda", torch.bfloat16):
        network(to_gpu(make_pairs()), seeded())["loss"].backward()


@pytest.mark.parametrize("align", ["image", "text", "image+text"])
@pytest.mark.parametrize("given", VARIANTS)
def test_everything_but_the_regressor_is_trained_in_any_precision(given, align):
    """Gradients pass through the frozen regressor all the same."""
    network = make_network(align=align, **given)
    exact = network(make_pairs(), seeded())
    with torch.autocast("cpu", torch.bfloat16):
        losses = network(make_pairs(), seeded())
    losses["loss"].backward()
    for name, loss in losses.items():
        torch.testing.assert_close(loss.float(), exact[name], rtol=0.1, atol=0.1)
    for name, parameter in network.named_parameters():
        if name.startswith("regressor.") and not given.get("train_regressor"):
            assert not parameter.requires_grad, name
        else:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert any("adapters" in name for name, _ in network.named_parameters()) == (
        "n_voxels" in given
    )


def test_gradients_reach_the_encoder_through_the_regressor():
    """With the states of visible tokens cut off, what is left comes by the regressor."""
    network, batch = make_network(align="image", mixer="pool"), make_pairs()
    kept, masked = draw_mask(seeded(), 5, N_TOKENS, 0.5)
    visible = network.encoder(batch["responses"], kept)
    others = network.regressor(visible, kept, masked)
    network.image_head(others).square().sum().backward()
    assert network.encoder.start.grad.any()
    assert all(p.grad is None for p in network.regressor.parameters())


def align(home, out, kind="cae", **changes):
    out.mkdir(exist_ok=True, parents=True)
    given = alignment_inputs(home, out, home / kind / "weights.safetensors", **changes)
    align_encoder(**given)
    return given["files"].weights.read_bytes(), given["files"].curve.read_bytes()


@pytest.mark.parametrize("kind", ["cae", "mae"])
def test_alignment_learns_and_its_weights_come_back(home, tmp_path, kind):
    settings = stage2(epochs=40, learning_rate=0.01)
    align(home, tmp_path, kind, settings=settings)
    curve = pd.read_csv(tmp_path / "curve.tsv", sep="\t")
    assert curve["loss"].iloc[-5:].mean() < 0.9 * curve["loss"].iloc[0]
    network, about = load_alignment(tmp_path / "weights.safetensors")
    assert about["stage"] == 2 and about["alignment"] == settings and about["clip"] == list(CLIP)
    first, _ = load_weights(home / kind / "weights.safetensors")
    state, _ = load_weights(tmp_path / "weights.safetensors")
    for name in first.keys() & state.keys():
        changed = not torch.equal(first[name], state[name])
        assert changed == name.startswith("encoder."), name
    encoder, _ = load_encoder(tmp_path / "weights.safetensors")
    responses = make_batch()["responses"]
    assert torch.equal(encoder(responses), network.encoder(responses))
    found = network.predict_image(*network.embed(responses))
    assert found.shape == (5, *CLIP) and not found.requires_grad
    assert "decoder.head.weight" in first and "decoder.head.weight" not in state


def test_best_weights_are_those_of_the_smallest_loss_of_validation_rows(home, tmp_path):
    settings = stage2(epochs=40, learning_rate=0.02)
    align(home, tmp_path, settings=settings)
    curve = pd.read_csv(tmp_path / "curve.tsv", sep="\t")
    assert curve["validation"].iloc[-1] > curve["validation"].min()
    best, _ = load_weights(tmp_path / "weights.safetensors")
    align(home, tmp_path / "last", settings=settings | {"keep": "last"})
    last, _ = load_weights(tmp_path / "last/weights.safetensors")
    assert not torch.equal(best["image_head.map.weight"], last["image_head.map.weight"])


def swap_test_set(source, folder):
    """A subject's files with other labels and responses of the test set, and other features."""
    folder.mkdir(parents=True)
    images = pd.read_csv(source / "images.tsv", sep="\t")
    tested = np.flatnonzero(images["split"] == "test")
    numbers = images["nsd_id"].to_numpy(copy=True)
    numbers[tested] = np.roll(numbers[tested], 1)
    save(folder / "images.tsv", images.assign(nsd_id=numbers))
    table = pd.read_csv(source / "test.tsv", sep="\t")
    save(folder / "test.tsv", table.assign(nsd_id=np.roll(table["nsd_id"], 2)))
    np.save(folder / "test.npy", np.load(source / "test.npy")[::-1] + 3)
    for name in ("clip_image", "clip_text"):
        values = np.load(source / f"{name}.npy")
        values[tested] *= -4
        np.save(folder / f"{name}.npy", values)
    for name in ("train.npy", "train.tsv"):
        (folder / name).write_bytes((source / name).read_bytes())


def test_labels_and_responses_of_the_test_set_change_no_trained_weight(home, tmp_path):
    swap_test_set(home / "subj01", tmp_path / "subj01")
    settings = stage1(epochs=2)
    pretrain_encoder(**pretraining_inputs(tmp_path, tmp_path / "cae", settings=settings))
    for name in ("weights.safetensors", "curve.tsv"):
        assert (tmp_path / "cae" / name).read_bytes() == (home / "cae" / name).read_bytes()
    expected = align(home, tmp_path / "expected")
    assert align(tmp_path, tmp_path / "found") == expected
    # The same of the training set changes them.
    images = pd.read_csv(home / "subj01/images.tsv", sep="\t")
    own = images["split"] == "train"
    images.loc[own, "nsd_id"] = np.roll(images.loc[own, "nsd_id"], 1)
    save(tmp_path / "subj01/images.tsv", images)
    assert align(tmp_path, tmp_path / "found")[0] != expected[0]


def test_stage_1_of_other_subjects(home, tmp_path):
    with pytest.raises(InputError, match=r"trained on subj01, subj02, found one of subj01"):
        align(home, tmp_path, subjects=("subj01", "subj02"))


def test_cosine_alignment_is_zero_where_predictions_are_clips():
    aim = functional.normalize(draw(5, *CLIP), dim=-1)
    assert align_cosine(aim * 3, aim).item() == pytest.approx(0, abs=1e-6)
