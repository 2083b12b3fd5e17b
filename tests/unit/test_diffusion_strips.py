import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import AutoencoderKL
from diffusion_models import NETWORK, SCALE, save_model

from nsdldm.diffusion.loading import Model
from nsdldm.diffusion.strips import decode_strip
from nsdldm.support.errors import InputError


@pytest.fixture
def files(tmp_path):
    save_model(tmp_path / "model")
    images = pd.DataFrame({"nsd_id": range(9), "split": ["test", "train", "test"] * 3})
    images.to_csv(tmp_path / "images.tsv", sep="\t", index=False)
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(9, 4, 8, 8)).astype(np.float32))
    return tmp_path


def decode(files, n_images, names=("a", "b")):
    decode_strip(
        images=files / "images.tsv",
        features={name: files / f"{name}.npy" for name in names},
        model=Model(files / "model", **NETWORK),
        n_images=n_images,
        outputs={name: files / f"strip_{name}.npy" for name in names},
    )
    return [np.load(files / f"strip_{name}.npy") for name in names]


def test_a_row_a_space_of_the_same_test_images(files):
    strip = decode(files, 3)
    assert [row.shape for row in strip] == [(3, 16, 16, 3)] * 2
    assert strip[0].dtype == np.uint8
    autoencoder = AutoencoderKL.from_pretrained(files / "model", subfolder="vae")
    latents = torch.from_numpy(np.load(files / "b.npy")[[0, 3, 8]]) / SCALE
    with torch.no_grad():
        picture = autoencoder.decode(latents).sample.permute(0, 2, 3, 1).numpy()
    expected = (picture * 127.5 + 127.5).clip(0, 255)
    np.testing.assert_allclose(strip[1], expected, atol=0.51)
    assert len(decode(files, 20)[0]) == 6


def test_latents_of_other_images_are_refused(files):
    np.save(files / "b.npy", np.zeros((5, 4, 8, 8), np.float32))
    with pytest.raises(InputError, match=r"b.npy: expected a row for each of 9 images, found 5"):
        decode(files, 2)
