import shutil
from pathlib import Path

import nsd_files
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional
from trained_files import (
    one_thread,  # noqa: F401
    save,
)
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from nsdldm.support.errors import InputError
from nsdldm.trained.clip import embed_clip, load_clip

FOLDER = Path(__file__).parents[2] / "resources/demo_model/clip"
NUMBERS = [7, 2, 40, 11]
CAPTIONS = {
    107: ["a red circle", "a large red circle on the left of a blue square", "a circle"],
    102: ["two green triangles"],
    140: ["a blue square", "a square that is blue"],
    111: ["a red circle"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("clip")
    table = pd.DataFrame({"nsd_id": NUMBERS, "coco_id": [n + 100 for n in NUMBERS]})
    save(home / "images.tsv", table)
    rng = np.random.default_rng(0)
    pictures = {}
    for number in NUMBERS:
        small = rng.integers(0, 256, (9, 9, 3), np.uint8)
        pictures[number] = np.asarray(Image.fromarray(small).resize((425, 425)))
    nsd_files.write_stimuli(home / "stimuli.hdf5", pictures, 50)
    np.savez(home / "pictures.npz", *[pictures[number] for number in NUMBERS])
    pairs = [(image, text) for image, texts in CAPTIONS.items() for text in texts]
    nsd_files.write_captions(home / "train.json", pairs[::2])
    nsd_files.write_captions(home / "val.json", pairs[1::2])
    return home


def embed(home, out, path=FOLDER, batch_size=3):
    names = ("clip_image", "clip_text")
    embed_clip(
        images=home / "images.tsv",
        stimuli=home / "stimuli.hdf5",
        captions=[home / "train.json", home / "val.json"],
        path=str(path),
        revision=None,
        device="cpu",
        batch_size=batch_size,
        **{name: out / f"{name}.npy" for name in names},
    )
    return [np.load(out / f"{name}.npy") for name in names]


@pytest.fixture(scope="module")
def embedded(home):
    return embed(home, home)


@pytest.fixture(scope="module")
def pixels(home):
    """Pictures as CLIP's own processor prepares them."""
    processor = CLIPImageProcessor.from_pretrained(FOLDER)
    pictures = [Image.fromarray(picture) for picture in np.load(home / "pictures.npz").values()]
    return processor(pictures, return_tensors="pt")["pixel_values"]


@torch.no_grad()
def test_first_token_is_clips_embedding_of_the_picture(embedded, pixels):
    image, _ = embedded
    features = CLIPModel.from_pretrained(FOLDER).get_image_features(pixels)
    features = getattr(features, "pooler_output", features)
    assert image.shape == (4, 1 + 64, 64) and image.dtype == np.float32
    np.testing.assert_allclose(image[:, 0], functional.normalize(features, dim=1), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(image, axis=-1), 1, rtol=1e-5)
    # Pictures differ, so that this cannot hold for any.
    assert np.abs(image[0, 0] - image[1, 0]).max() > 0.01


@torch.no_grad()
def test_other_tokens_go_through_the_same_norm_and_projection(embedded, pixels):
    model = CLIPModel.from_pretrained(FOLDER)
    seen = []
    model.vision_model.encoder.layers[-1].register_forward_hook(
        lambda *given: seen.append(given[2])
    )
    model.vision_model(pixels)
    states = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    for row, token in np.ndindex(4, 65):
        state = states[row, token]
        own = model.vision_model.post_layernorm
        state = functional.layer_norm(state, state.shape, own.weight, own.bias, own.eps)
        expected = model.visual_projection.weight @ state
        expected = expected / expected.norm()
        np.testing.assert_allclose(embedded[0][row, token], expected, atol=2e-4)


@torch.no_grad()
def test_captions_are_averaged_at_length_1(embedded):
    model, tokenizer = CLIPModel.from_pretrained(FOLDER), CLIPTokenizer.from_pretrained(FOLDER)
    for row, texts in enumerate(CAPTIONS.values()):
        units = []
        for text in texts:
            features = model.get_text_features(**tokenizer(text, return_tensors="pt"))
            features = getattr(features, "pooler_output", features)[0]
            units.append((features / features.norm()).numpy())
        expected = np.mean(units, axis=0)
        expected /= np.linalg.norm(expected)
        np.testing.assert_allclose(embedded[1][row], expected, atol=1e-4)
    assert embedded[1].dtype == np.float32 and embedded[1].shape == (4, 64)


def test_batches_do_not_matter(home, tmp_path, embedded):
    for found, expected in zip(embed(home, tmp_path, batch_size=1), embedded, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_names_of_a_hub_need_a_revision(tmp_path):
    with pytest.raises(InputError, match=r"`path` openai/clip: expected a folder, or a hub"):
        load_clip("openai/clip", None)


@pytest.mark.parametrize("damage", ["no weights", "truncated", "one weight less"])
def test_folders_without_all_weights(tmp_path, damage):
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "model.safetensors"
    if damage == "no weights":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        state = load_file(path)
        del state["visual_projection.weight"]
        save_file(state, path, {"format": "pt"})
    with pytest.raises(InputError) as raised:
        load_clip(str(tmp_path), None)
    message = str(raised.value)
    remedy = "Replace it by an intact copy" if damage == "truncated" else "Name a model with all"
    assert str(tmp_path) in message and remedy in message
    if damage == "one weight less":
        assert "none for visual_projection.weight" in message
