import logging

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from diffusion_models import NETWORK, TOKENS, WIDTH, save_model, write_images
from nesting import nest
from sklearn.random_projection import SparseRandomProjection

from nsdldm.diffusion.denoising import Denoising, plan_steps
from nsdldm.diffusion.loading import Model, load_text
from nsdldm.diffusion.steps import count_steps
from nsdldm.diffusion.text import embed_texts
from nsdldm.features import activations, collecting, trajectories
from nsdldm.features.activations import (
    PROJECTION_SEED,
    make_projection,
    plan_reduction,
    project,
)
from nsdldm.features.captions import lend_captions
from nsdldm.features.grams import compute_grams
from nsdldm.features.parts import gather_features, plan_bytes
from nsdldm.features.spaces import plan_spaces
from nsdldm.features.trajectories import (
    Activations,
    Trajectories,
    collect_activations,
    denoise_latents,
)
from nsdldm.support.batching import draw_noise
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table, save_table

# The multistep sampler of diffusers hands torch tensors to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NUMBERS = np.array([5, 11, 400, 72_999, 8, 6, 3])
N = len(NUMBERS)
SIDE = 8
BLOCKS = {
    "two": {"down": "down_blocks.0", "cross": "down_blocks.1", "mid": "mid_block"}
    | {"up": "up_blocks.0", "last": "up_blocks.1"},
    "three": {"a": "down_blocks.0", "b": "down_blocks.2", "c": "mid_block"}
    | {"d": "up_blocks.0", "e": "up_blocks.2"},
}
CHAIN = {
    "num_inference_steps": 5,
    "strength": 0.8,
    "noise_levels": [0.4, 0.8],
    "step_shares": [0.25, 0.5, 1.0],
    "guidance_scale": 5.0,
    "noise": "per-image",
    "seed": 1,
    "text": "own",
    "scheduler": "ddim",
    "latent": "x_t",
    "blocks": BLOCKS["two"],
    "reduction": "projection",
    "width": 10_000,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The usual tiny model, and one whose U-Net has three levels of other widths."""
    two, three = (save_model(tmp_path_factory.mktemp("model"), "v_prediction") for _ in range(2))
    UNet2DConditionModel(
        sample_size=SIDE,
        block_out_channels=(4, 8, 12),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=2,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=WIDTH,
    ).save_pretrained(three / "unet")
    return {"two": two, "three": three}


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((N, 4, SIDE, SIDE), np.float32)
    return z, 3 * rng.standard_normal((N, TOKENS, WIDTH), np.float32)


def names_of(settings):
    keys = ("num_inference_steps", "noise_levels", "strength", "step_shares", "latent", "blocks")
    return plan_spaces(*(settings[key] for key in keys))


def settings_for(folder, model, features, **changes):
    """Arguments of `denoise_latents` and of `collect_activations`, which follows it."""
    for name, array in zip("zc", features, strict=True):
        np.save(folder / f"{name}.npy", array)
    settings = NETWORK | CHAIN | {"batch_size": 4, "chunk": 0, "n_chunks": 1} | changes
    files = {name: folder / f"{name}.npy" for name in "zc"}
    images = write_images(folder / "images.tsv", NUMBERS)
    outputs = {name: folder / f"out/{name}.npy" for name in names_of(settings)}
    of_blocks = {name: path for name, path in outputs.items() if name.startswith("unet")}
    latents = {name: path for name, path in outputs.items() if name not in of_blocks}
    settings = {"images": images, "model": model} | files | settings
    own = [settings.pop(key) for key in ("blocks", "reduction", "width")]
    shares = settings["step_shares"]
    chain = nest(settings, model=Model, denoising=Denoising, trajectories=Trajectories)
    kept = Activations(shares, *own)
    probe = {key: chain[key] for key in ("images", "c", "model", "denoising", "chunk", "n_chunks")}
    before = {name: path for name, path in latents.items() if name.startswith("before")}
    probe |= {"before": before, "activations": kept, "outputs": of_blocks}
    return chain | {"outputs": latents}, probe


def run(folder, model, features, **changes):
    """Everything that a chunk leaves; activations need the latents of all images."""
    chain, probe = settings_for(folder, model, features, **changes)
    denoise_latents(**chain)
    found = {name: np.load(path) for name, path in chain["outputs"].items()}
    if chain["text"] == "own":
        before = {name: folder / f"whole/{name}.npy" for name in probe["before"]}
        denoise_latents(**chain | {"chunk": 0, "n_chunks": 1, "outputs": before})
        collect_activations(**probe | {"before": before})
        found |= {name: np.load(path) for name, path in probe["outputs"].items()}
    half = probe["activations"].reduction == "exact"
    for name, array in found.items():
        assert array.dtype == (np.float16 if half and name.startswith("unet") else np.float32)
    return found


@torch.no_grad()
def blocks_by_hand(unet, x, t, c):
    """What every block of a U-Net makes of one image, called one after the other."""
    embedding = unet.time_embedding(unet.time_proj(torch.tensor([t])))
    made, skipped = {}, [unet.conv_in(x)]
    hidden, given = skipped[0], {"encoder_hidden_states": c}
    for i, block in enumerate(unet.down_blocks):
        hidden, more = block(hidden, embedding, **(given if hasattr(block, "attentions") else {}))
        made[f"down_blocks.{i}"] = hidden
        skipped += more
    hidden = made["mid_block"] = unet.mid_block(hidden, embedding, **given)
    for i, block in enumerate(unet.up_blocks):
        n = len(block.resnets)
        taken, skipped = tuple(skipped[-n:]), skipped[:-n]
        options = given if hasattr(block, "attentions") else {}
        hidden = made[f"up_blocks.{i}"] = block(hidden, taken, embedding, **options)
    return made


@torch.no_grad()
def chain_by_hand(model, features, index, scheduler, guidance=5.0):
    """One image's latents, predicted clean latents and activations after 1 to 4 steps."""
    unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet").eval()
    kind = {"ddim": DDIMScheduler, "dpmsolver++": DPMSolverMultistepScheduler}[scheduler]
    sampler = kind.from_pretrained(model, subfolder="scheduler")
    timesteps = plan_steps(sampler, 5, 0.8)
    noise = torch.from_numpy(draw_noise(1, NUMBERS[[index]], (4, SIDE, SIDE)))
    x = sampler.add_noise(torch.from_numpy(features[0][[index]]), noise, timesteps[:1])
    c = torch.from_numpy(features[1][[index]])
    empty = embed_texts(*load_text(model, None, torch.device("cpu"), torch.float32), [""])
    made = []
    for t in timesteps:
        without, with_c = (unet(x, t, context).sample for context in (empty, c))
        v = without + guidance * (with_c - without)
        alpha = sampler.alphas_cumprod[t]
        step = blocks_by_hand(unet, x, int(t), c) | {"x0": alpha**0.5 * x - (1 - alpha) ** 0.5 * v}
        x = sampler.step(v, t, x).prev_sample
        made.append(step | {"x_t": x})
    return made


@pytest.mark.parametrize(
    "shape, scheduler, latent",
    [("two", "ddim", "x_t"), ("three", "ddim", "x0"), ("two", "dpmsolver++", "x0")],
)
def test_everything_equals_the_chain_by_hand(tmp_path, models, features, shape, scheduler, latent):
    options = {"blocks": BLOCKS[shape], "scheduler": scheduler, "latent": latent}
    found = run(tmp_path, models[shape], features, **options)
    for index in (0, 5):
        made = chain_by_hand(models[shape], features, index, scheduler)
        for percent, step in (("025", 0), ("050", 1), ("100", 3)):
            sources = {"zc": latent} | {f"unet-{k}": v for k, v in BLOCKS[shape].items()}
            for name, source in sources.items():
                expected = made[step][source].numpy()[0]
                array = found[f"{name}-s{percent}"][index]
                np.testing.assert_allclose(array.ravel(), expected.ravel(), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found["zc-n080"][index], made[3]["x_t"][0], atol=1e-4)
    assert found["zc-s025"].shape == (N, 4, SIDE, SIDE)
    # Steps differ, or the above says little.
    assert np.abs(found["zc-s025"] - found["zc-s050"]).max() > 0.1


@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++"])
@pytest.mark.parametrize("noise", ["per-image", "shared"])
def test_zc_is_the_end_of_its_level_and_of_the_steps(tmp_path, models, features, scheduler, noise):
    found = run(tmp_path, models["two"], features, scheduler=scheduler, noise=noise)
    for name in ("zc-n080", "zc-s100"):
        np.testing.assert_array_equal(found[name], found["zc"])
    # Of four steps, the second starts where the first ends.
    np.testing.assert_array_equal(found["before-s050"], found["zc-s025"])
    changes = {"scheduler": scheduler, "noise": noise, "strength": 0.4, "step_shares": [1.0]}
    again = run(tmp_path, models["two"], features, **changes)
    np.testing.assert_array_equal(again["zc"], found["zc-n040"])


def test_without_guidance_the_conditional_pass_is_all_there_is(tmp_path, models, features):
    found = run(tmp_path, models["two"], features, guidance_scale=1)
    made = chain_by_hand(models["two"], features, 2, "ddim", guidance=1)[1]["mid_block"]
    np.testing.assert_allclose(found["unet-mid-s050"][2], made.flatten(), atol=1e-4)


@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++"])
@pytest.mark.parametrize("text", ["empty", "other-caption"])
def test_controls_are_made_with_the_text_of_nobody_or_of_another(
    tmp_path, models, features, scheduler, text
):
    """As if c had been that text's, guided as usual."""
    changes = {"scheduler": scheduler, "text": text, "batch_size": 3}
    chunks = []
    for chunk in range(2):
        folder = tmp_path / str(chunk)
        folder.mkdir()
        chunks.append(run(folder, models["two"], features, **changes, chunk=chunk, n_chunks=2))
    z, c = features
    if text == "empty":
        empty = load_text(models["two"], None, torch.device("cpu"), torch.float32)
        given = np.repeat(embed_texts(*empty, [""]).numpy(), N, axis=0)
    else:
        given = c[lend_captions(NUMBERS, load_table(tmp_path / "0/images.tsv")["split"], 1)]
        assert not (given == c).all((1, 2)).any()
    expected = run(tmp_path, models["two"], (z, given), scheduler=scheduler)
    for name in ("zc-n080", "zc-s100"):
        found = np.concatenate([made[name] for made in chunks])
        np.testing.assert_allclose(found, expected[name], rtol=1e-3, atol=1e-3)


def test_captions_are_lent_in_rings_within_a_split():
    rng = np.random.default_rng(0)
    nsd_ids = rng.choice(73_000, 300, replace=False)
    splits = np.where(np.arange(300) < 60, "test", "train")
    lenders = lend_captions(nsd_ids, splits, 42)
    assert sorted(lenders) == list(range(300))
    assert (lenders != np.arange(300)).all()
    assert (splits[lenders] == splits).all()
    # Another subject saw the same test images among others, in another order.
    order = rng.permutation(60)
    others = np.concatenate([nsd_ids[:60][order], 73_000 + np.arange(9)])
    again = lend_captions(others, ["test"] * 60 + ["train"] * 9, 42)
    pairs = dict(zip(nsd_ids, nsd_ids[lenders], strict=True))
    assert all(pairs[others[row]] == others[again[row]] for row in range(60))
    assert (lend_captions(nsd_ids, splits, 43) != lenders).mean() > 0.9
    with pytest.raises(InputError, match="test images: expected at least two"):
        lend_captions([1, 2, 3], ["test", "train", "train"], 0)


def test_an_image_without_text_costs_one_pass(tmp_path, models, features, monkeypatch):
    calls, whole = [], UNet2DConditionModel.forward

    def forward(self, *args, **kwargs):
        calls.append(len(args[0]))
        return whole(self, *args, **kwargs)

    settings, _ = settings_for(tmp_path, models["two"], features, batch_size=N, text="empty")
    settings["outputs"] = {"zc-n040": tmp_path / "end.npy"}
    monkeypatch.setattr(UNet2DConditionModel, "forward", forward)
    denoise_latents(**settings)
    assert calls == [N, N]


def test_only_the_levels_that_are_asked_for_are_run(tmp_path, models, features, monkeypatch):
    calls = []

    def forward(self, *args, **kwargs):
        calls.append(len(args[0]))
        return whole(self, *args, **kwargs)

    whole = UNet2DConditionModel.forward
    settings, probe = settings_for(tmp_path, models["two"], features, batch_size=N)
    everything = settings["outputs"]
    settings["outputs"] = {"zc-n040": tmp_path / "end.npy"}
    monkeypatch.setattr(UNet2DConditionModel, "forward", forward)
    denoise_latents(**settings)
    # Two steps of the guided batch.
    assert calls == 2 * [2 * N]
    calls.clear()
    denoise_latents(**settings | {"outputs": everything})
    assert calls == 6 * [2 * N]
    calls.clear()
    collect_activations(**probe)
    # A pass over nothing, and one without guidance for each step kept.
    assert calls == [2, N, N, N]


def test_batches_and_chunks_do_not_matter(tmp_path, models, features):
    whole = run(tmp_path, models["two"], features, width=100, batch_size=N)
    assert whole["unet-mid-s050"].shape == (N, 100)
    made = {name: [] for name in whole}
    for chunk, batch_size in enumerate((1, 2, 5)):
        folder = tmp_path / str(chunk)
        folder.mkdir()
        changes = {"chunk": chunk, "n_chunks": 3, "width": 100, "batch_size": batch_size}
        run(folder, models["two"], features, **changes)
        for name, paths in made.items():
            paths.append(folder / f"out/{name}.npy")
    assert len(np.load(made["zc-n040"][0])) == 2
    outputs = {name: tmp_path / "gathered" / f"{name}.npy" for name in made}
    gather_features(chunks=made, images=tmp_path / "images.tsv", outputs=outputs)
    for name, output in outputs.items():
        np.testing.assert_allclose(np.load(output), whole[name], atol=1e-5)
    chunks = made["zc-n040"]
    for wrong, message in (
        (chunks[:2], r"expected float32 of shape \(3, 4, 8, 8\), .* of shape \(2, 4, 8, 8\)"),
        (chunks[::-1], r"expected float32 of shape \(2, 4, 8, 8\), .* of shape \(3, 4, 8, 8\)"),
        ([*chunks[:2], made["zc-s100"][0]], r"chunk 2 of 3 has, .*\(2, 4, 8, 8\)"),
        ([tmp_path / "no.npy"], r"no.npy: .*found no such file"),
    ):
        with pytest.raises(InputError, match=message):
            gather_features(
                chunks={"zc": wrong}, images=tmp_path / "images.tsv", outputs={"zc": output}
            )


def test_memory_that_runs_out_halves_batches(tmp_path, models, features, monkeypatch, caplog):
    def few(whole):
        def run_few(first, latents, *rest):
            # Memory runs out late: the sampler has already been used.
            kept = whole(first, latents, *rest)
            if len(latents) > 2:
                raise torch.OutOfMemoryError
            return kept

        return run_few

    expected = run(tmp_path, models["two"], features, batch_size=2)
    for name in ("trace", "probe"):
        monkeypatch.setattr(trajectories, name, few(getattr(trajectories, name)))
    found = run(tmp_path, models["two"], features, batch_size=5)
    assert "continuing with 2" in caplog.text
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_hooks_are_removed_whatever_happens(tmp_path, models, features, monkeypatch):
    def load(*args):
        networks.append(whole(*args))
        return networks[-1]

    networks, whole = [], trajectories.open_denoiser
    monkeypatch.setattr(trajectories, "open_denoiser", load)
    run(tmp_path, models["two"], features)
    monkeypatch.setattr(activations, "project", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, models["two"], features, width=100)
    blocks = BLOCKS["two"] | {"wrong": "down_blocks.9"}
    with pytest.raises(InputError):
        run(tmp_path, models["two"], features, blocks=blocks)
    # Two chains and a probe each.
    assert len(networks) == 9
    for network in networks:
        assert not any(module._forward_hooks for module in network.unet.modules())


def test_projections_are_those_of_scikit_learn(tmp_path, models, features):
    whole = run(tmp_path, models["two"], features)
    found = run(tmp_path, models["two"], features, width=100)
    for name, array in whole.items():
        if array.ndim == 2 and array.shape[1] > 100:
            sparse = SparseRandomProjection(100, random_state=PROJECTION_SEED)
            expected = sparse.fit(array).transform(array)
            np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-4)
        else:
            np.testing.assert_array_equal(found[name], array)
    assert whole["unet-mid-s050"].shape == (N, 128)
    assert whole["unet-last-s050"].shape == (N, 256)


