"""Decode latents of a few test images of one subject, to be drawn next to maps."""

from nsdldm.diffusion.loading import Model
from nsdldm.diffusion.strips import decode_strip
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        decode_strip(
            images=given.images,
            features=dict(zip(params.spaces, given.features, strict=True)),
            model=Model(**params.model),
            n_images=params.n_images,
            outputs=dict(zip(params.spaces, snakemake.output, strict=True)),
        )
