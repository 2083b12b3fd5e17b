"""Make pictures from one subject's decoded features, for one chunk of the test images."""

from nsdldm.diffusion.reconstruction import reconstruct_chunk
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        reconstruct_chunk(
            method=snakemake.wildcards.method,
            chunk=int(snakemake.wildcards.chunk),
            output=snakemake.output[0],
            **{key: given.get(key) or None for key in ("images", "z", "c")},
            **{key: value for key, value in params.items() if key != "code"},
        )
