"""Compute the Gram matrices of one subject's U-Net activations from their chunks."""

from nsdldm.features.grams import compute_grams
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    starts = range(0, len(given.chunks), params.n_chunks)
    chunks = [given.chunks[start : start + params.n_chunks] for start in starts]
    with logged(snakemake.log[0]):
        compute_grams(
            chunks=dict(zip(params.spaces, chunks, strict=True)),
            images=given.images,
            grams=dict(zip(params.spaces, snakemake.output, strict=True)),
            device=params.device,
        )
