"""Draw the U-Net block that predicts each voxel of one subject best, by denoising step."""

from nsdldm.nsd.layout import group_surfaces, group_transforms
from nsdldm.plots.cortex import Anatomy
from nsdldm.plots.fig9 import plot_fig9
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        plot_fig9(
            subject=snakemake.wildcards.subject,
            tables=dict(zip(params.shares, given.tables, strict=True)),
            errors=dict(zip(params.shares, given.errors, strict=True)),
            anatomy=Anatomy(
                dict(zip(params.rois, given.masks, strict=True)),
                group_transforms(given.transforms),
                group_surfaces(given.surfaces),
            ),
            repeats=params.bootstrap,
            **{key: params[key] for key in ("blocks", "seed", "demo")},
            **dict(snakemake.output.items()),
        )
