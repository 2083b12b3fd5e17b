"""Noise z and denoise it with c: z_c."""

from nsdldm.diffusion.denoising import Denoising
from nsdldm.diffusion.loading import Model
from nsdldm.features.trajectories import denoise_latents
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        denoise_latents(
            **{key: given[key] for key in ("images", "z", "c")},
            model=Model(**params.model),
            denoising=Denoising(**params.denoising),
            **dict(snakemake.output.items()),
        )
