"""Encode the images one subject saw: z."""

from nsdldm.diffusion.loading import Model
from nsdldm.features.latents import encode_latents
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        encode_latents(
            **{key: given[key] for key in ("images", "stimuli")},
            model=Model(**params.model),
            resolution=params.resolution,
            **dict(snakemake.output.items()),
        )
