"""Peak memory of the pass that collects trajectories, over few images and over many.

    PYTHONPATH=. python benchmarks/activations.py --model resources/demo_model --device cpu \\
        --latent-resolution 64 --batch-size 16 --steps 5

runs the pass over random features of 200 and 2,000 images, each in a process of its own, and ends
with an error if the larger peak is more than a tenth above the smaller. Memory must not grow with
the number of images, only with the batch, so that any subject fits where a short run fitted. The
model is any pipeline in the layout of diffusers. With a GPU, its peak is printed too.
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
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig

from nsdldm.diffusion.denoising import Denoising
from nsdldm.diffusion.loading import Model
from nsdldm.features.parts import row_blocks
from nsdldm.features.spaces import plan_spaces
from nsdldm.features.trajectories import (
    Activations,
    Trajectories,
    collect_activations,
    denoise_latents,
)
from nsdldm.support.files import create_array, save_table

TOLERANCE = 0.1


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True, help="folder of a pipeline")
    parser.add_argument("--images", type=int, nargs=2, default=[200, 2000], help="200 2000")
    for name, default, what in (
        ("steps", 10, "steps of the chain, at least 5, of which 80 %% are run"),
        ("width", 6400, "numbers that a projection or pooling keeps of a block and step"),
        ("batch-size", 16, "images at once"),
        ("latent-resolution", 320, "side of the picture that z stands for"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} ({default})")
    parser.add_argument("--reduction", default="exact", help="exact (default), projection, pooling")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    parser.add_argument("--dtype", default="auto", help="precision (auto)")
    parser.add_argument("--folder", type=Path, help="where to make the scratch folder")
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def write_features(options, folder, n):
    """Write a table of images and random features of the model's shapes, a few rows at a time."""
    vae = AutoencoderKL.load_config(options.model, subfolder="vae")
    text = CLIPTextConfig.from_pretrained(options.model, subfolder="text_encoder")
    side = options.latent_resolution // 2 ** (len(vae["block_out_channels"]) - 1)
    shapes = {
        "z": (vae["latent_channels"], side, side),
        "c": (text.max_position_embeddings, text.hidden_size),
    }
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        with create_array(folder / f"{name}.npy", (n, *shape), np.float32) as array:
            for rows in row_blocks(n):
                size = (rows.stop - rows.start, *shape)
                array[rows] = rng.standard_normal(size, np.float32)
    save_table(folder / "images.tsv", pd.DataFrame({"nsd_id": np.arange(n)}))


def default_blocks(model):
    """The first and last down blocks, the mid block, and the first and last up blocks."""
    n = len(UNet2DConditionModel.load_config(model, subfolder="unet")["down_block_types"])
    paths = ["down_blocks.0", f"down_blocks.{n - 1}", "mid_block", "up_blocks.0"]
    return {path.replace(".", ""): path for path in [*paths, f"up_blocks.{n - 1}"]}


def run(options, folder):
    """Collect everything; writes the peak memory."""
    shares = [0.25, 0.5, 1.0]
    both = {
        "images": folder / "images.tsv",
        "c": folder / "c.npy",
        "model": Model(options.model, None, options.device, options.dtype, options.batch_size),
        "denoising": Denoising(options.steps),
    }
    latents = Trajectories(shares, "x_t", [0.5, 0.8])
    kept = Activations(shares, default_blocks(options.model), options.reduction, options.width)
    plan = plan_spaces(options.steps, latents.noise_levels, 0.8, shares, "x_t", kept.blocks)
    outputs = {name: folder / f"out/{name}.npy" for name in plan}
    of_blocks = {name: path for name, path in outputs.items() if name.startswith("unet")}
    of_chain = {name: path for name, path in outputs.items() if name not in of_blocks}
    before = {name: path for name, path in of_chain.items() if name.startswith("before")}
    denoise_latents(**both, z=folder / "z.npy", trajectories=latents, outputs=of_chain)
    collect_activations(**both, before=before, activations=kept, outputs=of_blocks)
    # Kibibytes on Linux, bytes on macOS.
    scale = 1 if sys.platform == "darwin" else 1024
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9
    on_gpu = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0
    size = sum(path.stat().st_size for path in outputs.values()) / 1e9
    (folder / "peak.txt").write_text(f"{host} {on_gpu} {size}")


def measure(options, folder, n):
    """Run over n images in a process of its own; returns the peaks, the size and the seconds."""
    folder = folder / str(n)
    folder.mkdir()
    write_features(options, folder, n)
    start = time.monotonic()
    command = [sys.executable, __file__, *sys.argv[1:], "--run", str(n), "--folder", str(folder)]
    subprocess.run(command, check=True)
    seconds = time.monotonic() - start
    return *map(float, (folder / "peak.txt").read_text().split()), seconds


def main():
    """Measure in a scratch folder, or do one of the runs."""
    options = parse_arguments()
    if options.run:
        run(options, options.folder)
        return
    print(
        f"{'images':>8s}{'seconds':>10s}{'written GB':>12s}{'peak GB':>10s}{'on GPU':>10s}",
        flush=True,
    )
    peaks = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for n in options.images:
            host, on_gpu, size, seconds = measure(options, Path(folder), n)
            print(f"{n:8d}{seconds:10.1f}{size:12.3f}{host:10.3f}{on_gpu:10.3f}", flush=True)
            peaks.append((host, on_gpu))
    growth = [many / few - 1 for few, many in zip(*peaks, strict=True) if few]
    print("growth of the peaks: " + ", ".join(f"{share:+.1%}" for share in growth))
    if max(growth) > TOLERANCE:
        sys.exit(f"memory grows with the number of images: by more than {TOLERANCE:.0%}")


if __name__ == "__main__":
    main()
