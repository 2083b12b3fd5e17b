"""Embed the captions of the images one subject saw: c."""

from nsdldm.diffusion.loading import Model
from nsdldm.features.captions import embed_captions
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given = snakemake.input
    with logged(snakemake.log[0]):
        embed_captions(
            **{key: given[key] for key in ("images", "captions")},
            model=Model(**snakemake.params.model),
            **dict(snakemake.output.items()),
        )
