"""Compute the Gram matrix of one subject's activations at a layer of a network."""

from nsdldm.features.grams import compute_layer_gram
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given = snakemake.input
    with logged(snakemake.log[0]):
        compute_layer_gram(
            chunks=list(given.chunks),
            images=given.images,
            layer=snakemake.wildcards.layer,
            gram=snakemake.output[0],
            device=snakemake.params.device,
        )
