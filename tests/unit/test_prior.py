import numpy as np
import pandas as pd
import pytest
import torch
from diffusion_models import DEMO_MODEL, save_model
from features_networks import PIXELS, save_networks

from nsdldm.decoding.prior import (
    Inversion,
    gather_priors,
    invert_features,
    invert_latents,
    measure_variation,
    render_latents,
    rescale_features,
)
from nsdldm.demo.drawing import draw_scene
from nsdldm.demo.scenes import describe_scene
from nsdldm.diffusion.latents import encode_pictures, prepare_pictures
from nsdldm.diffusion.loading import Model, load_autoencoder
from nsdldm.diffusion.reconstruction import decode_pictures
from nsdldm.features.layers import embed_layers
from nsdldm.support.errors import InputError

CPU = torch.device("cpu")
N, SIDE = 12, PIXELS // 2
SPLIT = np.array(["train", "test", "train"] * 4)
TRAIN, TEST = (np.flatnonzero(name == SPLIT) for name in ("train", "test"))
SHAPE = (4, SIDE, SIDE)
SETTINGS = Inversion(steps=12, learning_rate=0.2, latent_weight=0, rescale=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """An untrained model and network, latents of all images and features of their pictures."""
    folder = tmp_path_factory.mktemp("prior")
    save_model(folder)
    save_networks(folder)
    pd.DataFrame({"nsd_id": np.arange(N) + 40, "split": SPLIT}).to_csv(
        folder / "images.tsv", sep="\t", index=False
    )
    rng = np.random.default_rng(0)
    # Neither mean nor spread is the same everywhere.
    z = 0.3 * rng.standard_normal(SHAPE) + rng.uniform(0.2, 0.6, SHAPE) * rng.standard_normal(
        (N, *SHAPE)
    )
    np.save(folder / "z.npy", z.astype(np.float32))
    autoencoder = load_autoencoder(folder, None, CPU, torch.float32)
    with torch.no_grad():
        pictures = render_latents(autoencoder, torch.from_numpy(z).float())
        features = embed_layers(CPU, **network(folder)).read(pictures).numpy()
    np.save(folder / "features.npy", features)
    np.save(folder / "decoded.npy", features[TEST])
    return folder


def network(folder):
    return {"network": "demo-alexnet", "layers": ["body.1", "body.4"], "weights": folder}


def invert(home, output, settings=SETTINGS, batch_size=4, chunk=0, n_chunks=1, **paths):
    given = {name: home / f"{name}.npy" for name in ("decoded", "features", "z")}
    invert_features(
        **given | {"start": None} | paths,
        images=home / "images.tsv",
        network=network(home),
        model=Model(home, device="cpu", dtype="float32", batch_size=batch_size),
        settings=settings,
        chunk=chunk,
        n_chunks=n_chunks,
        output=output,
    )
    return np.load(output)


def distance(latents, home):
    """Root mean squared distance from the true latents of test images, in training spreads."""
    z = np.load(home / "z.npy")
    deviation = z[TRAIN].std(axis=0)
    return np.sqrt(np.square((latents - z[TEST]) / deviation).mean(axis=(1, 2, 3)))


def test_the_error_falls_for_every_image(home):
    autoencoder = load_autoencoder(home, None, CPU, torch.float32)
    reader = embed_layers(CPU, **network(home))
    targets = torch.from_numpy(np.load(home / "decoded.npy"))
    starts, deviation = torch.zeros(len(TEST), *SHAPE), torch.full(SHAPE, 0.4)
    deviation[:, 0] = 0
    latents, errors = invert_latents(autoencoder, reader, targets, starts, deviation, SETTINGS)
    assert errors.shape == (SETTINGS.steps + 1, len(TEST))
    assert (errors[-1] < 0.5 * errors[0]).all()
    # What does not vary among training images stays.
    assert not latents[:, :, 0].any()
    assert latents[:, :, 1:].abs().min() > 0
    # Of the final pictures, layer by layer.
    pictures = render_latents(autoencoder, latents)
    found, first = reader.read(pictures).numpy(), reader.sizes[0]
    for row, (own, wanted) in enumerate(zip(found, targets.numpy(), strict=True)):
        parts = [
            np.square(own[part] - wanted[part]).sum() / np.square(wanted[part]).sum()
            for part in (slice(first), slice(first, None))
        ]
        assert float(errors[-1, row]) == pytest.approx(np.mean(parts), rel=1e-3)
    networks = (*autoencoder.parameters(), *reader._modules["body.1"].parameters())
    assert all(parameter.grad is None for parameter in networks)


def test_a_picture_is_what_the_diffusion_model_sees(home):
    latents = torch.from_numpy(np.load(home / "z.npy"))
    autoencoder = load_autoencoder(home, None, CPU, torch.float32)
    pictures = render_latents(autoencoder, latents).permute(0, 2, 3, 1).numpy()
    # Up to rounding to whole levels.
    expected = decode_pictures(autoencoder, latents) / 255
    np.testing.assert_allclose(pictures, expected, atol=0.51 / 255)


def test_batches_and_chunks_do_not_matter(home, tmp_path):
    whole = invert(home, tmp_path / "whole.npy")
    np.testing.assert_array_equal(invert(home, tmp_path / "again.npy"), whole)
    alone = invert(home, tmp_path / "alone.npy", batch_size=1)
    np.testing.assert_allclose(alone, whole, atol=1e-3)
    chunks = [tmp_path / f"{number}.npy" for number in range(3)]
    np.save(tmp_path / "start.npy", np.load(home / "z.npy")[TRAIN[:4]])
    start = {"start": tmp_path / "start.npy"}
    # Rescaled by all test images, not only those of the chunk.
    settings = SETTINGS._replace(rescale=True)
    for number, path in enumerate(chunks):
        invert(home, path, settings, chunk=number, n_chunks=3, **start)
    gather_priors(chunks=chunks, images=home / "images.tsv", output=tmp_path / "joined.npy")
    joined = np.load(tmp_path / "joined.npy")
    assert joined.dtype == np.float32
    whole = invert(home, tmp_path / "whole.npy", settings, **start)
    np.testing.assert_allclose(joined, whole, atol=1e-3)
    with pytest.raises(InputError, match=r"0\.npy: expected float32 of shape"):
        gather_priors(chunks=chunks[:2], images=home / "images.tsv", output=tmp_path / "x.npy")


def test_the_start_is_the_one_given_or_the_training_mean(home, tmp_path):
    still = SETTINGS._replace(steps=1, learning_rate=0.0)
    z = np.load(home / "z.npy")
    found = invert(home, tmp_path / "prior.npy", still)
    expected = np.broadcast_to(z[TRAIN].mean(axis=0), found.shape)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.save(tmp_path / "start.npy", z[TRAIN[:4]])
    found = invert(home, tmp_path / "prior.npy", still, start=tmp_path / "start.npy")
    np.testing.assert_array_equal(found, z[TRAIN[:4]])


def test_test_images_own_features_and_latents_are_not_read(home, tmp_path):
    settings = SETTINGS._replace(rescale=True, steps=3)
    expected = invert(home, tmp_path / "prior.npy", settings)
    paths = {}
    for name in ("features", "z"):
        values = np.load(home / f"{name}.npy")
        values[TEST] = np.nan
        paths[name] = tmp_path / f"{name}.npy"
        np.save(paths[name], values)
    found = invert(home, tmp_path / "blind.npy", settings, **paths)
    np.testing.assert_array_equal(found, expected)


def test_a_penalty_keeps_the_latent_near_its_start(home, tmp_path):
    mean = np.load(home / "z.npy")[TRAIN].mean(axis=0)
    moved = [
        np.abs(invert(home, tmp_path / "p.npy", SETTINGS._replace(latent_weight=w)) - mean).mean()
        for w in (0, 1, 1000)
    ]
    assert moved[0] > moved[1] > moved[2]


def test_a_penalty_smooths_the_picture(home, tmp_path):
    autoencoder = load_autoencoder(home, None, CPU, torch.float32)
    roughness = []
    for weight in (0, 10):
        settings = SETTINGS._replace(total_variation=weight)
        latents = torch.from_numpy(invert(home, tmp_path / "prior.npy", settings))
        roughness.append(measure_variation(render_latents(autoencoder, latents)))
    assert (roughness[1] < 0.8 * roughness[0]).all()


def test_variation_is_the_mean_difference_of_neighbours():
    pictures = np.random.default_rng(0).random((2, 3, 4, 5))
    for picture, found in zip(pictures, measure_variation(torch.from_numpy(pictures)), strict=True):
        rows = [
            abs(picture[c, i + 1, j] - picture[c, i, j])
            for c in range(3)
            for i in range(3)
            for j in range(5)
        ]
        columns = [
            abs(picture[c, i, j + 1] - picture[c, i, j])
            for c in range(3)
            for i in range(4)
            for j in range(4)
        ]
        assert float(found) == pytest.approx(np.mean(rows) + np.mean(columns))


def test_rescaled_features_have_the_training_spread():
    rng = np.random.default_rng(0)
    true = rng.uniform(1, 5, 6) * rng.standard_normal((300, 6)) + rng.uniform(-9, 9, 6)
    decoded = (0.2 * true[:50] + 0.3 * rng.standard_normal((50, 6))).astype(np.float32)
    decoded[:, 2] = 4
    found = rescale_features(decoded, true.mean(0), true.std(0))
    assert found.dtype == np.float32
    others = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(found.mean(0), true.mean(0), rtol=1e-4)
    np.testing.assert_allclose(found.std(0)[others], true.std(0)[others], rtol=1e-4)
    np.testing.assert_allclose(found[:, 2], true.mean(0)[2], rtol=1e-5)
    for column in others:
        assert np.corrcoef(found[:, column], decoded[:, column])[0, 1] == pytest.approx(1)


def test_rescaling_is_in_effect(home, tmp_path):
    # Decoded features that only lack spread and mean.
    features = np.load(home / "features.npy")
    np.save(tmp_path / "shrunk.npy", 0.1 * features[TEST] + 0.05)
    shrunk, settings = tmp_path / "shrunk.npy", SETTINGS._replace(steps=40, rescale=True)
    mended = invert(home, tmp_path / "a.npy", settings, decoded=shrunk)
    raw = invert(home, tmp_path / "b.npy", SETTINGS._replace(steps=40), decoded=shrunk)
    assert (distance(mended, home) < 0.9 * distance(raw, home)).all()


def test_scenes_are_recovered_from_features_of_their_pictures():
    pictures = [draw_scene(describe_scene(0, number), 96) for number in range(900_000, 900_020)]
    autoencoder = load_autoencoder(DEMO_MODEL, None, CPU, torch.float32)
    z = torch.from_numpy(encode_pictures(autoencoder, prepare_pictures(pictures, 96))[0])
    settings = {"network": "demo-alexnet", "layers": ["body.1", "body.5", "body.12"]}
    reader = embed_layers(CPU, weights=DEMO_MODEL, **settings)
    targets = torch.from_numpy(reader(pictures[:3]))
    starts, deviation = z[3:].mean(dim=0).expand(3, -1, -1, -1), z[3:].std(dim=0)
    latents, errors = invert_latents(autoencoder, reader, targets, starts, deviation, Inversion())
    assert (errors[-1] < 0.4 * errors[0]).all()
    far, near = (
        ((each - z[:3]) / deviation).square().mean((1, 2, 3)).numpy() for each in (starts, latents)
    )
    assert (near < 0.8 * far).all()
    made = render_latents(autoencoder, torch.cat([latents, starts[:1]])).flatten(1).numpy()
    shown = [np.transpose(picture, (2, 0, 1)).ravel() for picture in pictures[:3]]
    r = np.corrcoef(shown, made)[:3, 3:]
    for row in range(3):
        # Than the pictures made of other images' features, and than the start.
        assert r[row, row] > np.delete(r[row], row).max() + 0.1


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("decoded", (4, 10), r"decoded.npy: expected an array of shape \(4, \d+\)"),
        ("decoded", (3, 1), r"decoded.npy: expected an array of shape \(4, \d+\)"),
        ("z", (N, 3, 5, 5), r"z.npy: expected an array of shape \(12, 4, any, any\)"),
        ("start", (4, 4, 5, 5), r"start.npy: expected an array of shape \(4, 4, 24, 24\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(home, tmp_path, name, shape, message):
    np.save(tmp_path / f"{name}.npy", np.ones(shape, np.float32))
    with pytest.raises(InputError, match=message):
        invert(home, tmp_path / "prior.npy", **{name: tmp_path / f"{name}.npy"})
    assert not (tmp_path / "prior.npy").exists()


def test_undefined_values_are_refused(home, tmp_path):
    for name, values in (
        ("decoded", np.load(home / "decoded.npy")),
        ("start", np.zeros((4, *SHAPE))),
    ):
        values[2, 1] = np.nan
        np.save(tmp_path / f"{name}.npy", values)
        with pytest.raises(InputError, match=rf"{name}\.npy: expected finite values"):
            invert(home, tmp_path / "prior.npy", **{name: tmp_path / f"{name}.npy"})


def test_a_quantising_autoencoder_is_inverted_through_its_codebook(home, tmp_path):
    save_model(tmp_path / "model", quantised=True)
    autoencoder = load_autoencoder(tmp_path / "model", None, CPU, torch.float32)
    reader = embed_layers(CPU, **network(home))
    rng = np.random.default_rng(0)
    z = torch.from_numpy(rng.standard_normal((4, 3, SIDE, SIDE))).float()
    with torch.no_grad():
        targets = reader.read(render_latents(autoencoder, z[:2]))
    given = targets, torch.zeros_like(z[:2]), z.std(dim=0), SETTINGS
    errors = invert_latents(autoencoder, reader, *given)[1]
    assert (errors[-1] < 0.8 * errors[0]).all()


def test_features_of_nothing_are_refused(home, tmp_path):
    decoded = np.load(home / "decoded.npy")
    reader = embed_layers(CPU, **network(home))
    decoded[1, reader.sizes[0] :] = 0
    np.save(tmp_path / "decoded.npy", decoded)
    with pytest.raises(InputError, match="decoded features: expected some that are not 0"):
        invert(home, tmp_path / "prior.npy", decoded=tmp_path / "decoded.npy")
