"""Noise z and denoise it with c, or with another text, and keep latents on the way."""

from nsdldm.diffusion.denoising import Denoising
from nsdldm.diffusion.loading import Model
from nsdldm.features.trajectories import Trajectories, denoise_latents
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        denoise_latents(
            **{key: given[key] for key in ("images", "z", "c")},
            model=Model(**params.model),
            denoising=Denoising(**params.denoising),
            trajectories=Trajectories(**params.trajectories),
            **{key: params[key] for key in ("text", "n_chunks")},
            chunk=int(snakemake.wildcards.get("chunk", 0)),
            outputs=dict(zip(params.spaces, snakemake.output, strict=True)),
        )
