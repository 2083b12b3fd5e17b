import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from diffusion_models import write_images
from features_networks import PIXELS, save_networks
from nsd_files import write_captions
from PIL import Image
from reconstruction_files import write_stimuli
from transformers import CLIPModel

from nsdldm.features.pictures import compute_features, embed_pictures
from nsdldm.nsd.stimuli import read_images
from nsdldm.support.errors import InputError

NUMBERS = [3, 0, 5, 1, 2]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    write_stimuli(folder / "stimuli.hdf5")
    pairs = [(number + 1000, "word " * (number + 1)) for number in NUMBERS]
    write_captions(folder / "captions.json", pairs)
    write_images(folder / "images.tsv", NUMBERS)
    (folder / "networks").mkdir()
    save_networks(folder / "networks")
    return folder


def compute(files, output, function, batch_size=2, **settings):
    compute_features(
        space="mine",
        function=function,
        settings=settings,
        images=files / "images.tsv",
        stimuli=files / "stimuli.hdf5",
        captions=[files / "captions.json"],
        device="cpu",
        batch_size=batch_size,
        output=output,
    )
    return np.load(output)


@pytest.fixture
def module(monkeypatch):
    """A module of a user's."""

    def count_words(device, factor=1):
        return lambda pictures, captions: [[factor * len(texts[0].split())] for texts in captions]

    def mean_colours(device):
        return lambda pictures, captions: [picture.mean((0, 1)) for picture in pictures]

    def broken(device, what):
        wrong = {"rows": np.zeros((1, 3)), "numbers": np.full((2, 3), np.nan)}
        return lambda pictures, captions: wrong[what]

    def ragged(device):
        return lambda pictures, captions: [[1, 2], [3]]

    def growing(device):
        calls = []
        return lambda pictures, captions: calls.append(1) or np.ones((len(pictures), len(calls)))

    mine = ModuleType("mine")
    for function in (count_words, mean_colours, broken, ragged, growing):
        setattr(mine, function.__name__, function)
    monkeypatch.setitem(sys.modules, "mine", mine)


def test_a_function_sees_pictures_and_captions_in_order(files, tmp_path, module):
    words = compute(files, tmp_path / "w.npy", "mine.count_words", factor=2)
    assert words.dtype == np.float32
    assert words.tolist() == [[2 * (number + 1)] for number in NUMBERS]
    colours = compute(files, tmp_path / "c.npy", "mine.mean_colours", batch_size=5)
    pictures = read_images(files / "stimuli.hdf5", np.array(NUMBERS))
    expected = [picture.mean((0, 1)) for picture in pictures]
    np.testing.assert_allclose(colours, expected, rtol=1e-6)


def test_clip_s_image_embedding_is_transformers_own(files, tmp_path):
    settings = {"network": "demo-clip", "layer": "image_embeds", "weights": files / "networks"}
    found = compute(
        files, tmp_path / "e.npy", "nsdldm.features.pictures.embed_pictures", **settings
    )
    model = CLIPModel.from_pretrained(files / "networks/clip").eval()
    pictures = read_images(files / "stimuli.hdf5", np.array(NUMBERS))
    size = (PIXELS, PIXELS)
    resized = [Image.fromarray(p).resize(size, Image.Resampling.BICUBIC) for p in pictures]
    values = torch.from_numpy(np.stack([np.asarray(picture) for picture in resized]))
    with torch.no_grad():
        seen = model.vision_model(values.permute(0, 3, 1, 2) / 127.5 - 1).pooler_output
        expected = model.visual_projection(seen).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("function", "settings", "message"),
    [
        ("mine.nothing", {}, r"`space`.mine.function: expected the dotted name"),
        ("no.module", {}, r"`space`.mine.function.*No module named 'no'"),
        ("plain", {}, r"`space`.mine.function: expected the dotted name"),
        ("mine.count_words", {"facto": 2}, r"`space`.mine.settings.*'facto'"),
        ("mine.broken", {"what": "rows"}, r"for each of 2 pictures, found.*\(1, 3\)"),
        ("mine.broken", {"what": "numbers"}, r"`space`.mine: .*not finite everywhere"),
        ("mine.ragged", {}, r"`space`.mine: expected finite numbers.*rows of different"),
        ("mine.growing", {}, r"found an array of shape \(2, 2\) after rows of shape \(1,\)"),
    ],
)
def test_a_bad_function_is_named(files, tmp_path, module, function, settings, message):
    with pytest.raises(InputError, match=message):
        compute(files, tmp_path / "x.npy", function, **settings)
    assert not (tmp_path / "x.npy").exists()


def test_a_layer_that_is_not_there(files):
    with pytest.raises(InputError, match=r"expected one of image_embeds, hidden_1, found pool"):
        embed_pictures(
            torch.device("cpu"), network="demo-clip", layer="pool", weights=files / "networks"
        )
