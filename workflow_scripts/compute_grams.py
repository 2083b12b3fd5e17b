"""Compute the Gram matrices of one subject's U-Net activations from their chunks."""

from nsdldm.features.grams import compute_grams
from nsdldm.features.parts import group_chunks
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        compute_grams(
            chunks=group_chunks(params.spaces, given.chunks),
            images=given.images,
            grams=dict(zip(params.spaces, snakemake.output, strict=True)),
            device=params.device,
        )
