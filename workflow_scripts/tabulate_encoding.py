"""Summarise the encoders of all subjects by region."""

from itertools import product

from nsdldm.encoding.summary import tabulate_encoding
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    tables = zip(product(params.subjects, params.features), given.tables, strict=True)
    masks = zip(product(params.subjects, params.rois), given.masks, strict=True)
    with logged(snakemake.log[0]):
        tabulate_encoding(
            tables=dict(tables),
            masks=dict(masks),
            output=snakemake.output[0],
            min_ncsnr=params.min_ncsnr,
        )
