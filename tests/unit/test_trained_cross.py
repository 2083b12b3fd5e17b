import math

import h5py
import numpy as np
import pytest
import torch

from nsdldm.support.errors import InputError
from nsdldm.trained import cross
from nsdldm.trained.cross import CrossModal, load_image_mae
from nsdldm.trained.networks import build_encoder, draw_mask

ENCODER = {"patch": 4, "width": 24, "depth": 2, "heads": 3, "mlp_ratio": 2.0}
ENCODER |= {"tokenizer_width": None, "own_maps": False}
SETTINGS = {
    "mask_ratio": 0.75,
    "image_mask_ratio": 0.5,
    "cross_depth": 1,
    "mlp_ratio": 2.0,
    "own_maps": False,
}
SETTINGS |= {"response_weight": 0.25, "image_weight": 1.5, "sparsification": 0.0}
SETTINGS |= {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
LENGTH, SIDE = 64, 8
SIZES = {"image_size": SIDE, "patch_size": 2, "hidden_size": 32, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 2, "intermediate_size": 64, "decoder_hidden_size": 16}
SIZES |= {"decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 2}
SIZES |= {"decoder_intermediate_size": 32}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_batch(n=6, seed=0):
    """Pictures of few dimensions, and responses that are a linear function of them."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((n, 5))
    patterns, map_ = (np.random.default_rng(9).standard_normal((5, k)) for k in (192, LENGTH))
    pictures = (128 + 30 * weights @ patterns).clip(0, 255).reshape(n, 3, SIDE, SIDE)
    responses = weights @ map_ / math.sqrt(5)
    return {
        "responses": torch.tensor(responses, dtype=torch.float32),
        "picture": torch.tensor(pictures.astype(np.uint8)),
    }


def make_network(image=None, seed=1, **changes):
    torch.manual_seed(seed)
    image = image or load_image_mae(None, None, SIZES)
    own_maps = {"own_maps": changes.get("own_maps", False)}
    encoder = build_encoder(ENCODER | own_maps, LENGTH, changes.pop("n_voxels", None))
    return CrossModal(encoder, SETTINGS | changes, image)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("vit-mae")
    torch.manual_seed(5)
    load_image_mae(None, None, SIZES).save_pretrained(path)
    return str(path)


def test_loss_is_the_weighted_sum_of_both_errors():
    losses = make_network()(make_batch(), generator())
    expected = 0.25 * losses["response"] + 1.5 * losses["image"]
    torch.testing.assert_close(losses["loss"], expected)
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    assert not losses["logged_correlation"].requires_grad


def test_shapes():
    network = make_network()
    pixels = cross.normalise_pictures(make_batch()["picture"])
    kept, masked = draw_mask(generator(), 6, 16, 0.75)
    tokens = network.encode_pictures(pixels)
    assert tokens.shape == (6, 17, 32)
    responses = make_batch()["responses"]
    assert network.complete_responses(responses, kept, masked, tokens).shape == (6, 12, 4)
    latents = network.encoder(responses)
    assert network.complete_pictures(pixels, kept, masked, latents).shape == (6, 12, 12)


def test_encodes_pictures_as_transformers_does():
    network = make_network()
    pixels = cross.normalise_pictures(make_batch()["picture"])
    vit = network.image.vit
    noise = torch.rand(6, 16, generator=generator())
    kept = noise.argsort(dim=1)[:, :8]
    vit.config.mask_ratio = 0.5
    expected = vit(pixels, noise=noise).last_hidden_state
    torch.testing.assert_close(network.encode_pictures(pixels, kept), expected)


def test_without_a_look_at_responses_pictures_are_completed_as_by_transformers():
    network = make_network(cross_depth=0)
    pixels = cross.normalise_pictures(make_batch()["picture"])
    kept, masked = draw_mask(generator(), 6, 16, 0.5)
    noise = torch.ones(6, 16).scatter(1, kept, 0.0)
    network.image.config.mask_ratio = 0.5
    expected = network.image(pixels, noise=noise).loss
    predicted = network.complete_pictures(pixels, kept, masked, torch.zeros(6, 17, 24))
    hidden = cross.take_tokens(network.make_image_target(pixels), masked)
    torch.testing.assert_close(torch.nn.functional.mse_loss(predicted, hidden), expected)
    network.image.config.norm_pix_loss = True
    expected = network.image(pixels, noise=noise).loss
    hidden = cross.take_tokens(network.make_image_target(pixels), masked)
    torch.testing.assert_close(torch.nn.functional.mse_loss(predicted, hidden), expected)


def test_loaded_image_encoder_is_frozen_and_everything_else_trained(folder):
    network = make_network(load_image_mae(folder, None, {}))
    network(make_batch(), generator())["loss"].backward()
    for name, parameter in network.named_parameters():
        frozen = name.startswith("image.vit.") or "pos_embed" in name
        assert (parameter.grad is None) == frozen, name
        assert frozen or parameter.grad.any(), name


def test_small_image_encoder_is_trained_along():
    network = make_network()
    network(make_batch(), generator())["loss"].backward()
    assert network.image.vit.embeddings.patch_embeddings.projection.weight.grad.any()


def test_new_image_decoder_knows_its_places():
    places = load_image_mae(None, None, SIZES).decoder.decoder_pos_embed
    assert not places.requires_grad
    assert len(places[0].unique(dim=0)) == 17


def test_adapters_are_not_trained():
    network = make_network(n_voxels=[LENGTH, LENGTH - 10])
    batch = make_batch() | {"subject": torch.tensor([0, 1, 0, 1, 1, 0])}
    network(batch, generator())["loss"].backward()
    assert all(parameter.grad is None for parameter in network.encoder.adapters.parameters())
    assert network.encoder.start.grad.any()


def test_maps_of_their_own_for_patches():
    network = make_network(own_maps=True)
    assert network.decoder.head.weight.shape == (16, 16, 4)
    assert network(make_batch(), generator())["loss"].isfinite()


def test_hidden_voxels_are_seen_by_neither_side():
    network, batch = make_network(sparsification=0.5), make_batch()
    seen = []
    network.encoder.tokenizer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(batch, generator())
    assert all(((each == 0).sum(dim=1) == LENGTH // 2).all() for each in seen)
    assert len(seen) == 2 and torch.equal(*seen)


def test_masked_responses_do_not_reach_their_own_prediction():
    network, batch = make_network(), make_batch()
    responses = batch["responses"]
    kept, masked = draw_mask(generator(), 6, 16, 0.75)
    tokens = network.encode_pictures(cross.normalise_pictures(batch["picture"]))
    expected = network.complete_responses(responses, kept, masked, tokens)
    places = (masked[..., None] * 4 + torch.arange(4)).flatten(1)
    changed = responses.scatter(1, places, 7.0)
    torch.testing.assert_close(network.complete_responses(changed, kept, masked, tokens), expected)
    changed = responses.scatter(1, (kept[..., None] * 4 + torch.arange(4)).flatten(1), 7.0)
    found = network.complete_responses(changed, kept, masked, tokens)
    assert not torch.allclose(found, expected, atol=1e-3)


def test_masked_patches_do_not_reach_their_own_prediction():
    network, batch = make_network(), make_batch()
    pixels = cross.normalise_pictures(batch["picture"])
    kept, masked = draw_mask(generator(), 6, 16, 0.5)
    latents = network.encoder(batch["responses"])
    expected = network.complete_pictures(pixels, kept, masked, latents)
    patches = network.image.patchify(pixels)
    patches = patches.scatter(1, masked[..., None].expand(-1, -1, 12), 3.0)
    found = network.complete_pictures(network.image.unpatchify(patches), kept, masked, latents)
    torch.testing.assert_close(found, expected)


def test_each_side_looks_at_its_own_partner():
    network, batch = make_network(), make_batch()
    losses = network(batch, generator())
    other = network(batch | {"picture": batch["picture"].flip(0)}, generator())
    assert losses["response"] != other["response"]
    other = network(batch | {"responses": batch["responses"].flip(0)}, generator())
    assert losses["image"] != other["image"]


def test_everything_random_comes_from_the_generator():
    network, batch = make_network(), make_batch()
    first, second = (network(batch, generator(3)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert network(batch, generator(4))["loss"] != first["loss"]
    again = make_network()(batch, generator(3))
    assert torch.equal(again["loss"], first["loss"])


def test_half_precision_stays_close():
    network, batch = make_network(own_maps=True), make_batch()
    with torch.autocast("cpu", torch.bfloat16):
        losses = network(batch, generator())
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    torch.testing.assert_close(
        losses["loss"], network(batch, generator())["loss"], rtol=0.01, atol=0
    )


def test_losses_fall_and_each_side_helps_the_other():
    network, batch = make_network(own_maps=True), make_batch(24)
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    curve = []
    for step in range(60):
        losses = network(batch, generator(step))
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
        curve.append([losses[name].item() for name in ("loss", "image", "logged_correlation")])
    first, last = np.mean(curve[:5], axis=0), np.mean(curve[-5:], axis=0)
    assert (last[:2] < 0.95 * first[:2]).all()
    assert last[2] > first[2] + 0.1
    with torch.no_grad():
        right = network(batch, generator())
        # Less than a prediction by the mean leaves.
        assert right["response"] < batch["responses"].var(dim=0).mean()
        wrong = network(batch | {"responses": batch["responses"].roll(1, 0)}, generator())
        assert right["image"] < wrong["image"]
        wrong = network(batch | {"picture": batch["picture"].roll(1, 0)}, generator())
        assert right["response"] < wrong["response"]


def test_decoder_starts_from_what_fits_of_stage_1():
    first = make_network(seed=1, decoder_depth=3).decoder.state_dict()
    state = {f"decoder.{name}": tensor for name, tensor in first.items()} | {"decoder.x": 0}
    state["decoder.head.bias"] = torch.zeros(99)
    torch.manual_seed(2)
    network = CrossModal(
        build_encoder(ENCODER, LENGTH), SETTINGS, load_image_mae(None, None, SIZES), state
    )
    for name, tensor in network.decoder.state_dict().items():
        assert name == "head.bias" or torch.equal(tensor, first[name]), name


def test_shorter_image_decoder_keeps_its_first_layers(folder):
    whole = load_image_mae(folder, None, {})
    short = load_image_mae(folder, None, {"decoder_num_hidden_layers": 1})
    assert len(short.decoder.decoder_layers) == 1
    for name, tensor in short.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


@pytest.mark.parametrize(
    "path, config, said",
    [
        ("nowhere/at-all", {}, "no revision"),
        (None, {"decoder_num_hidden_layers": 3}, "none for decoder.decoder_layers.2"),
        (None, {"hidden_size": 48}, "image autoencoder"),
    ],
)
def test_unusable_image_autoencoders(folder, path, config, said):
    with pytest.raises(InputError, match=said):
        load_image_mae(path or folder, None, config)


def test_pixels_are_correlated_by_sample():
    hidden = torch.randn(3, 4, 5, generator=generator())
    predicted = torch.stack([2 * hidden[0] + 1, -hidden[1], torch.full((4, 5), 3.0)])
    assert cross.correlate_pixels(predicted, hidden).item() == pytest.approx(0, abs=1e-6)
    predicted = hidden + torch.randn(3, 4, 5, generator=generator(1))
    pairs = zip(predicted.flatten(1).numpy(), hidden.flatten(1).numpy(), strict=True)
    expected = np.mean([np.corrcoef(*pair)[0, 1] for pair in pairs])
    assert cross.correlate_pixels(predicted, hidden).item() == pytest.approx(expected, rel=1e-5)


def test_pictures_are_read_once_and_found_by_number(tmp_path):
    bricks = np.zeros((9, 425, 425, 3), np.uint8)
    bricks[:, :, :200, 0] = 10 * np.arange(9)[:, None, None]
    with h5py.File(tmp_path / "stimuli.hdf5", "w") as file:
        file["imgBrick"] = bricks
    pictures = cross.Pictures(tmp_path / "stimuli.hdf5", [7, 2, 7, 5], 8)
    assert pictures.pixels.shape == (3, 3, 8, 8)
    found = pictures(np.array([5, 7, 7, 2]))
    assert found.dtype == torch.uint8
    assert found[:, 0, 4, 0].tolist() == [50, 70, 70, 20]
    assert not found[:, 1:].any() and not found[:, 0, :, 5:].any()
