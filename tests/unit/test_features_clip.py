"""CLIP's embeddings of pictures and captions, against the library's own calls."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from nsdldm.features.clip import embed_pictures_by_clip, embed_texts_by_clip
from nsdldm.support.errors import InputError

FOLDER = Path(__file__).parents[2] / "resources/demo_model/clip"
TEXTS = [["a red circle", "a circle"], ["a blue square on the left"]]


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (3, 9, 9, 3), np.uint8)
    return [np.asarray(Image.fromarray(each).resize((425, 425))) for each in small]


@pytest.fixture(scope="module")
def known(pictures):
    """What transformers gives: the embedding, and all hidden states."""
    model = CLIPModel.from_pretrained(FOLDER)
    images = [Image.fromarray(picture) for picture in pictures]
    pixels = CLIPImageProcessor.from_pretrained(FOLDER)(images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        found = model.vision_model(pixels, output_hidden_states=True)
        return {
            "pooled": model.visual_projection(found.pooler_output).numpy(),
            "hidden": found.hidden_states[-2].numpy(),
        }


@pytest.mark.parametrize("layer", ["pooled", "hidden"])
def test_embeddings_are_the_librarys(pictures, known, layer):
    made = embed_pictures_by_clip("cpu", weights=FOLDER, layer=layer)(pictures, [])
    np.testing.assert_allclose(made, known[layer], atol=1e-4)


def test_an_encoder_of_pictures_alone_serves_as_well(pictures, known, tmp_path):
    """As beside published adapters: without the text encoder."""
    whole = CLIPModel.from_pretrained(FOLDER)
    alone = CLIPVisionModelWithProjection(whole.config.vision_config)
    alone.load_state_dict(whole.state_dict(), strict=False)
    alone.save_pretrained(tmp_path / "image_encoder")
    CLIPImageProcessor.from_pretrained(FOLDER).save_pretrained(tmp_path)
    own = {"weights": tmp_path, "subfolder": "image_encoder"}
    made = embed_pictures_by_clip("cpu", **own)(pictures, [])
    np.testing.assert_allclose(made, known["pooled"], atol=1e-4)


def test_without_its_preprocessing_pictures_are_prepared_as_clip_s_are(pictures, tmp_path):
    """Encoders beside published adapters come without; IP-Adapter's code takes CLIP's."""
    whole = CLIPModel.from_pretrained(FOLDER)
    alone = CLIPVisionModelWithProjection(whole.config.vision_config)
    alone.load_state_dict(whole.state_dict(), strict=False)
    alone.save_pretrained(tmp_path / "image_encoder")
    own = {"weights": tmp_path, "subfolder": "image_encoder"}
    made = embed_pictures_by_clip("cpu", **own)(pictures, [])
    side = whole.config.vision_config.image_size
    processor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size=side)
    images = [Image.fromarray(picture) for picture in pictures]
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = alone.eval()(pixels).image_embeds.numpy()
    np.testing.assert_allclose(made, expected, atol=1e-4)


def test_the_first_token_is_the_embedding_of_length_one(pictures, known):
    tokens = embed_pictures_by_clip("cpu", weights=FOLDER, layer="tokens")(pictures, [])
    lengths = np.linalg.norm(known["pooled"], axis=1, keepdims=True)
    np.testing.assert_allclose(tokens[:, 0], known["pooled"] / lengths, atol=1e-5)
    # All tokens are divided by the length of the first, not by their own.
    assert np.ptp(np.linalg.norm(tokens[:, 1:], axis=-1)) > 0.01


def test_captions_of_an_image_are_averaged():
    made = embed_texts_by_clip("cpu", weights=FOLDER)([None, None], TEXTS)
    model, tokenizer = CLIPModel.from_pretrained(FOLDER), CLIPTokenizer.from_pretrained(FOLDER)
    for row, texts in zip(made, TEXTS, strict=True):
        tokens = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        with torch.no_grad():
            found = model.get_text_features(**tokens)
        found = getattr(found, "pooler_output", found)
        mean = (found / found.norm(dim=-1, keepdim=True)).mean(0)
        np.testing.assert_allclose(row, (mean / mean.norm()).numpy(), atol=1e-5)


def test_unusable_models_are_one_clear_error(tmp_path):
    with pytest.raises(InputError, match="`layer`: expected"):
        embed_pictures_by_clip("cpu", weights=FOLDER, layer="last")
    with pytest.raises(InputError, match="a folder, or a hub id with a revision"):
        embed_pictures_by_clip("cpu", weights="owner/model")
    with pytest.raises(InputError, match=str(tmp_path)):
        embed_pictures_by_clip("cpu", weights=tmp_path)
