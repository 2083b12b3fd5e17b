"""Pictures per second, batched as here and in the published way.

    PYTHONPATH=. python benchmarks/reconstruction.py --model FOLDER --device cuda

makes the pictures of random features twice. Batched: one process, images x samples in batches.
Published: a process per image, which loads the model, and single pictures under autocast, as the
public code of Takagi & Nishimoto (2023) does. Defaults are the paper's sizes. Every stage runs in a
process of its own and is timed from its start to its end; startup, imports and loading, is
measured apart. FOLDER is any pipeline in the layout of diffusers;
tests/unit/test_diffusion_full_size.py writes Stable Diffusion 1.4 with random weights, for which
times are the same. On a CPU:

    PYTHONPATH=. python benchmarks/reconstruction.py --model resources/demo_model --device cpu \\
        --latent-resolution 96 --image-resolution 96 --images 4 --steps 5 --samples 2
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionImg2ImgPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig

from nsdldm.diffusion.loading import Model, load_autoencoder, load_denoiser, load_text
from nsdldm.diffusion.reconstruction import Reconstruction, reconstruct_chunk
from nsdldm.support.devices import choose_device, choose_dtype
from nsdldm.support.files import load_array, save_array, save_table


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True, help="folder of a pipeline")
    for name, default, what in (
        ("images", 20, "images of the batched way"),
        ("published-images", 2, "images of the published way; 0 skips it"),
        ("samples", 5, "pictures of an image"),
        ("steps", 50, "steps of the chain, of which --strength are run"),
        ("batch-size", 20, "pictures at once in the batched way"),
        ("latent-resolution", 320, "side of the picture that z stands for"),
        ("image-resolution", 512, "side of the pictures made"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} ({default})")
    parser.add_argument("--strength", type=float, default=0.8, help="share of the chain (0.8)")
    parser.add_argument("--guidance", type=float, default=5.0, help="guidance (5)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    parser.add_argument("--dtype", default="auto", help="precision of the batched way (auto)")
    parser.add_argument("--compile", action="store_true", help="compile the batched U-Net")
    parser.add_argument("--folder", type=Path, help="where to make the scratch folder")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    return parser.parse_args()


def write_features(options, folder):
    """Write a table of images and random features of the model's shapes."""
    vae = AutoencoderKL.load_config(options.model, subfolder="vae")
    text = CLIPTextConfig.from_pretrained(options.model, subfolder="text_encoder")
    side = options.latent_resolution // 2 ** (len(vae["block_out_channels"]) - 1)
    shapes = {
        "z": (vae["latent_channels"], side, side),
        "c": (text.max_position_embeddings, text.hidden_size),
    }
    n = max(options.images, options.published_images)
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        save_array(folder / f"{name}.npy", rng.standard_normal((n, *shape), np.float32))
    save_table(folder / "images.tsv", pd.DataFrame({"nsd_id": np.arange(n), "split": "test"}))


def run_startup(options, folder):
    """Import and load what the batched way needs."""
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    load_autoencoder(options.model, None, device, dtype)
    load_text(options.model, None, device, dtype)
    load_denoiser(options.model, None, device, dtype, "ddim")


def run_batched(options, folder):
    """Make the pictures as the workflow does."""
    for name in ("z", "c"):
        save_array(folder / f"own_{name}.npy", load_array(folder / f"{name}.npy")[: options.images])
    own = pd.read_csv(folder / "images.tsv", sep="\t")[: options.images]
    save_table(folder / "own_images.tsv", own)
    reconstruct_chunk(
        method="zc",
        images=folder / "own_images.tsv",
        z=folder / "own_z.npy",
        c=folder / "own_c.npy",
        model=Model(options.model, None, options.device, options.dtype, options.batch_size),
        latent_resolution=options.latent_resolution,
        settings=Reconstruction(
            resolution=options.image_resolution,
            samples=options.samples,
            num_inference_steps=options.steps,
            strength=options.strength,
            guidance_scale=options.guidance,
            compile=options.compile,
        ),
        chunk=0,
        n_chunks=1,
        output=folder / "zc.h5",
    )


