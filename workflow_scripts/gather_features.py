"""Join the chunks of one subject's feature spaces."""

from nsdldm.features.parts import gather_features, group_chunks
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, spaces = snakemake.input, snakemake.params.spaces
    with logged(snakemake.log[0]):
        gather_features(
            chunks=group_chunks(spaces, given.chunks),
            images=given.images,
            outputs=dict(zip(spaces, snakemake.output, strict=True)),
        )
