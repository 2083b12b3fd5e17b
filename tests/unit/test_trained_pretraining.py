import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional
from trained_files import (
    LENGTH,
    N_TOKENS,
    draw,
    make_batch,
    make_pretraining,
    needs_gpu,
    one_thread,  # noqa: F401
    pretraining_inputs,
    seeded,
    stage1,
    to_gpu,
    write_subject,
)

from nsdldm.support.errors import InputError
from nsdldm.trained import pretraining
from nsdldm.trained.checkpoints import load_encoder, load_weights
from nsdldm.trained.contrast import cross_contrast, self_contrast
from nsdldm.trained.networks import cut_patches, draw_mask, sparsify, take_tokens
from nsdldm.trained.pretraining import load_pretraining, pretrain_encoder
from nsdldm.trained.targets import fit_target

CONTRASTS = {"self_contrast": 1.0, "cross_contrast": 0.5, "target": "mse"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("pretraining")
    write_subject(home / "subj01", 22)
    write_subject(home / "subj02", 13, seed=1)
    return home


def hide(settings, responses, seed=0):
    """What a network draws from its generator: responses with dropped voxels, and masks."""
    generator = seeded(seed)
    dropped = sparsify(generator, responses, settings["sparsification"])
    masks = draw_mask(generator, len(responses), N_TOKENS, settings["mask_ratio"])
    return dropped, *masks, generator


def gradients(network):
    return {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("target", ["mse", "kmeans", "quantile"])
def test_loss_of_the_contextual_kind(target):
    """With regressor and encoder of different widths, so that the aim is mapped, too."""
    network = make_pretraining(target=target, regressor_width=6, align_weight=0.7)
    batch = make_batch()
    losses = network(batch, seeded())
    dropped, kept, masked, _ = hide(network.settings, batch["responses"])
    states = network.regressor(network.encoder(dropped, kept), kept, masked)
    # Masked tokens are those of the sparse responses, but what is reconstructed is whole.
    hidden = take_tokens(cut_patches(batch["responses"], 4), masked)
    reconstruction = network.target.loss(network.decoder(states, masked), hidden, masked)
    aim = network.regressor.enter(network.encoder(dropped, masked)[:, 1:])
    alignment = (states - aim).square().mean()
    torch.testing.assert_close(losses["reconstruction"], reconstruction)
    torch.testing.assert_close(losses["alignment"], alignment)
    torch.testing.assert_close(losses["loss"], reconstruction + 0.7 * alignment)
    assert losses.keys() == {"loss", "reconstruction", "alignment"}


def test_no_gradient_passes_through_the_aim_of_the_alignment():
    """As if the aim were numbers from a file; with the aim in the graph it would be another."""
    network = make_pretraining(regressor_width=6, align_weight=3.0)
    batch = make_batch()
    network(batch, seeded())["loss"].backward()
    found = gradients(network)

    def differentiate(constant):
        network.zero_grad()
        dropped, kept, masked, _ = hide(network.settings, batch["responses"])
        states = network.regressor(network.encoder(dropped, kept), kept, masked)
        aim = network.regressor.enter(network.encoder(dropped, masked)[:, 1:])
        if constant:
            aim = torch.from_numpy(aim.detach().numpy().copy())
        hidden = take_tokens(cut_patches(batch["responses"], 4), masked)
        loss = network.target.loss(network.decoder(states, masked), hidden, masked)
        (loss + 3 * functional.mse_loss(states, aim)).backward()
        return gradients(network)

    expected, other = differentiate(True), differentiate(False)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name])
    for name in ("encoder.norm.weight", "encoder.tokenizer.weight", "regressor.enter.0.weight"):
        assert not torch.allclose(found[name], other[name], rtol=1e-3), name


def test_encoding_masked_tokens_makes_no_gradient():
    network = make_pretraining()
    responses = draw(3, LENGTH).requires_grad_()
    _, masked = draw_mask(seeded(), 3, N_TOKENS, 0.5)
    aim = network.encode_masked(responses, masked)
    assert not aim.requires_grad and aim.grad_fn is None
    (aim.sum() + 0 * network.regressor.query.sum()).backward()
    assert responses.grad is None
    left = gradients(network)
    assert left.keys() == {"regressor.query"} and not left["regressor.query"].any()
    # It is of the masked tokens alone, by the encoder as it is now.
    hidden = torch.ones(3, N_TOKENS, dtype=torch.bool).scatter(1, masked, False)
    other = responses.detach().masked_fill(hidden.repeat_interleave(4, dim=1), math.nan)
    assert torch.equal(network.encode_masked(other, masked), aim)
    with torch.no_grad():
        network.encoder.start += 1
    assert not torch.equal(network.encode_masked(other, masked), aim)


def test_without_alignment_the_aim_plays_no_part():
    """Zero weight, and gradients of reconstruction alone."""
    network, batch = make_pretraining(align_weight=0.0), make_batch()
    losses = network(batch, seeded())
    assert torch.equal(losses["loss"], losses["reconstruction"]) and losses["alignment"] > 0


