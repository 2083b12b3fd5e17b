"""Compare all subjects' accuracy and unique variance by region."""

from itertools import product

from nsdldm.logs import logged
from nsdldm.plots.group import tabulate_group

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    named = {"encoders": params.features, "joint": params.pairs, "masks": params.rois}
    tables = {
        key: dict(zip(product(params.subjects, names), given[key], strict=True))
        for key, names in named.items()
    }
    with logged(snakemake.log[0]):
        tabulate_group(
            **tables,
            **{key: params[key] for key in ("min_ncsnr", "repeats", "seed")},
            output=snakemake.output[0],
        )
