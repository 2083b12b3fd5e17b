"""Partition the variance of every cortical voxel of one subject between z and other spaces."""

from nsdldm.encoding.flips import FlipTest
from nsdldm.encoding.partition import partition_variance
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    pairs = [("z", space) for space in params.spaces]
    with logged(snakemake.log[0]):
        partition_variance(
            regions=dict(zip(params.rois, given.regions, strict=True)),
            maps=dict(zip(pairs, made.maps, strict=True)),
            tables=dict(zip(pairs, made.tables, strict=True)),
            sums=made.sums,
            test=FlipTest(**{key: params[key] for key in FlipTest._fields}),
            predictions=list(given.predictions),
            fitted=dict(zip(params.spaces, params.fitted, strict=True)),
            **{key: given[key] for key in ("base", "responses", "mask")},
            **{key: params[key] for key in ("min_ncsnr", "every")},
        )