@pytest.mark.parametrize("kind", ["cae", "mae"])
def test_masked_voxels_are_seen_by_the_loss_alone(kind):
    network, batch = make_pretraining(kind=kind, sparsification=0.0), make_batch()
    _, kept, masked, _ = hide(network.settings, batch["responses"])
    outputs, _ = network.predict(batch["responses"], kept, masked)
    hidden = torch.zeros(5, N_TOKENS, dtype=torch.bool).scatter(1, masked, True)
    other = batch["responses"].masked_fill(hidden.repeat_interleave(4, dim=1), 9.0)
    assert torch.equal(network.predict(other, kept, masked)[0], outputs)
    losses = [network(b, seeded())["loss"] for b in (batch, batch | {"responses": other})]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("own_maps", [False, True])
def test_loss_of_the_plain_kind_is_that_of_mae(own_maps):
    """Against all tokens in their order, decoded together with mask tokens."""
    network = make_pretraining(kind="mae", own_maps=own_maps)
    batch = make_batch()
    losses = network(batch, seeded())
    dropped, kept, masked, _ = hide(network.settings, batch["responses"])
    visible = network.decoder.enter(network.encoder(dropped, kept))
    tokens = network.decoder.mask.expand(5, N_TOKENS, -1)
    tokens = tokens.scatter(1, kept[..., None].expand(-1, -1, 8), visible[:, 1:])
    states = torch.cat([visible[:, :1], tokens], dim=1) + network.decoder.positions
    for block in network.decoder.blocks:
        states = block(states)
    states = network.decoder.norm(states)[:, 1:]
    outputs = network.decoder.head(states)
    wrong = (outputs - cut_patches(batch["responses"], 4)).square().mean(dim=-1)
    expected = wrong.gather(1, masked).mean()
    torch.testing.assert_close(losses["reconstruction"], expected)
    assert losses.keys() == {"loss", "reconstruction"}


def test_contrasts_are_those_of_vis_dec():
    network = make_pretraining(kind="mae", reconstruction_weight=0.3, **CONTRASTS)
    batch = make_batch()
    losses = network(batch, seeded())
    clean = batch["responses"]
    dropped, kept, masked, generator = hide(network.settings, clean)
    first, _ = network.predict(dropped, kept, masked, everywhere=True)
    others = draw_mask(generator, 5, N_TOKENS, 0.75)
    second, _ = network.predict(dropped, *others, everywhere=True)
    expected = {"self_contrast": self_contrast(first, clean)}
    expected["cross_contrast"] = cross_contrast(first, second)
    wrong = take_tokens(first - cut_patches(clean, 4), masked)
    expected["reconstruction"] = wrong.square().mean()
    weights = {"self_contrast": 1.0, "cross_contrast": 0.5, "reconstruction": 0.3}
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss)
    total = sum(weights[name] * loss for name, loss in expected.items())
    torch.testing.assert_close(losses["loss"], total)


VARIANTS = [
    {"kind": "cae", "target": "quantile"},
    {"kind": "cae", "target": "kmeans", "own_maps": False, "regressor_width": 6},
    {"kind": "cae", "target": "mse", "n_voxels": [20, 15]},
    {"kind": "mae", **CONTRASTS},
    {"kind": "mae", "target": "quantile", "self_contrast": 1.0},
]


@needs_gpu
@pytest.mark.parametrize("changes", VARIANTS)
def test_gpus_draw_the_same_masks(changes):
    network, batch = make_pretraining(**changes), make_batch()
    expected = network(batch, seeded())
    losses = network.cuda()(to_gpu(batch), seeded())
    for name, loss in losses.items():
        torch.testing.assert_close(loss.cpu(), expected[name], rtol=1e-3, atol=1e-4)
    with torch.autocast("cuda", torch.bfloat16):
        losses = network(to_gpu(batch), seeded())
    losses["loss"].backward()
    for name, loss in losses.items():
        torch.testing.assert_close(loss.float().cpu(), expected[name], rtol=0.1, atol=0.05)


@pytest.mark.parametrize("changes", VARIANTS)
def test_every_parameter_is_trained_in_any_precision(changes):
    """As parallel training asks for; adapters alone are frozen."""
    network, batch = make_pretraining(**changes), make_batch()
    exact = network(batch, seeded())
    with torch.autocast("cpu", torch.bfloat16):
        losses = network(batch, seeded())
    losses["loss"].backward()
    for name, loss in losses.items():
        torch.testing.assert_close(loss.float(), exact[name], rtol=0.1, atol=0.05)
    for name, parameter in network.named_parameters():
        if "adapters" in name:
            assert not parameter.requires_grad
        else:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("name", ["self_contrast", "cross_contrast"])
def test_contrasts_need_the_plain_kind(home, tmp_path, name):
    with pytest.raises(InputError, match="expected no self_contrast or cross_contrast"):
        pretrain(home, tmp_path, settings=stage1(**{name: 1.0}))


