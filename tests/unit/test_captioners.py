import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from nsd_files import write_stimuli
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    GitConfig,
    GitForCausalLM,
)

from nsdldm.decoding.captioners import Captioner, Writing, caption_features, prepare_writer
from nsdldm.features.captioners import embed_captioner, load_captioner
from nsdldm.support.errors import InputError

SIDE, WORDS = 32, 64
VISION = {
    "hidden_size": 12,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 16,
    "initializer_range": 0.02,
}
TEXT = {
    "vocab_size": WORDS,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "bos_token_id": 60,
    "pad_token_id": 0,
}
TESTED = [30, 4, 12, 8, 20, 6]
SEARCH = [Writing(), Writing(3, 12, 5, 1.5)]
CPU = torch.device("cpu")


def save_captioner(folder, kind):
    """Random weights large enough for captions to depend on the picture."""
    torch.manual_seed(1)
    if kind == "git":
        config = GitConfig(vision_config=VISION, eos_token_id=61, **TEXT)
        network = GitForCausalLM(config)
        size = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
        processor = CLIPImageProcessorPil(**size)
    else:
        # Its first token is none of the tokenizer's, as in the published model.
        text = TEXT | {"bos_token_id": WORDS - 2, "sep_token_id": 61, "eos_token_id": 2}
        text |= {"encoder_hidden_size": 12, "projection_dim": 16}
        network = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=VISION))
        processor = BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    with torch.no_grad():
        for parameter in network.parameters():
            # Not the embeddings of places, which are the same for all pictures.
            if parameter.ndim in (2, 4):
                parameter.mul_(20)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    names = ["[PAD]", "[UNK]", *(f"w{i}" for i in range(2, WORDS - 4)), "[CLS]", "[SEP]"]
    names += ["[MASK]", "last"] if kind == "git" else []
    words = {name: number for number, name in enumerate(names)}
    if kind == "blip":
        words["[MASK]"] = words.pop("w2")
    BertTokenizer(vocab=words).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("captioners")
    for kind in ("git", "blip"):
        save_captioner(home / kind, kind)
    rng = np.random.default_rng(0)
    pictures = {
        number: np.asarray(
            Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize((425, 425))
        )
        for number in TESTED
    }
    write_stimuli(home / "stimuli.hdf5", pictures, 31)
    ids = [1, *TESTED[:3], 3, *TESTED[3:]]
    split = ["test" if number in TESTED else "train" for number in ids]
    pd.DataFrame({"nsd_id": ids, "split": split}).to_csv(home / "images.tsv", sep="\t", index=False)
    np.savez(home / "pictures.npz", *[pictures[number] for number in TESTED])
    for kind in ("git", "blip"):
        embed = embed_captioner(CPU, weights=home / kind)
        np.save(home / f"{kind}.npy", embed(list_pictures(home), None))
    return home


def list_pictures(home):
    with np.load(home / "pictures.npz") as file:
        return [file[f"arr_{place}"] for place in range(len(TESTED))]


def caption(home, out, kind, writing=SEARCH[0], batch_size=4, decoded=None, path=None):
    caption_features(
        decoded=decoded or home / f"{kind}.npy",
        images=home / "images.tsv",
        captioner=Captioner(path or home / kind, None, "cpu", "float32", batch_size),
        writing=writing,
        output=out / "captions.tsv",
    )
    return pd.read_csv(out / "captions.tsv", sep="\t", keep_default_na=False)


