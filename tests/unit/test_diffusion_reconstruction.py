import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img as img2img
from diffusion_models import SCALE, TOKENS, WIDTH, save_model
from nesting import nest
from PIL import Image

from nsdldm.diffusion import reconstruction
from nsdldm.diffusion.loading import Model, load_text
from nsdldm.diffusion.pictures import (
    ATTRIBUTES,
    find_test_images,
    gather_reconstructions,
    open_reconstructions,
)
from nsdldm.diffusion.reconstruction import (
    METHODS,
    Reconstruction,
    decode_pictures,
    reconstruct_chunk,
)
from nsdldm.diffusion.text import embed_texts
from nsdldm.support.batching import draw_noise
from nsdldm.support.chunks import chunk_rows
from nsdldm.support.errors import InputError

# The multistep sampler of diffusers hands torch tensors to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SPLIT = np.array(["test", "train", "test", "test", "test", "train", "test", "test", "test"])
IS_TEST = SPLIT == "test"
NSD_IDS = np.array([70_000, 3, 12, 5, 400, 8, 72_999, 1, 0])
NUMBERS = NSD_IDS[IS_TEST]
SMALL, SIDE, SAMPLES = 16, 24, 2
SETTINGS = {
    "method": "zc",
    "revision": None,
    "latent_resolution": SMALL,
    "resolution": SIDE,
    "num_inference_steps": 5,
    "strength": 0.8,
    "guidance_scale": 5.0,
    "scheduler": "ddim",
    "samples": SAMPLES,
    "seed": 1,
    "device": "cpu",
    "dtype": "float32",
    "batch_size": 8,
    "compile": False,
    "chunk": 0,
    "n_chunks": 1,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A model, a table of images and features: decoded ones and those of all images."""
    home = tmp_path_factory.mktemp("reconstruction")
    save_model(home / "model")
    write_features(home, np.random.default_rng(0), len(NSD_IDS), "true_")
    write_features(home, np.random.default_rng(1), len(NUMBERS))
    write_table(home / "images.tsv", NSD_IDS, SPLIT)
    return home


def write_features(folder, rng, n, prefix=""):
    np.save(folder / f"{prefix}z.npy", 0.5 * rng.standard_normal((n, 4, 8, 8), np.float32))
    # Strong, so that leaving c out shows.
    np.save(folder / f"{prefix}c.npy", 9 * rng.standard_normal((n, TOKENS, WIDTH), np.float32))


def write_table(path, nsd_ids, split):
    pd.DataFrame({"nsd_id": nsd_ids, "split": split}).to_csv(path, sep="\t", index=False)
    return path


def settings_for(home, folder, **changes):
    files = {"images": home / "images.tsv", "z": home / "z.npy", "c": home / "c.npy"}
    places = {"model": home / "model", "output": folder / "out.h5"}
    settings = SETTINGS | files | places | changes
    return nest(settings, model=Model, settings=Reconstruction)


def read(path):
    with open_reconstructions(path) as made:
        return made.images[:]


def make(home, folder, **changes):
    settings = settings_for(home, folder, **changes)
    reconstruct_chunk(**settings)
    return read(settings["output"])


def assert_same(found, expected, levels=1, share=0.999):
    difference = np.abs(found.astype(int) - expected)
    assert found.shape == expected.shape
    assert (difference <= levels).mean() >= share


@pytest.fixture(scope="module")
def whole(home, tmp_path_factory):
    """All pictures of each method that starts from decoded features, in one chunk."""
    folder = tmp_path_factory.mktemp("whole")
    return {name: make(home, folder, method=name) for name in METHODS if name != "true-zc"}


def test_pictures_are_those_of_the_contract(home, tmp_path, whole):
    reconstruct_chunk(**settings_for(home, tmp_path))
    gather_reconstructions(
        chunks=[tmp_path / "out.h5"], images=home / "images.tsv", output=tmp_path / "zc.h5"
    )
    with open_reconstructions(tmp_path / "zc.h5") as made:
        assert made.images.shape == (len(NUMBERS), SAMPLES, SIDE, SIDE, 3)
        assert made.images.dtype == np.uint8
        assert made.images.chunks == (1, 1, SIDE, SIDE, 3)
        assert made.images.compression == "gzip"
        assert made.nsd_ids.dtype == np.int64
        np.testing.assert_array_equal(made.nsd_ids, NUMBERS)
        found = {name: made.attrs[name] for name in ATTRIBUTES}
        assert {"chunk", "n_chunks"}.isdisjoint(made.attrs)
    assert found == {
        "method": "zc",
        "model": str(home / "model"),
        "revision": "",
        "seed": 1,
        "strength": 0.8,
        "guidance_scale": 5.0,
        "num_inference_steps": 5,
        "scheduler": "ddim",
        "resolution": SIDE,
    }
    # Images and samples differ, or the tests below could not fail.
    pictures = whole["zc"].astype(float)
    assert np.abs(pictures[:, 0] - pictures[:, 1]).mean((1, 2, 3)).min() > 5
    assert pictures.std(0).mean() > 5


@pytest.mark.parametrize(
    "method, n_chunks, batch_size",
    [
        *(("zc", n_chunks, batch_size) for n_chunks in (1, 3, 7) for batch_size in (1, 8)),
        ("c", 3, 1),
        ("z-coarse", 3, 2),
    ],
)
def test_pictures_do_not_depend_on_chunks_or_batches(
    home, tmp_path, whole, method, n_chunks, batch_size
):
    chunks = [tmp_path / f"{chunk}.h5" for chunk in range(n_chunks)]
    for chunk, path in enumerate(chunks):
        changes = {"chunk": chunk, "n_chunks": n_chunks, "batch_size": batch_size}
        make(home, tmp_path, method=method, output=path, **changes)
    gather_reconstructions(
        chunks=chunks[::-1], images=home / "images.tsv", output=tmp_path / "all.h5"
    )
    assert_same(read(tmp_path / "all.h5"), whole[method])


def test_pictures_belong_to_the_images_whatever_their_order_and_company(home, tmp_path, whole):
    order = [5, 0, 3]
    for name in "zc":
        np.save(tmp_path / f"{name}.npy", np.load(home / f"{name}.npy")[order])
    images = write_table(tmp_path / "images.tsv", NUMBERS[order], "test")
    changes = {"images": images, "z": tmp_path / "z.npy", "c": tmp_path / "c.npy", "samples": 1}
    assert_same(make(home, tmp_path, **changes), whole["zc"][order][:, :1])
    assert np.abs(make(home, tmp_path, **changes, seed=2) - whole["zc"][order][:, :1]).mean() > 5


@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++"])
def test_zc_equals_the_pipeline_of_diffusers(home, tmp_path, whole, monkeypatch, scheduler):
    found = whole["zc"] if scheduler == "ddim" else make(home, tmp_path, scheduler=scheduler)
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(home / "model")
    if scheduler != "ddim":
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, _: self.mean)
    z, c = (torch.from_numpy(np.load(home / f"{name}.npy")) for name in "zc")
    for index, sample in [(0, 0), (4, 1), (6, 0)]:
        with torch.no_grad():
            decoded = pipeline.vae.decode(z[[index]] / SCALE).sample
        coarse = pipeline.image_processor.postprocess(decoded, output_type="pil")[0]
        noise = draw_noise(1, NUMBERS[[index]], (4, 12, 12), sample)
        monkeypatch.setattr(img2img, "randn_tensor", lambda *_, n=noise, **__: torch.tensor(n))
        picture = pipeline(
            prompt_embeds=c[[index]],
            negative_prompt="",
            image=coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC),
            num_inference_steps=5,
            strength=0.8,
            guidance_scale=5.0,
        ).images[0]
        assert_same(found[index, sample], np.asarray(picture))


def test_c_equals_text_to_image(home, whole):
    pipeline = StableDiffusionPipeline.from_pretrained(home / "model")
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline(
        prompt_embeds=torch.from_numpy(np.load(home / "c.npy")[[2]]),
        negative_prompt="",
        latents=torch.from_numpy(draw_noise(1, NUMBERS[[2]], (4, 12, 12), 1)),
        num_inference_steps=5,
        guidance_scale=5.0,
    ).images[0]
    assert_same(whole["c"][2, 1], np.asarray(picture))


def test_z_coarse_is_the_enlarged_picture_of_z(home, whole):
    autoencoder = AutoencoderKL.from_pretrained(home / "model", subfolder="vae")
    with torch.no_grad():
        decoded = autoencoder.decode(torch.from_numpy(np.load(home / "z.npy")) / SCALE).sample
    levels = np.rint(255 * (decoded / 2 + 0.5).clamp(0, 1).numpy()).astype(np.uint8)
    assert whole["z-coarse"].shape == (len(NUMBERS), 1, SIDE, SIDE, 3)
    for found, picture in zip(whole["z-coarse"], levels, strict=True):
        image = Image.fromarray(picture.transpose(1, 2, 0))
        assert_same(found[0], np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)))


def test_at_its_own_size_nothing_is_resampled(home, tmp_path):
    pictures = make(home, tmp_path, method="z-coarse", resolution=SMALL)
    autoencoder = AutoencoderKL.from_pretrained(home / "model", subfolder="vae")
    decoded = decode_pictures(autoencoder, torch.from_numpy(np.load(home / "z.npy")))
    assert_same(pictures[:, 0], decoded)


@pytest.mark.parametrize("method, other", [("z", "c"), ("c", "z"), ("z-coarse", "c")])
def test_a_method_leaves_the_other_feature_out(home, tmp_path, whole, method, other):
    pictures = make(home, tmp_path, method=method, **{other: None})
    np.testing.assert_array_equal(pictures, whole[method])
    own = "z" if other == "c" else "c"
    np.save(tmp_path / "changed.npy", np.load(home / f"{own}.npy")[::-1])
    changed = make(home, tmp_path, method=method, **{own: tmp_path / "changed.npy"})
    assert (np.abs(changed.astype(int) - whole[method]) > 1).mean() > 0.05


def test_z_is_zc_of_the_empty_text_without_the_doubled_pass(home, tmp_path, whole, monkeypatch):
    sizes = count_passes(monkeypatch)
    pictures = make(home, tmp_path, method="z", guidance_scale=5.0)
    np.testing.assert_array_equal(pictures, whole["z"])
    assert set(sizes) == {8, 6}
    sizes.clear()
    tower = load_text(home / "model", None, torch.device("cpu"), torch.float32)
    empty = embed_texts(*tower, [""]).repeat(len(NUMBERS), 1, 1)
    np.save(tmp_path / "empty.npy", empty.numpy())
    guided = make(home, tmp_path, c=tmp_path / "empty.npy")
    assert set(sizes) == {16, 12}
    assert_same(guided, whole["z"])
    assert (np.abs(whole["zc"].astype(int) - whole["z"]) > 1).mean() > 0.05


def count_passes(monkeypatch):
    sizes = []
    forward = UNet2DConditionModel.forward

    def counted(self, sample, *args, **kwargs):
        sizes.append(len(sample))
        return forward(self, sample, *args, **kwargs)

    monkeypatch.setattr(UNet2DConditionModel, "forward", counted)
    return sizes


@pytest.mark.parametrize("method, passes", [("zc", 4), ("z", 4), ("c", 5)])
def test_c_alone_takes_all_steps_whatever_strength_says(
    home, tmp_path, whole, monkeypatch, method, passes
):
    sizes = count_passes(monkeypatch)
    make(home, tmp_path, method=method, batch_size=14)
    assert len(sizes) == passes
    weaker = make(home, tmp_path, method=method, strength=0.4)
    assert np.array_equal(weaker, whole[method]) == (method == "c")


def test_the_ceiling_is_zc_of_the_images_own_features(home, tmp_path):
    true = {name: home / f"true_{name}.npy" for name in "zc"}
    ceiling = make(home, tmp_path, method="true-zc", **true)
    for name, path in true.items():
        np.save(tmp_path / f"{name}.npy", np.load(path)[IS_TEST])
    given = {name: tmp_path / f"{name}.npy" for name in "zc"}
    np.testing.assert_array_equal(ceiling, make(home, tmp_path, **given))


def test_settings_in_effect_are_written(home, tmp_path):
    found = {}
    for method in ("z", "c", "z-coarse"):
        make(home, tmp_path, method=method)
        with open_reconstructions(tmp_path / "out.h5") as made:
            names = ("num_inference_steps", "strength", "guidance_scale", "scheduler")
            found[method] = tuple(made.attrs[name] for name in names)
    assert found == {
        "z": (5, 0.8, 1, "ddim"),
        "c": (5, 1, 5, "ddim"),
        "z-coarse": (0, 0, 1, "none"),
    }


def test_pictures_are_complete_when_memory_runs_out(home, tmp_path, whole, monkeypatch, caplog):
    def denoise_few(unet, sampler, latents, *rest):
        denoised = denoise(unet, sampler, latents, *rest)
        if len(latents) > 2:
            raise torch.OutOfMemoryError
        return denoised

    denoise = reconstruction.denoise
    monkeypatch.setattr(reconstruction, "denoise", denoise_few)
    assert_same(make(home, tmp_path), whole["zc"])
    assert "continuing with 2" in caplog.text


def test_large_pictures_pass_the_autoencoder_one_by_one(home, tmp_path, whole, monkeypatch):
    sizes = []

    def counted(self, latents, *args, **kwargs):
        sizes.append(len(latents))
        return decode(self, latents, *args, **kwargs)

    decode = AutoencoderKL._decode
    monkeypatch.setattr(AutoencoderKL, "_decode", counted)
    monkeypatch.setattr(reconstruction, "ONE_BY_ONE", SIDE)
    assert_same(make(home, tmp_path), whole["zc"])
    assert set(sizes) == {1}


def test_half_precision_comes_near(home, tmp_path, whole):
    pictures = make(home, tmp_path, dtype="bfloat16")
    assert_same(pictures, whole["zc"], levels=16, share=0.95)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_gpu_makes_the_same_pictures(home, tmp_path, whole, dtype):
    pictures = make(home, tmp_path, device="cuda", dtype=dtype)
    assert_same(pictures, whole["zc"], levels=2 if dtype == "float32" else 8, share=0.98)


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")
def test_the_network_is_compiled_on_demand(home, tmp_path, whole, monkeypatch):
    compiled = []

    def counted(self):
        compiled.append(type(self))
        compile_network(self)

    compile_network = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", counted)
    # Without the compiler's work, which takes minutes.
    with torch.compiler.set_stance("force_eager"):
        assert_same(make(home, tmp_path, method="z", compile=True), whole["z"])
    assert compiled == [UNet2DConditionModel]


def test_nothing_is_left_of_a_run_that_fails(home, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(reconstruction, "denoise", fail)
    with pytest.raises(RuntimeError, match="broken"):
        make(home, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("n, n_chunks", [(7, 1), (7, 3), (7, 7), (982, 10)])
def test_chunks_are_contiguous_and_even(n, n_chunks):
    parts = [chunk_rows(n, chunk, n_chunks) for chunk in range(n_chunks)]
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(n))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_more_chunks_than_images_are_refused(home, tmp_path):
    with pytest.raises(InputError, match=r"`n_chunks`: expected at most 7, .* found 8"):
        make(home, tmp_path, n_chunks=8)


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("z", lambda z: z[:, :3], r"z.npy: .*\(7, 4, 8, 8\), found one of \(7, 3, 8, 8\)"),
        ("z", lambda z: z[..., :6], r"z.npy: .*\(7, 4, 8, 8\), found one of \(7, 4, 8, 6\)"),
        ("z", lambda z: z[:6], r"z.npy: .*\(7, 4, 8, 8\), found one of \(6, 4, 8, 8\)"),
        ("c", lambda c: c[..., :6], r"c.npy: .*\(7, 24, 8\), found one of \(7, 24, 6\)"),
        ("z", lambda z: with_value(z, np.nan), r"z.npy: .*for image 5 \(row 2\)"),
        ("c", lambda c: with_value(c, np.inf), r"c.npy: .*for image 5 \(row 2\)"),
    ],
)
def test_features_that_do_not_fit_are_refused(home, tmp_path, monkeypatch, name, change, message):
    np.save(tmp_path / f"{name}.npy", change(np.load(home / f"{name}.npy")))
    monkeypatch.setattr(reconstruction, "denoise", None)
    with pytest.raises(InputError, match=message) as caught:
        make(home, tmp_path, **{name: tmp_path / f"{name}.npy"})
    assert len(caught.value.findings) == 1
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.npy"]


def with_value(array, value):
    array[2, 0, 0] = value
    return array


def test_the_ceiling_needs_a_row_an_image_of_the_table(home, tmp_path):
    with pytest.raises(InputError, match=r"z.npy: .*\(9, 4, 8, 8\), found one of \(7, 4, 8, 8\)"):
        make(home, tmp_path, method="true-zc")


def test_missing_features_and_settings_are_refused(home, tmp_path):
    with pytest.raises(InputError, match=r"none\.npy: expected a whole \.npy file, found no such"):
        make(home, tmp_path, z=tmp_path / "none.npy")
    with pytest.raises(InputError, match=r"`method`: expected one of zc, z, c, .* found 'text'"):
        make(home, tmp_path, method="text")
    with pytest.raises(InputError, match=r"`resolution`: .*multiple of 2 pixels"):
        make(home, tmp_path, resolution=25)


def test_a_network_for_inpainting_is_refused(home, tmp_path):
    shutil.copytree(home / "model", tmp_path / "model")
    config = UNet2DConditionModel.load_config(home / "model", subfolder="unet")
    network = UNet2DConditionModel.from_config(config, in_channels=9)
    network.save_pretrained(tmp_path / "model" / "unet")
    with pytest.raises(InputError, match=r"unet/config.json: .* found 9 and 4, as for inpainting"):
        make(home, tmp_path, model=tmp_path / "model")


def test_pictures_that_are_not_finite_are_refused(home, tmp_path):
    z = np.full((len(NUMBERS), 4, 8, 8), 3e38, np.float32)
    np.save(tmp_path / "z.npy", z)
    with pytest.raises(InputError, match=r"`dtype`: expected finite values"):
        make(home, tmp_path, method="z-coarse", z=tmp_path / "z.npy")
    assert not (tmp_path / "out.h5").exists()


def test_a_table_without_test_images_is_refused(tmp_path):
    images = write_table(tmp_path / "images.tsv", NSD_IDS, "train")
    with pytest.raises(InputError, match=r"images.tsv: expected test images, found none"):
        find_test_images(images)


@pytest.fixture
def chunks(home, tmp_path):
    paths = [tmp_path / f"{chunk}.h5" for chunk in range(3)]
    for chunk, path in enumerate(paths):
        changes = {"method": "z-coarse", "chunk": chunk, "n_chunks": 3, "output": path}
        reconstruct_chunk(**settings_for(home, tmp_path, **changes))
    return paths


def gather(home, tmp_path, chunks, images=None):
    settings = {"images": images or home / "images.tsv", "output": tmp_path / "all.h5"}
    gather_reconstructions(chunks=chunks, **settings)


def test_chunks_that_do_not_belong_together_are_refused(home, tmp_path, chunks):
    with pytest.raises(InputError, match=r"expected chunks 0 to 2, each once, found \[0, 2\]"):
        gather(home, tmp_path, [chunks[0], chunks[2]])
    with pytest.raises(InputError, match=r"found \[0, 1, 1, 2\]"):
        gather(home, tmp_path, [*chunks, chunks[1]])
    others = write_table(tmp_path / "others.tsv", NSD_IDS + 1, SPLIT)
    with pytest.raises(InputError, match=r"the 7 test images of .*others.tsv, in its order"):
        gather(home, tmp_path, chunks, others)
    for changes, message in [
        ({"seed": 2}, "another seed"),
        ({"n_chunks": 2}, "another n_chunks"),
    ]:
        changes = {"method": "z-coarse", "chunk": 1, "n_chunks": 3, "output": chunks[1]} | changes
        reconstruct_chunk(**settings_for(home, tmp_path, **changes))
        with pytest.raises(InputError, match=rf"1.h5: .*0.h5, found {message}") as caught:
            gather(home, tmp_path, chunks)
        assert len(caught.value.findings) == 1
    assert not (tmp_path / "all.h5").exists()


def test_what_was_gathered_is_no_chunk(home, tmp_path, chunks):
    gather(home, tmp_path, chunks)
    with pytest.raises(InputError, match=r"all.h5: expected a chunk of a method's pictures"):
        gather(home, tmp_path, [tmp_path / "all.h5"])


def test_a_damaged_file_is_one_clear_error(tmp_path, chunks):
    intact = chunks[0].read_bytes()
    with h5py.File(chunks[0]) as file:
        place = file["images"].id.get_chunk_info(1)
    start, stop = place.byte_offset + 20, place.byte_offset + place.size
    chunks[0].write_bytes(intact[:start] + bytes(stop - start) + intact[stop:])
    with (
        pytest.raises(InputError, match=r"0.h5: expected pictures that can be read, found Can't"),
        open_reconstructions(chunks[0]) as made,
    ):
        made.images[:]
    chunks[0].write_bytes(intact[: len(intact) // 2])
    with (
        pytest.raises(InputError, match=r"0.h5: expected an HDF5 file of reconstructions, found"),
        open_reconstructions(chunks[0]),
    ):
        pass
    with (
        pytest.raises(InputError, match=r"found no such file"),
        open_reconstructions(tmp_path / "n"),
    ):
        pass
    with pytest.raises(OSError, match="mine"), open_reconstructions(chunks[1]):
        raise OSError("mine")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda file: file.pop("nsd_id"), "cannot be read"),
        (lambda file: file.attrs.pop("seed"), "found none of seed"),
        (lambda file: file.move("images", "pictures"), "cannot be read"),
        (lambda file: replace(file, "nsd_id", np.arange(99)), "99 numbers"),
        (lambda file: replace(file, "images", np.zeros((2, 1, 4, 4, 3))), "float64 of shape"),
    ],
)
def test_a_file_of_another_kind_is_refused(chunks, change, message):
    with h5py.File(chunks[0], "r+") as file:
        change(file)
    with pytest.raises(InputError, match=message), open_reconstructions(chunks[0]):
        pass


def replace(file, name, array):
    del file[name]
    file[name] = array