def load_published(options, device):
    """The pipeline in float32, as the published code loads its checkpoint."""
    parts = {
        "vae": AutoencoderKL.from_pretrained(options.model, subfolder="vae", use_safetensors=True),
        "unet": UNet2DConditionModel.from_pretrained(
            options.model, subfolder="unet", use_safetensors=True
        ),
        "scheduler": DDIMScheduler.from_pretrained(options.model, subfolder="scheduler"),
    }
    tokenizer, encoder = load_text(options.model, None, device, torch.float32)
    pipeline = StableDiffusionImg2ImgPipeline(
        **parts,
        tokenizer=tokenizer,
        text_encoder=encoder,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def run_published(options, folder):
    """Make the pictures of one image, one at a time."""
    device = choose_device(options.device)
    pipeline = load_published(options, device)
    z, c = (
        torch.from_numpy(np.array(load_array(folder / f"{name}.npy")[:1])).to(device)
        for name in "zc"
    )
    scale = pipeline.vae.config.scaling_factor
    with torch.inference_mode(), torch.autocast(device.type):
        decoded = pipeline.vae.decode(z / scale).sample
        coarse = pipeline.image_processor.postprocess(decoded.float(), output_type="pil")[0]
        side = (options.image_resolution, options.image_resolution)
        enlarged = pipeline.image_processor.preprocess(coarse.resize(side, Image.BICUBIC))
        latent = scale * pipeline.vae.encode(enlarged.to(device)).latent_dist.sample()
        for sample in range(options.samples):
            made = pipeline(
                prompt_embeds=c,
                negative_prompt="",
                image=latent.float(),
                num_inference_steps=options.steps,
                strength=options.strength,
                guidance_scale=options.guidance,
            )
            made.images[0].save(folder / f"{sample}.png")


def run_published_startup(options, folder):
    """Import and load what the published way needs."""
    load_published(options, choose_device(options.device))


STAGES = {
    "batched": run_batched,
    "published": run_published,
    "batched-startup": run_startup,
    "published-startup": run_published_startup,
}


def measure(stage, folder, times=1):
    """Run a stage in processes of its own; returns the seconds of all and the peak memory."""
    command = [sys.executable, __file__, *sys.argv[1:], "--stage", stage, "--folder", str(folder)]
    start = time.monotonic()
    for _ in range(times):
        subprocess.run(command, check=True)
    return time.monotonic() - start, (folder / "peak.txt").read_text()


def report(options, folder):
    """Measure both ways and print a table."""
    write_features(options, folder)
    # Fills the system's file cache, so that no way pays for it.
    measure("batched-startup", folder)
    device = choose_device(options.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    side, n_run = options.image_resolution, int(round(options.steps * options.strength, 6))
    print(f"{name}, {side} px, {n_run} of {options.steps} steps, {options.samples} samples")
    columns = ("pictures", "seconds", "startup", "/s", "/s started")
    print(f"{'way':10s}" + "".join(f"{column:>12s}" for column in columns) + "  peak", flush=True)
    ways = {"batched": (options.images, 1), "published": (options.published_images,) * 2}
    rates = {}
    for way, (n_images, processes) in ways.items():
        if n_images:
            startup = measure(f"{way}-startup", folder)[0]
            seconds, peak = measure(way, folder, processes)
            n = n_images * options.samples
            rates[way] = n / seconds
            left = seconds - processes * startup
            # Of next to no work, startup is all and its variation is more.
            started = n / left if left > 0 else float("nan")
            numbers = f"{n:12d}{seconds:12.1f}{startup:12.1f}{rates[way]:12.3f}{started:12.3f}"
            print(f"{way:10s}{numbers}  {peak}", flush=True)
    if len(rates) == 2:
        print(f"batched / published: {rates['batched'] / rates['published']:.1f} x the pictures")


def describe_peak(device):
    """Most memory that this process took."""
    scale = 1 if sys.platform == "darwin" else 1024
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9
    on_gpu = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0
    return f"{host:.1f} GB" + (f", {on_gpu:.1f} GB on the GPU" if on_gpu else "")


def main():
    """Measure in a scratch folder, or run one stage of a measurement."""
    options = parse_arguments()
    if options.stage:
        STAGES[options.stage](options, options.folder)
        peak = describe_peak(choose_device(options.device))
        (options.folder / "peak.txt").write_text(peak)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report(options, Path(folder))


if __name__ == "__main__":
    main()
