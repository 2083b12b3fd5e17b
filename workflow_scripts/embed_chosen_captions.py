"""Embed the captions chosen for one subject's test images, as prompts."""

from nsdldm.diffusion.loading import Model
from nsdldm.features.captions import embed_chosen_captions
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        embed_chosen_captions(
            captions=snakemake.input.captions,
            model=Model(**snakemake.params.model),
            output=snakemake.output[0],
        )
