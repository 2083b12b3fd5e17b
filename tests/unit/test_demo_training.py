"""The whole training of the demo model at the smallest size, and its measures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from nsdldm.demo.scenes import BACKGROUNDS, CATEGORIES, describe_scene
from nsdldm.demo.training import evaluation, loop, stages
from nsdldm.demo.training.__main__ import ADDITIONS
from nsdldm.demo.training.assemble import assemble_model
from nsdldm.demo.training.classifiers import build_judge, load_classifier, prepare
from nsdldm.demo.training.loop import train_network
from nsdldm.demo.training.recipe import Plan, Recipe
from nsdldm.demo.training.scenes import FIRST_NUMBERS
from nsdldm.demo.training.stages import Workshop
from nsdldm.nsd.layout import N_IMAGES
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table

CPU = torch.device("cpu")
MODEL = Path(__file__).parents[2] / "resources/demo_model"
TINY = Recipe(
    pixels=32,
    train_scenes=24,
    test_scenes=12,
    autoencoder_channels=(8, 8, 8, 16),
    text={
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    },
    vision={
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "patch_size": 16,
    },
    projection=8,
    unet_channels=(16, 16),
    depth={
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": 8,
        "backbone_out_indices": [0, 1],
        "neck_hidden_sizes": [8, 8],
        "reassemble_factors": [2, 1],
        "fusion_hidden_size": 8,
    },
    plans={name: Plan(steps=3, batch=4, rate=1e-3) for name in Recipe().plans},
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(TINY, tmp_path_factory.mktemp("training"), CPU)


@pytest.fixture(scope="module")
def model(shop):
    folder = shop.folder / "model"
    assemble_model(shop, folder)
    for add in ADDITIONS.values():
        add(shop, folder)
    return folder


def test_every_stage_has_a_plan():
    assert set(Recipe().plans) == set(stages.STAGES) | set(ADDITIONS)


def test_scenes_are_none_of_a_release_and_the_splits_share_none(shop):
    train, test = shop.scenes("train"), shop.scenes("test")
    assert train.pictures.shape == (24, 32, 32, 3)
    assert train.categories.shape == (24, len(CATEGORIES))
    assert len(test.pictures) == len(test.captions) == len(test.backgrounds) == 12
    assert min(FIRST_NUMBERS.values()) >= N_IMAGES
    assert FIRST_NUMBERS["train"] + Recipe().train_scenes <= FIRST_NUMBERS["test"]
    scene = describe_scene(TINY.seed, FIRST_NUMBERS["train"] + 5)
    assert BACKGROUNDS[train.backgrounds[5]] == scene.background
    named = {name for name, shown in zip(CATEGORIES, train.categories[5], strict=True) if shown}
    assert named == {thing.category for thing in scene.objects}


def test_scenes_once_drawn_are_kept(shop):
    shop.scenes("test")
    path = shop.folder / "test" / "pictures.npy"
    before = path.stat().st_mtime_ns
    shop.scenes("test")
    assert path.stat().st_mtime_ns == before


def test_tokenizer_gives_every_word_one_token_and_knows_all_bytes(shop):
    tokenizer = stages.load_tokenizer(shop)
    text = shop.scenes("train").captions[0][0]
    assert len(tokenizer(text)["input_ids"]) == len(text.split()) + 2
    numbers = tokenizer("Zürich \u2603")["input_ids"]
    assert tokenizer.unk_token_id not in numbers[1:-1]
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def fit(path, target, plan, fail_at=None):
    """Fit one number; optionally break off at a step."""
    torch.manual_seed(0)
    network = torch.nn.Linear(2, 1)
    calls = []

    def loss(network, rng):
        calls.append(1)
        if len(calls) == fail_at:
            raise KeyboardInterrupt
        noise = 0.1 * torch.randn(4, 1)
        x = torch.from_numpy(rng.normal(size=(4, 2)).astype(np.float32))
        return (network(x).float() - target + noise).square().mean()

    return train_network(network, loss, plan, checkpoint=path, seed=3, device=CPU)


def test_interrupted_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY", 4)
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    plan = Plan(steps=11, batch=4, rate=0.1, average=0.5)
    whole, curve = fit(tmp_path / "whole.pt", 1.0, plan)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "broken.pt", 1.0, plan, fail_at=10)
    resumed, resumed_curve = fit(tmp_path / "broken.pt", 1.0, plan)
    assert torch.equal(whole.weight, resumed.weight)
    assert [entry[::2] for entry in curve] == [entry[::2] for entry in resumed_curve]
    assert [entry[0] for entry in curve] == [2, 4, 6, 8, 10, 11]


def test_training_lowers_the_loss_and_a_finished_one_is_only_read(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 50)
    plan = Plan(steps=200, batch=4, rate=0.1, average=0.9)
    trained, curve = fit(tmp_path / "fit.pt", 1.0, plan)
    assert curve[-1][2] < 0.1 * curve[0][2]
    assert trained.bias.item() == pytest.approx(1.0, abs=0.1)
    again, _ = fit(tmp_path / "fit.pt", 5.0, plan, fail_at=1)
    assert torch.equal(again.bias, trained.bias)


def test_damaged_checkpoint_is_one_clear_error(tmp_path):
    (tmp_path / "fit.pt").write_bytes(b"PK no checkpoint")
    with pytest.raises(InputError, match="Delete it to train this stage from its beginning"):
        fit(tmp_path / "fit.pt", 1.0, Plan(steps=2, batch=4, rate=0.1))


def test_decoder_stage_leaves_the_latents_as_they_are(shop):
    first, second = stages.train_autoencoder(shop), stages.train_decoder(shop)
    pictures = prepare(shop.scenes("test").pictures[:2], CPU)
    with torch.no_grad():
        assert torch.equal(
            first.encode(pictures).latent_dist.mean, second.encode(pictures).latent_dist.mean
        )
    changed = [
        not torch.equal(a, b)
        for a, b in zip(first.decoder.parameters(), second.decoder.parameters(), strict=True)
    ]
    assert any(changed)


def test_embeddings_for_training_are_those_of_captions_their_mean_or_none(shop):
    clip, tokenizer = stages.train_clip(shop), stages.load_tokenizer(shop)
    scenes = shop.scenes("train")
    tokens = stages.tokenize(tokenizer, scenes.captions[:8])
    empty = stages.embed_texts(tokenizer, clip.text_model, [""])
    rng = np.random.default_rng(0)
    texts = [text for group in scenes.captions[:8] for text in group]
    single = stages.embed_texts(tokenizer, clip.text_model, texts).view(8, 5, *empty.shape[1:])
    seen = set()
    for _ in range(20):
        drawn = stages.draw_embeddings(rng, clip.text_model, tokens, empty)
        for i, c in enumerate(drawn):
            options = {"empty": empty, "mean": single[i].mean(0, keepdim=True), "one": single[i]}
            for name, tensors in options.items():
                if (tensors - c).abs().amax((1, 2)).min() < 1e-5:
                    seen.add(name)
    assert seen == {"empty", "mean", "one"}


@pytest.mark.parametrize("shipped", [False, True], ids=["tiny", "shipped"])
def test_model_folder_alone_is_a_pipeline_that_paints(model, shipped):
    model = MODEL if shipped else model
    pipeline = StableDiffusionPipeline.from_pretrained(model, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(["a cat in a room"], num_inference_steps=2, output_type="np").images
    assert images.shape == (1, *[Recipe().pixels if shipped else TINY.pixels] * 2, 3)
    assert pipeline.vae.config.scaling_factor != 0.18215


def test_evaluation_measures_everything_and_writes_it_down(shop, model):
    depths = shop.depths("test", range(12))
    table = evaluation.evaluate_model(model, shop.scenes("test"), depths, CPU)
    values = table.set_index("measure")["value"]
    for name in ("true", "autoencoded", "blurred z", "c", "z + c", *evaluation.GUIDED):
        assert 0 <= values[f"judge category, {name}"] <= 1
    assert -1 <= values["depth Spearman correlation, median"] <= 1
    assert np.isfinite(values).all()
    assert (model / "evaluation.tsv").exists()
    assert (model / "samples" / "scenes.png").exists()


def test_each_picture_is_given_its_own_embedding(shop, model):
    models = evaluation.Models(model, CPU)
    given = evaluation._describe(models, shop.scenes("test"), slice(0, 2))

    @torch.no_grad()
    def paint(views):
        embeddings = torch.cat([torch.zeros_like(views), views])[:, None]
        start_from = evaluation._start(torch.zeros(2, 3, 32, 32), 3)
        return models.guided(**start_from, **given, ip_adapter_image_embeds=[embeddings]).images

    views = torch.randn(2, TINY.projection, generator=torch.Generator().manual_seed(4))
    turned = views * torch.tensor([[1.0], [-1.0]])
    first, second = paint(views), paint(turned)
    assert np.abs(first[0] - second[0]).max() < 1e-6
    assert np.abs(first[1] - second[1]).max() > 1e-4


def test_correlation_of_coarse_pictures():
    rng = np.random.default_rng(0)
    true = rng.random((3, 32, 32, 3))
    assert evaluation.correlate(true, true) == pytest.approx(1)
    assert evaluation.correlate(0.3 - 0.1 * true, true) == pytest.approx(-1)
    # Detail within a cell of 2 x 2 pixels does not count.
    checks = np.indices((32, 32)).sum(0)[..., None] % 2 - 0.5
    assert evaluation.correlate(true + checks, true) == pytest.approx(1)


def test_judge_counts_any_category_of_the_scene(shop):
    judge, scenes = build_judge().eval(), shop.scenes("test")
    pictures = np.array(scenes.pictures) / np.float32(255)
    with torch.no_grad():
        _, background = judge(torch.from_numpy(pictures).permute(0, 3, 1, 2) * 2 - 1)
    all_shown = scenes._replace(categories=np.ones_like(scenes.categories))
    none_shown = scenes._replace(categories=np.zeros_like(scenes.categories))
    right = scenes._replace(backgrounds=background.argmax(1).numpy())
    assert evaluation.judge_pictures(judge, pictures, all_shown, CPU)[0] == 1
    assert evaluation.judge_pictures(judge, pictures, none_shown, CPU)[0] == 0
    assert evaluation.judge_pictures(judge, pictures, right, CPU)[1] == 1


def test_classifier_without_its_file_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match=r"judge/model\.safetensors: expected the weights"):
        load_classifier(tmp_path, "judge", CPU)


def test_model_card_says_what_was_measured():
    card = (MODEL / "README.md").read_text(encoding="utf-8")
    table = load_table(MODEL / "evaluation.tsv")
    assert len(table) >= 17
    for measure, value in table.itertuples(index=False):
        assert f"| {measure} | {value:.3f} |" in card
    weights = sum(path.stat().st_size for path in MODEL.glob("*/*.safetensors"))
    assert weights <= 17e6
    assert f"{weights / 1e6:.1f} MB together" in " ".join(card.split())
