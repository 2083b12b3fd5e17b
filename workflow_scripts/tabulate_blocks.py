"""Tabulate the block of the U-Net, or layer of a network, that predicts each region best."""

from itertools import product

from nsdldm.encoding.block_regions import tabulate_blocks
from nsdldm.support.logs import logged

if __name__ == "__main__":
    params = snakemake.params
    steps = product(params.subjects, params.shares)
    with logged(snakemake.log[0]):
        tabulate_blocks(
            errors=dict(zip(steps, snakemake.input, strict=True)),
            output=snakemake.output[0],
            repeats=params.bootstrap,
            names=params.get("names"),
            **{key: params[key] for key in ("blocks", "seed")},
        )
