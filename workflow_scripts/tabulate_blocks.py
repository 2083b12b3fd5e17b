"""Set the block of the U-Net that predicts each region best side by side."""

from itertools import product

from nsdldm.encoding.block_regions import tabulate_blocks
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    steps = list(product(params.subjects, params.shares))
    with logged(snakemake.log[0]):
        tabulate_blocks(
            errors=dict(zip(steps, given.errors, strict=True)),
            tables=dict(zip(steps, given.tables, strict=True)),
            images=dict(zip(params.subjects, given.images, strict=True)),
            masks=dict(zip(product(params.subjects, params.rois), given.masks, strict=True)),
            output=snakemake.output[0],
            **{key: params[key] for key in ("blocks", "repeats", "seed")},
        )
