import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, VQModel
from diffusion_models import NETWORK, SCALE, save_model, write_images
from nesting import nest
from nsd_files import write_stimuli
from PIL import Image

from nsdldm.diffusion.latents import latent_shape, prepare_pictures
from nsdldm.diffusion.loading import Model
from nsdldm.diffusion.reconstruction import decode_pictures
from nsdldm.features import latents
from nsdldm.features.latents import encode_latents
from nsdldm.support.errors import InputError

NUMBERS = [2, 3, 5, 6, 9]
SIDE = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    save_model(folder / "model")
    rng = np.random.default_rng(0)
    coarse = {number: rng.integers(0, 256, (9, 9, 3), "u1") for number in NUMBERS}
    pictures = {k: np.asarray(Image.fromarray(v).resize((425, 425))) for k, v in coarse.items()}
    write_stimuli(folder / "stimuli.hdf5", pictures, 12)
    np.savez(folder / "pictures.npz", *pictures.values())
    return folder


def encode(folder, out, numbers=NUMBERS, batch_size=3, **changes):
    settings = {
        "images": write_images(out / "images.tsv", numbers),
        "stimuli": folder / "stimuli.hdf5",
        "model": folder / "model",
        "resolution": SIDE,
        "batch_size": batch_size,
        "z": out / "z.npy",
        "z_logvar": out / "z_logvar.npy",
    }
    encode_latents(**nest(NETWORK | settings | changes, model=Model))
    return np.load(out / "z.npy"), np.load(out / "z_logvar.npy")


@torch.no_grad()
def encode_one(folder, index):
    """The posterior of one picture, without anything of the package."""
    picture = np.load(folder / "pictures.npz")[f"arr_{index}"]
    small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    tensor = torch.tensor(np.asarray(small, np.float32).transpose(2, 0, 1)[None] / 255 * 2 - 1)
    autoencoder = AutoencoderKL.from_pretrained(folder / "model", subfolder="vae")
    return autoencoder.encode(tensor).latent_dist


def test_z_is_the_scaled_posterior_of_each_picture(folder, tmp_path):
    z, logvar = encode(folder, tmp_path)
    assert z.dtype == logvar.dtype == np.float32
    assert z.shape == logvar.shape == (len(NUMBERS), 4, 8, 8)
    for index in range(len(NUMBERS)):
        posterior = encode_one(folder, index)
        np.testing.assert_allclose(z[index], SCALE * posterior.mean[0], atol=1e-5)
        np.testing.assert_allclose(
            np.exp(logvar[index] / 2), SCALE * posterior.std[0], rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_z_does_not_depend_on_batches_or_order(folder, tmp_path, batch_size):
    z, logvar = encode(folder, tmp_path)
    order = [3, 0, 4]
    others = encode(folder, tmp_path, np.array(NUMBERS)[order], batch_size)
    np.testing.assert_allclose(others[0], z[order], atol=1e-5)
    np.testing.assert_allclose(others[1], logvar[order], atol=1e-5)


def test_z_is_complete_when_memory_runs_out(folder, tmp_path, monkeypatch, caplog):
    expected = encode(folder, tmp_path, batch_size=2)

    def encode_few(autoencoder, pictures):
        if len(pictures) > 2:
            raise torch.OutOfMemoryError
        return whole(autoencoder, pictures)

    whole = latents.encode_pictures
    monkeypatch.setattr(latents, "encode_pictures", encode_few)
    found = encode(folder, tmp_path, batch_size=4)
    assert "continuing with 2" in caplog.text
    np.testing.assert_array_equal(found, expected)


def test_pictures_span_minus_one_to_one():
    pictures = [np.full((425, 425, 3), value, "u1") for value in (0, 255)]
    pictures.append(np.stack([np.full((425, 425), value, "u1") for value in (0, 51, 255)], -1))
    tensor = prepare_pictures(iter(pictures), 8)
    assert tensor.shape == (3, 3, 8, 8)
    assert tensor.dtype == torch.float32
    torch.testing.assert_close(tensor[:2].mean((1, 2, 3)), torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(tensor[2].mean((1, 2)), torch.tensor([-1.0, -0.6, 1.0]))


def test_overflow_stops_and_leaves_no_file(folder, tmp_path, monkeypatch):
    broken = np.full((len(NUMBERS), 4, 8, 8), np.nan, np.float32)
    monkeypatch.setattr(latents, "encode_pictures", lambda *_: (broken, broken))
    with pytest.raises(InputError, match=r"`dtype`: expected finite values of z"):
        encode(folder, tmp_path, batch_size=5)
    assert [path.name for path in tmp_path.iterdir()] == ["images.tsv"]


def test_resolution_must_fit_the_autoencoder(folder, tmp_path):
    with pytest.raises(InputError, match=r"`resolution`: .*multiple of 2 pixels, found 15"):
        encode(folder, tmp_path, resolution=15)


def test_picture_outside_the_stimuli_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="from 0 to 11"):
        encode(folder, tmp_path, [2, 12])


def test_a_quantising_autoencoder_gives_latents_before_quantisation(folder, tmp_path):
    model = save_model(tmp_path / "model", quantised=True)
    z, logvar = encode(folder, tmp_path, model=model)
    assert z.shape == logvar.shape == (len(NUMBERS), 3, 8, 8)
    network = VQModel.from_pretrained(model, subfolder="vae")
    picture = np.load(folder / "pictures.npz")["arr_2"]
    small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    tensor = torch.tensor(np.asarray(small, np.float32).transpose(2, 0, 1)[None] / 255 * 2 - 1)
    with torch.no_grad():
        latent = network.encode(tensor).latents
        expected = network.decode(latent).sample[0]
    np.testing.assert_allclose(z[2], SCALE * latent[0], atol=1e-5)
    # No spread to speak of.
    assert (np.exp(logvar / 2) < 1e-6).all()
    # And back, through the codebook.
    decoded = decode_pictures(network, torch.from_numpy(z[[2]]))[0]
    levels = np.rint(255 * (expected / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy())
    assert np.abs(decoded - levels).max() <= 1
    codes = network.quantize.embedding.weight.detach()
    nearest = torch.cdist(latent.permute(0, 2, 3, 1).reshape(-1, 3), codes).argmin(1)
    with torch.no_grad():
        quantised = codes[nearest].reshape(1, 8, 8, 3).permute(0, 3, 1, 2)
        torch.testing.assert_close(
            network.decode(quantised, force_not_quantize=True).sample[0], expected
        )


def test_sides_of_a_quantising_autoencoder_by_four():
    """As latent diffusion's VQ-f4: 256 pixels to 3 x 64 x 64."""
    network = VQModel(
        block_out_channels=(4, 4, 4),
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        norm_num_groups=2,
    )
    assert latent_shape(network, 256) == (3, 64, 64)
    with torch.no_grad():
        assert network.encode(torch.zeros(1, 3, 64, 64)).latents.shape == (1, 3, 16, 16)
