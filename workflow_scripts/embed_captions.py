"""Embed the captions of the images one subject saw: c."""

from nsdldm.features.captions import embed_captions
from nsdldm.support.logs import logged

if __name__ == "__main__":
    params = snakemake.params
    with logged(snakemake.log[0]):
        embed_captions(
            images=snakemake.input.images,
            captions=list(snakemake.input.captions),
            model=params.model,
            revision=params.revision,
            device=params.device,
            dtype=params.dtype,
            batch_size=params.batch_size,
            c=snakemake.output[0],
        )
