"""Join the chunks of one subject's feature spaces."""

from nsdldm.features.parts import gather_features
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    starts = range(0, len(given.chunks), params.n_chunks)
    chunks = [given.chunks[start : start + params.n_chunks] for start in starts]
    with logged(snakemake.log[0]):
        gather_features(
            chunks=dict(zip(params.spaces, chunks, strict=True)),
            images=given.images,
            outputs=dict(zip(params.spaces, snakemake.output, strict=True)),
        )
