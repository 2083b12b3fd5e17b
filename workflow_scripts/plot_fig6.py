"""Draw one subject's cortical maps of z, c and z_c."""

from nsdldm.nsd.layout import group_surfaces, group_transforms
from nsdldm.plots.cortex import Anatomy
from nsdldm.plots.fig6 import plot_fig6
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        plot_fig6(
            subject=snakemake.wildcards.subject,
            maps=dict(zip(params.features, given.maps, strict=True)),
            tables=dict(zip(params.features, given.tables, strict=True)),
            anatomy=Anatomy(
                dict(zip(params.rois, given.masks, strict=True)),
                group_transforms(given.transforms),
                group_surfaces(given.surfaces),
            ),
            demo=params.demo,
            **dict(snakemake.output.items()),
        )
