"""Encode the images one subject saw: z."""

from nsdldm.features.latents import encode_latents
from nsdldm.support.logs import logged

if __name__ == "__main__":
    params = snakemake.params
    with logged(snakemake.log[0]):
        encode_latents(
            images=snakemake.input.images,
            stimuli=snakemake.input.stimuli,
            model=params.model,
            revision=params.revision,
            resolution=params.resolution,
            device=params.device,
            dtype=params.dtype,
            batch_size=params.batch_size,
            z=snakemake.output.z,
            z_logvar=snakemake.output.z_logvar,
        )
