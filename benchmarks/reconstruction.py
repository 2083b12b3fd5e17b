"""Pictures per second, batched as here and in the published way.

    PYTHONPATH=. python benchmarks/reconstruction.py                  # the paper's sizes
    PYTHONPATH=. python benchmarks/reconstruction.py --tiny           # seconds, to see that it runs

makes the pictures of random features twice. Batched: one process, images x samples in batches.
Published: a process per image, which loads the model, and single pictures under autocast, as the
public code of Takagi & Nishimoto (2023) does. Defaults are the paper's sizes. Every stage runs in a
process of its own and is timed from its start to its end; startup, imports and loading, is
measured apart. --json FILE writes the table with machine, date and versions.

--model takes any pipeline in the layout of diffusers. Without it, Stable Diffusion 1.4 with random
weights is written to the scratch folder (2 GB), for which times are the same. On a CPU:

    PYTHONPATH=. python benchmarks/reconstruction.py --model resources/demo_model --device cpu \\
        --latent-resolution 96 --image-resolution 96 --images 4 --steps 5 --samples 2
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import report
from nsdldm.support.devices import choose_device, choose_dtype
from nsdldm.support.files import load_array, save_array, save_table

COLUMNS = {"way": "", "pictures": "d", "seconds": ".1f", "startup": ".1f", "/s": ".3f"}
COLUMNS |= {"/s started": ".3f", "peak GB": ".1f", "GPU GB": ".1f"}
TINY = {"model": report.DEMO_MODEL, "device": "cpu", "images": 4, "published_images": 1}
TINY |= {"samples": 2, "steps": 5, "latent_resolution": 96, "image_resolution": 96}


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="folder of a pipeline (Stable Diffusion 1.4, random)")
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
    return report.parse_options(parser, TINY)


def write_features(options, folder):
    """Write a table of images and random features of the model's shapes."""
    vae, text = (
        json.loads((Path(options.model) / part / "config.json").read_text())
        for part in ("vae", "text_encoder")
    )
    side = options.latent_resolution // 2 ** (len(vae["block_out_channels"]) - 1)
    shapes = {
        "z": (vae["latent_channels"], side, side),
        "c": (text["max_position_embeddings"], text["hidden_size"]),
    }
    n = max(options.images, options.published_images)
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        save_array(folder / f"{name}.npy", rng.standard_normal((n, *shape), np.float32))
    save_table(folder / "images.tsv", pd.DataFrame({"nsd_id": np.arange(n), "split": "test"}))


def run_startup(options, folder):
    """Import and load what the batched way needs."""
    from nsdldm.diffusion.loading import load_autoencoder, load_denoiser, load_text

    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    load_autoencoder(options.model, None, device, dtype)
    load_text(options.model, None, device, dtype)
    load_denoiser(options.model, None, device, dtype, "ddim")


def run_batched(options, folder):
    """Make the pictures as the workflow does."""
    from nsdldm.diffusion.loading import Model
    from nsdldm.diffusion.reconstruction import Reconstruction, reconstruct_chunk

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
    # Here, so that the batched way does not pay for it.
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionImg2ImgPipeline,
        UNet2DConditionModel,
    )

    from nsdldm.diffusion.loading import load_text

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
    from PIL import Image

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


def measure(options, stage, folder, times=1):
    """Run a stage in processes of its own; returns the seconds of all and the last one's peaks."""
    command = [sys.executable, __file__, *sys.argv[1:], "--model", str(options.model)]
    command += ["--stage", stage, "--folder", str(folder)]
    start = time.monotonic()
    for _ in range(times):
        subprocess.run(command, check=True)
    return time.monotonic() - start, json.loads((folder / "peaks.json").read_text())


def measure_way(options, way, n_images, processes, folder):
    """Measure a way and what its processes take to start; returns its row of the table."""
    startup, _ = measure(options, f"{way}-startup", folder)
    seconds, peaks = measure(options, way, folder, processes)
    n = n_images * options.samples
    row = {"way": way, "pictures": n, "seconds": seconds, "startup": startup, "/s": n / seconds}
    left = seconds - processes * startup
    # Of next to no work, startup is all and its variation is more.
    row["/s started"] = n / left if left > 0 else None
    return row | peaks


def measure_all(options, folder):
    """Measure both ways; prints and writes the table."""
    if options.model is None:
        options.model = report.write_random_model(folder / "model")
    write_features(options, folder)
    if not options.tiny:
        # Fills the system's file cache, so that no way pays for it.
        measure(options, "batched-startup", folder)
    device = choose_device(options.device).type
    report.announce(device)
    side, n_run = options.image_resolution, int(round(options.steps * options.strength, 6))
    print(f"{side} px, {n_run} of {options.steps} steps, {options.samples} samples", flush=True)
    table = report.Table(COLUMNS)
    ways = {"batched": (options.images, 1), "published": (options.published_images,) * 2}
    for way, (n_images, processes) in ways.items():
        if n_images:
            table.add(measure_way(options, way, n_images, processes, folder))
    rates = [row["/s"] for row in table.rows]
    ratio = rates[0] / rates[1] if len(rates) == 2 else None
    if ratio:
        print(f"batched / published: {ratio:.1f} x the pictures")
    table.write(options.json, options, device, **{"batched / published": ratio})


def main():
    """Measure in a scratch folder, or run one stage of a measurement."""
    options = parse_arguments()
    if options.stage:
        STAGES[options.stage](options, options.folder)
        peaks = report.measure_peaks(choose_device(options.device).type)
        (options.folder / "peaks.json").write_text(json.dumps(peaks))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure_all(options, Path(folder))


if __name__ == "__main__":
    main()