def test_projections_keep_squared_distances_on_average():
    x = torch.randn((20, 40, 10, 10), generator=torch.Generator().manual_seed(0))
    matrix = make_projection(4000, 500, torch.device("cpu"))
    assert abs(matrix._nnz() / 4000**0.5 / 500 - 1) < 0.05
    ratios = project(matrix, x).square().sum(1) / x.square().sum((1, 2, 3))
    assert abs(ratios.mean() - 1) < 0.05
    assert ratios.std() < 0.15


@pytest.mark.parametrize(
    "shape, width, grid",
    [((3, 8, 8), 50, (4, 4)), ((2, 4, 12), 40, (2, 6)), ((5, 4, 4), 5, (1, 1))],
)
def test_pooling_takes_means_over_places(shape, width, grid):
    reduce, n_kept = plan_reduction(shape, "pooling", width, None, "")
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    channels, height, columns = shape
    cells = (2, channels, grid[0], height // grid[0], grid[1], columns // grid[1])
    expected = x.reshape(cells).mean((3, 5)).reshape(2, -1)
    np.testing.assert_allclose(reduce(torch.from_numpy(x)), expected, atol=1e-6)
    assert n_kept == expected.shape[1] <= width


@pytest.mark.parametrize("shape", [(60, 8, 8), (9, 10)])
def test_pooling_that_cannot_fit_is_refused(shape):
    with pytest.raises(InputError, match=r"`blocks`.x: expected a map of at most 50 channels"):
        plan_reduction(shape, "pooling", 50, None, "`blocks`.x")


def test_bytes_are_planned_and_logged_before_the_run(tmp_path, models, features, caplog):
    caplog.set_level(logging.INFO)
    changes = {"width": 100, "reduction": "pooling"}
    chain, settings = settings_for(tmp_path, models["two"], features, **changes)
    denoise_latents(**chain)
    caplog.clear()
    collect_activations(**settings)
    shapes = {name: np.load(path).shape[1:] for name, path in settings["outputs"].items()}
    planned = plan_bytes(N, {name: (shape, np.float32) for name, shape in shapes.items()})
    for name, path in settings["outputs"].items():
        assert planned[name] == path.stat().st_size - 128
        assert np.prod(shapes[name]) <= 100
    said = caplog.text.index(f"{sum(planned.values())} bytes in all")
    assert said < caplog.text.index("batches of pictures")


def test_whole_activations_take_two_bytes_a_number():
    # up_blocks.1 of Stable Diffusion 1.4 at 320 px, the images of a subject of NSD: 10 GB per step.
    kinds = {"unet-up2-s100": ((1280 * 20 * 20,), np.float16)}
    kinds |= {"zc-s100": ((4, 40, 40), np.float32)}
    sizes = plan_bytes(9841, kinds)
    assert sizes == {"unet-up2-s100": 10_077_184_000, "zc-s100": 251_929_600}


def test_whole_activations_are_kept_as_float16_and_give_the_gram_matrix(tmp_path, models, features):
    """Chunks as the jobs of a cluster leave them, against activations made by hand."""
    spaces = {}
    for chunk in range(3):
        (tmp_path / str(chunk)).mkdir()
        changes = {"reduction": "exact", "width": 10, "chunk": chunk, "n_chunks": 3}
        made = run(tmp_path / str(chunk), models["two"], features, **changes)
        for name in made:
            if name.startswith("unet"):
                spaces.setdefault(name, []).append(tmp_path / f"{chunk}/out/{name}.npy")
    split = np.array(["train", "test", "train", "train", "train", "test", "train"])
    save_table(tmp_path / "images.tsv", pd.DataFrame({"nsd_id": NUMBERS, "split": split}))
    paths = {name: tmp_path / f"{name}.npy" for name in spaces}
    compute_grams(chunks=spaces, images=tmp_path / "images.tsv", grams=paths, device="cpu")
    made = [chain_by_hand(models["two"], features, index, "ddim") for index in range(N)]
    for name, source in BLOCKS["two"].items():
        X = np.stack([steps[1][source].numpy().ravel() for steps in made]).astype(np.float64)
        X -= X[split == "train"].mean(axis=0)
        expected = X @ X.T
        found = np.load(paths[f"unet-{name}-s050"])
        np.testing.assert_allclose(found, expected, atol=2e-3 * expected.max())


def test_activations_beyond_float16_are_refused(tmp_path, models, features, monkeypatch):
    def probe(*args):
        shapes = whole(*args)
        args[0].unet.up_blocks[0].register_forward_hook(lambda *call: call[2] * 1e6)
        return shapes

    whole = activations.probe_blocks
    monkeypatch.setattr(activations, "probe_blocks", probe)
    message = r"`reduction`: expected activations of at most 65504, .*e\+\d+ in unet-"
    with pytest.raises(InputError, match=message):
        run(tmp_path, models["two"], features, reduction="exact")
    assert not list((tmp_path / "out").glob("*unet*"))


def test_too_little_space_is_said_before_the_pass(tmp_path, models, features, monkeypatch, caplog):
    chain, settings = settings_for(tmp_path, models["two"], features, reduction="exact")
    denoise_latents(**chain)
    settings |= {"n_chunks": 2, "outputs": {k: tmp_path / k for k in settings["outputs"]}}
    usage = collecting.shutil.disk_usage(tmp_path)
    for free, problem in ((1000, "own"), (30_000, "all")):
        found = usage._replace(free=free)
        with monkeypatch.context() as patch:
            patch.setattr(collecting.shutil, "disk_usage", lambda _, found=found: found)
            if problem == "own":
                with pytest.raises(InputError, match=r"GB of free space .*found 0.000 GB"):
                    collect_activations(**settings)
                assert not list(tmp_path.glob("*unet*"))
            else:
                collect_activations(**settings)
                assert "not for all of the subject's" in caplog.text


def test_spaces_are_named_by_percents_of_level_and_steps():
    plan = plan_spaces(50, [0.2, 0.58, 1], 0.8, [0.01, 0.25, 1], "x0", {"mid": "mid_block"})
    assert plan == {
        "zc": (0.8, 40, "x_t"),
        "zc-n020": (0.2, 10, "x_t"),
        # As diffusers, which takes 50 x 0.58 = 28.999999999999996 as it is.
        "zc-n058": (0.58, 28, "x_t"),
        "zc-n100": (1, 50, "x_t"),
        "zc-s001": (0.8, 1, "x0"),
        "zc-s025": (0.8, 10, "x0"),
        "zc-s100": (0.8, 40, "x0"),
        "before-s001": (0.8, 1, "before"),
        "before-s025": (0.8, 10, "before"),
        "before-s100": (0.8, 40, "before"),
        "unet-mid-s001": (0.8, 1, "mid_block"),
        "unet-mid-s025": (0.8, 10, "mid_block"),
        "unet-mid-s100": (0.8, 40, "mid_block"),
    }
    for steps in (5, 10, 50):
        for share in np.arange(1, 101) / 100:
            n = len(plan_steps(DDIMScheduler(), steps, share))
            assert count_steps(steps, share) == n


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"noise_levels": [0.4, 0.5]},
            r"`noise_levels`: .*different number of the 5 steps.*\[2, 2\]",
        ),
        ({"noise_levels": [0]}, r"`noise_levels`: expected whole percents above 0"),
        ({"noise_levels": [0.255]}, r"`noise_levels`: .*found 0.255"),
        ({"step_shares": [0.5, 0.6]}, r"`step_shares`: .*different number of the 4 steps"),
        ({"step_shares": [1.01]}, r"`step_shares`: expected whole percents"),
        ({"latent": "eps"}, r"`latent`: expected one of x_t, x0, found 'eps'"),
        ({"noise": "none"}, r"`noise`: expected one of per-image, shared"),
        ({"reduction": "pca"}, r"`reduction`: expected one of exact, projection, pooling"),
        ({"n_chunks": 8}, r"`n_chunks`: expected at most 7"),
        ({"outputs": {"zc-n050": "x.npy"}}, r"outputs: expected .*zc-n040, .*found zc-n050"),
        ({"outputs": {}}, r"outputs: .*found none"),
        (
            {"blocks": {"b": "down_block.1"}},
            r"`blocks`.b: .*such as .*down_blocks.1.*found 'down_block.1'",
        ),
        ({"blocks": {"b": "9"}}, r"`blocks`.b: .*such as conv_in.*found '9'"),
        ({"blocks": {"b": ""}}, r"`blocks`.b: expected the path of a module"),
        ({"blocks": {"b": "down_blocks"}}, r"`blocks`.b: .*per pass.*down_blocks, which runs 0"),
        (
            {"blocks": {"b": "down_blocks.0.resnets.0.nonlinearity"}},
            r"once per pass.*nonlinearity, which runs [2-9]",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path, models, features, changes, message):
    outputs = changes.pop("outputs", None)
    with pytest.raises(InputError, match=message):
        if outputs is None:
            run(tmp_path, models["two"], features, **changes)
        settings, _ = settings_for(tmp_path, models["two"], features)
        denoise_latents(**settings | {"outputs": outputs})
    assert not list(tmp_path.glob("out/*unet*"))


def test_features_of_another_model_or_without_sense_are_refused(tmp_path, models, features):
    z, c = features
    bad = c.copy()
    bad[4, 3, 2] = np.nan
    for given, message in (
        ([z[:, :3], c], r"z.npy: .*\(7, 4, any, any\), found one of \(7, 3, 8, 8\)"),
        ([z, c[..., :6]], r"c.npy: .*\(7, 24, 8\), found one of \(7, 24, 6\)"),
        ([z[:6], c], r"z.npy: .*\(7, 4, any, any\)"),
        ([z, bad], r"c.npy: expected finite values, .* for image 8 \(row 4\)"),
    ):
        with pytest.raises(InputError, match=message):
            run(tmp_path, models["two"], given)
        assert not (tmp_path / "out").exists()


def test_activations_that_are_not_finite_are_refused(tmp_path, models, features, monkeypatch):
    monkeypatch.setattr(activations, "project", lambda *_: torch.full((4, 100), np.nan))
    with pytest.raises(InputError, match=r"`dtype`: .*unet-\w+-s\d+, .*in images 0 to 3"):
        run(tmp_path, models["two"], features, width=100)
