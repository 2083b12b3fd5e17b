"""Choose a caption for what was decoded of each of one subject's test images."""

from nsdldm.decoding.captions import choose_captions
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        choose_captions(
            **dict(snakemake.input.items()), k=snakemake.params.k, output=snakemake.output[0]
        )
