"""Decode latents of a few test images of one subject, to be drawn beside maps."""

from nsdldm.diffusion.strips import decode_strip
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        decode_strip(
            images=snakemake.input.images,
            features=snakemake.input.features,
            **{key: value for key, value in snakemake.params.items() if key != "code"},
            output=snakemake.output[0],
        )