@pytest.mark.parametrize("changes", [{"mask_ratio": 0.05}, {"patch": 22}])
def test_something_must_be_masked(home, tmp_path, changes):
    with pytest.raises(InputError, match=r"mask_ratio: expected .* at least one of [16] patches"):
        pretrain(home, tmp_path, settings=stage1(**changes))


def pretrain(home, out, **changes):
    out.mkdir(exist_ok=True)
    given = pretraining_inputs(home, out, **changes)
    pretrain_encoder(**given)
    return given["files"].weights.read_bytes(), given["files"].curve.read_bytes()


def fit_apart(monkeypatch, home, out, **changes):
    """Pretrain; returns what the target was fitted on, and the weights."""
    seen = []

    def watch(kind, patches, *others):
        seen.append(patches.copy())
        return fit_target(kind, patches, *others)

    monkeypatch.setattr(pretraining, "fit_target", watch)
    pretrain(home, out, **changes)
    return seen[0], load_weights(out / "weights.safetensors")[0]


@pytest.mark.parametrize("target", ["quantile", "kmeans"])
def test_codebook_is_fitted_on_training_rows_alone(home, tmp_path, monkeypatch, target):
    settings = stage1(target=target, epochs=1)
    patches, state = fit_apart(monkeypatch, home, tmp_path / "a", settings=settings)
    rows = pd.read_csv(home / "subj01/train.tsv", sep="\t")
    responses = np.load(home / "subj01/train.npy")
    own = responses[rows["validation"] == 0][:, np.arange(24) % 22]
    assert np.array_equal(patches, own.reshape(-1, 6, 4))
    # Other test rows and other validation rows: the same codes, and the same weights.
    write_subject(tmp_path / "home/subj01", 22)
    other = tmp_path / "home/subj01"
    responses[rows["validation"] == 1] += 5
    np.save(other / "train.npy", responses)
    np.save(other / "test.npy", 7 * np.load(other / "test.npy"))
    _, again = fit_apart(monkeypatch, tmp_path / "home", tmp_path / "b", settings=settings)
    assert any(name.startswith("target.") for name in state)
    for name, tensor in state.items():
        assert torch.equal(again[name], tensor), name


def test_training_is_repeatable_and_of_its_seed(home, tmp_path):
    first = pretrain(home, tmp_path / "a")
    assert pretrain(home, tmp_path / "b") == first
    assert pretrain(home, tmp_path / "c", seed=2)[0] != first[0]
    # No checkpoint is left.
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "curve.tsv",
        "weights.safetensors",
    ]


@pytest.mark.parametrize("kind", ["cae", "mae"])
def test_training_learns_and_its_weights_come_back(home, tmp_path, kind):
    settings = stage1(kind, epochs=40, learning_rate=0.01)
    given = pretraining_inputs(home, tmp_path, ("subj01", "subj02"), settings=settings)
    pretrain_encoder(**given)
    curve = pd.read_csv(given["files"].curve, sep="\t")
    assert curve["loss"].iloc[-10:].mean() < 0.97 * curve["loss"].iloc[:3].mean()
    network, about = load_pretraining(given["files"].weights)
    assert about["subjects"] == ["subj01", "subj02"] and about["length"] == about["vector"] == 24
    assert about["encoder"] == settings and about["n_voxels"] is None
    parts = {name: about["parameters"][name] for name in ("encoder", "decoder")}
    assert parts["encoder"] == sum(p.numel() for p in network.encoder.parameters())
    encoder, _ = load_encoder(given["files"].weights)
    batch = make_batch(longest=24)
    assert torch.equal(encoder(batch["responses"]), network.encoder(batch["responses"]))
    assert not any(p.requires_grad for p in network.parameters())
    # A restored network is the trained one: its loss of validation rows is in the last line.
    losses = network(batch, seeded())
    assert losses["loss"].isfinite()


def test_adapters_of_joint_subjects(home, tmp_path):
    settings = stage1(adapter="linear", adapter_width=18, epochs=2)
    given = pretraining_inputs(home, tmp_path, ("subj01", "subj02"), settings=settings)
    pretrain_encoder(**given)
    network, about = load_pretraining(given["files"].weights)
    assert (about["vector"], about["length"], about["n_voxels"]) == (24, 20, [22, 13])
    torch.manual_seed(1)
    # As they were drawn: they are frozen in this stage.
    drawn = pretraining.networks.build_encoder(settings, 20, [22, 13]).adapters
    for name, tensor in drawn.state_dict().items():
        assert torch.equal(network.encoder.adapters.state_dict()[name], tensor)


def test_divergence_leaves_what_was_there(home, tmp_path):
    weights, curve = pretrain(home, tmp_path)
    with pytest.raises(InputError, match="stage 1: expected a loss that falls"):
        pretrain(
            home,
            tmp_path,
            settings=stage1("mae", learning_rate=1e4, epochs=60, max_grad_norm=None, warmup=0),
        )
    assert (tmp_path / "weights.safetensors").read_bytes() == weights
    assert (tmp_path / "curve.tsv").read_bytes() == curve
