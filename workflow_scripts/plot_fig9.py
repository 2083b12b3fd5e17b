"""Draw one subject's best-predicting block of the U-Net, by denoising step."""

from nsdldm.nsd.layout import group_surfaces, group_transforms
from nsdldm.plots.fig9 import plot_fig9
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        plot_fig9(
            subject=snakemake.wildcards.subject,
            tables=dict(zip(params.shares, given.tables, strict=True)),
            errors=dict(zip(params.shares, given.errors, strict=True)),
            masks=dict(zip(params.rois, given.masks, strict=True)),
            transforms=group_transforms(given.transforms),
            surfaces=group_surfaces(given.surfaces),
            repeats=params.bootstrap,
            **{key: params[key] for key in ("blocks", "seed", "demo")},
            **dict(snakemake.output.items()),
        )
