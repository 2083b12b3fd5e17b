"""Draw one subject's unique variance of z and z_c by noise level, or by denoising step."""

from nsdldm.nsd.layout import group_surfaces, group_transforms
from nsdldm.plots.cortex import Anatomy
from nsdldm.plots.fig7 import plot_unique_variance
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        plot_unique_variance(
            subject=snakemake.wildcards.subject,
            tables={f"z+{s}": t for s, t in zip(params.spaces, given.tables, strict=True)},
            anatomy=Anatomy(
                dict(zip(params.rois, given.masks, strict=True)),
                group_transforms(given.transforms),
                group_surfaces(given.surfaces),
            ),
            pictures=given.pictures,
            **{key: params[key] for key in ("drawn", "demo")},
            **dict(snakemake.output.items()),
        )
