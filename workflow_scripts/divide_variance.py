"""Divide the variance of every cortical voxel of one subject among several feature spaces."""

from nsdldm.encoding.components import Interval, divide_variance
from nsdldm.encoding.flips import FlipTest
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    with logged(snakemake.log[0]):
        divide_variance(
            regions=dict(zip(params.rois, given.regions, strict=True)),
            output_map=made.map,
            output_table=made.table,
            summary=made.summary,
            test=FlipTest(**{key: params[key] for key in FlipTest._fields}),
            interval=Interval(params.bootstrap, params.seed),
            **{key: given[key] for key in ("predictions", "responses", "mask")},
            **{key: params[key] for key in ("spaces", "min_ncsnr")},
        )
