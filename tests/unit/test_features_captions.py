import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusion_models import DEMO_MODEL, END, NETWORK, START, write_images
from nesting import nest
from nsd_files import write_captions

from nsdldm.diffusion.loading import Model, load_text
from nsdldm.diffusion.text import embed_texts
from nsdldm.features import captions
from nsdldm.features.captions import embed_captions
from nsdldm.support.errors import InputError

CAPTIONS = {
    4: ["a red cat on the left", "A cat, and a  dog!"],
    7: ["a blue boat on the sea"],
    9: ["a dog", "two dogs", "a bird " * 30, "a dog in front of mountains", ""],
}


@pytest.fixture(scope="module")
def parts():
    return load_text(DEMO_MODEL, None, torch.device("cpu"), torch.float32)


@pytest.fixture
def files(tmp_path):
    pairs = [(number + 1000, caption) for number in CAPTIONS for caption in CAPTIONS[number]]
    write_captions(tmp_path / "train.json", pairs[::2])
    write_captions(tmp_path / "val.json", pairs[1::2])
    return [tmp_path / "train.json", tmp_path / "val.json"]


def embed(files, out, numbers=tuple(CAPTIONS), batch_size=64):
    images = write_images(out / "images.tsv", numbers)
    settings = {"model": DEMO_MODEL, "batch_size": batch_size, "c": out / "c.npy"}
    settings = NETWORK | {"images": images, "captions": files} | settings
    embed_captions(**nest(settings, model=Model))
    return np.load(out / "c.npy")


@torch.no_grad()
def embed_one(parts, caption):
    """One caption at a time, token numbers put together by hand."""
    tokenizer, encoder = parts
    words = tokenizer(caption, add_special_tokens=False)["input_ids"][:22]
    tokens = torch.tensor([[START, *words] + [END] * (23 - len(words))])
    return encoder(input_ids=tokens).last_hidden_state[0].numpy()


def test_c_is_the_mean_over_an_image_s_captions(parts, files, tmp_path):
    c = embed(files, tmp_path)
    assert c.dtype == np.float32
    assert c.shape == (3, 24, 96)
    for row, texts in zip(c, CAPTIONS.values(), strict=True):
        naive = np.mean([embed_one(parts, caption) for caption in texts if caption], axis=0)
        np.testing.assert_allclose(row, naive, atol=2e-5)
    assert np.abs(c[0] - c[1]).max() > 0.1


@pytest.mark.parametrize("batch_size", [1, 2])
def test_c_does_not_depend_on_batches_or_order(files, tmp_path, batch_size):
    c = embed(files, tmp_path)
    reordered = embed(files, tmp_path, [9, 4, 7, 9], batch_size)
    np.testing.assert_allclose(reordered, c[[2, 0, 1, 2]], atol=2e-5)


def test_c_is_complete_when_memory_runs_out(files, tmp_path, monkeypatch, caplog):
    expected = embed(files, tmp_path, batch_size=1)

    def embed_few(tokenizer, encoder, texts):
        if len(texts) > 5:
            raise torch.OutOfMemoryError
        return embed_texts(tokenizer, encoder, texts)

    monkeypatch.setattr(captions, "embed_texts", embed_few)
    np.testing.assert_array_equal(embed(files, tmp_path, batch_size=3), expected)
    assert "continuing with 1" in caplog.text


def test_texts_are_embedded_as_the_pipeline_embeds_its_prompts(parts):
    texts = ["a red cat", "", "a very long text " * 20]
    pipeline = StableDiffusionPipeline.from_pretrained(DEMO_MODEL, dtype=torch.float32)
    expected, empty = pipeline.encode_prompt(texts, "cpu", 1, do_classifier_free_guidance=True)
    found = embed_texts(*parts, texts)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found[1], empty[0])


def test_image_without_captions_is_refused(files, tmp_path):
    with pytest.raises(InputError, match=r"captions of every image.*COCO number 1005"):
        embed(files, tmp_path, [4, 5])
    assert not (tmp_path / "c.npy").exists()