def prepare(pictures):
    """Pixels as CLIP wants them, put together by hand."""
    mean, deviation = (
        np.array([0.48145466, 0.4578275, 0.40821073]),
        np.array([0.26862954, 0.26130258, 0.27577711]),
    )
    resized = [
        np.asarray(Image.fromarray(each).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        for each in pictures
    ]
    values = (np.stack(resized) / 255 - mean) / deviation
    return torch.from_numpy(values).permute(0, 3, 1, 2).float()


def generate(home, kind, writing):
    """Token numbers of the library's own path from pixels."""
    network = load_captioner(home / kind, None, CPU, torch.float32)
    options = writing._asdict() | {"do_sample": False}
    with torch.no_grad():
        return network.generate(pixel_values=prepare(list_pictures(home)), **options)


@pytest.mark.parametrize("writing", SEARCH, ids=["greedy", "beams"])
@pytest.mark.parametrize("kind", ["git", "blip"])
def test_captions_of_true_features_are_those_of_the_pictures(home, tmp_path, kind, writing):
    tokens = generate(home, kind, writing)
    network = load_captioner(home / kind, None, CPU, torch.float32)
    write = prepare_writer(network, writing)
    assert torch.equal(write(torch.from_numpy(np.load(home / f"{kind}.npy"))), tokens)
    table = caption(home, tmp_path, kind, writing)
    assert table["nsd_id"].tolist() == TESTED
    vocabulary = json.loads((home / kind / "tokenizer.json").read_text())["model"]["vocab"]
    names = {number: word for word, number in vocabulary.items()}
    for text, row in zip(table["caption"], tokens.tolist(), strict=True):
        words = [names.get(number, "") for number in row[1:]]
        assert text.split() == [word for word in words if not word.startswith("[") and word]
    # Otherwise, order would not be tested.
    assert table["caption"].nunique() > 3


@pytest.mark.parametrize("kind", ["git", "blip"])
def test_captions_do_not_depend_on_batches(home, tmp_path, kind):
    whole = caption(home, tmp_path, kind, batch_size=6)
    for batch_size in (1, 4):
        pd.testing.assert_frame_equal(caption(home, tmp_path, kind, batch_size=batch_size), whole)
    features = np.load(home / f"{kind}.npy")
    np.save(tmp_path / "turned.npy", features[::-1])
    turned = caption(home, tmp_path, kind, decoded=tmp_path / "turned.npy")
    assert turned["caption"].tolist() == whole["caption"].tolist()[::-1]


@pytest.mark.parametrize("kind", ["git", "blip"])
def test_lengths_are_kept(home, kind):
    features = torch.from_numpy(np.load(home / f"{kind}.npy"))
    for writing in (Writing(max_length=4), Writing(2, 9, 9)):
        network = load_captioner(home / kind, None, CPU, torch.float32)
        tokens = prepare_writer(network, writing)(features)
        assert tokens.shape[1] <= writing.max_length
        ends = (tokens[:, 1:] == 61).float()
        lengths = torch.where(ends.any(1), ends.argmax(1) + 1, tokens.shape[1])
        assert (lengths >= writing.min_length).all()


def test_features_are_the_encoder_s_after_its_norm(home):
    """By hand, from the last layer of each."""
    for kind, tower in (("git", "git.image_encoder.vision_model"), ("blip", "vision_model")):
        network = load_captioner(home / kind, None, CPU, torch.float32)
        states = []
        layer = network.get_submodule(tower).post_layernorm
        layer.register_forward_hook(lambda module, given, out, kept=states: kept.append(out))
        with torch.no_grad():
            network.get_submodule(tower)(pixel_values=prepare(list_pictures(home)))
        found = np.load(home / f"{kind}.npy")
        assert found.shape == (len(TESTED), 5, 12)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, states[0].numpy(), atol=2e-4)


def test_pictures_are_embedded_one_by_one_alike(home):
    embed = embed_captioner("cpu", weights=home / "git")
    rows = np.concatenate([embed([picture], [["a"]]) for picture in list_pictures(home)])
    np.testing.assert_allclose(rows, np.load(home / "git.npy"), atol=1e-4)


@pytest.mark.parametrize(
    ("writing", "message"),
    [
        (Writing(max_length=33), "`max_length`: expected from 2 to 32"),
        (Writing(max_length=1), "`max_length`"),
        (Writing(max_length=5, min_length=6), "`min_length`: expected from 0 to 5"),
    ],
)
def test_impossible_lengths_are_refused(home, tmp_path, writing, message):
    with pytest.raises(InputError, match=message):
        caption(home, tmp_path, "git", writing)


def test_features_of_another_network_are_refused(home, tmp_path):
    features = np.load(home / "git.npy")
    for wrong in (features[:, :4], features[:-1], features[..., :-1], features * np.nan):
        np.save(tmp_path / "wrong.npy", wrong)
        with pytest.raises(InputError, match=r"wrong.npy: expected finite values of shape \(6, 5"):
            caption(home, tmp_path, "git", decoded=tmp_path / "wrong.npy")


def test_other_models_are_refused(home, tmp_path):
    with pytest.raises(InputError, match="a hub id with a revision"):
        embed_captioner(CPU, weights="someone/something")
    text = TEXT | {"eos_token_id": 61}
    clip = CLIPConfig(text_config=text, vision_config=VISION, projection_dim=8)
    CLIPModel(clip).save_pretrained(tmp_path / "clip")
    with pytest.raises(InputError, match="expected one of git, blip, found clip"):
        embed_captioner(CPU, weights=tmp_path / "clip")
    broken = shutil.copytree(home / "git", tmp_path / "git")
    (broken / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"expected weights of a captioner.*model.safetensors"):
        embed_captioner(CPU, weights=broken)


def test_weights_in_pytorch_s_own_format_are_refused(home, tmp_path):
    """They are pickles."""
    folder = shutil.copytree(home / "git", tmp_path / "git")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"expected weights of a captioner.*model.safetensors"):
        embed_captioner(CPU, weights=folder)


def test_missing_weights_are_refused(home, tmp_path):
    """The library would leave them random."""
    config = home / "blip/config.json"
    settings = json.loads(config.read_text())
    settings["text_config"]["num_hidden_layers"] = 3
    shutil.copytree(home / "blip", tmp_path / "blip")
    (tmp_path / "blip/config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=r"found none for text_decoder\S*layer.2"):
        embed_captioner(CPU, weights=tmp_path / "blip")


def test_another_tokenizer_is_refused(home, tmp_path):
    folder = shutil.copytree(home / "git", tmp_path / "git")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(InputError, match="tokenizer"):
        caption(home, tmp_path, "git", path=folder)


def test_another_size_of_pictures_is_refused(home, tmp_path):
    folder = shutil.copytree(home / "blip", tmp_path / "blip")
    BlipImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    embed = embed_captioner(CPU, weights=folder)
    with pytest.raises(InputError, match="expected pictures of 32 px"):
        embed(list_pictures(home), None)
