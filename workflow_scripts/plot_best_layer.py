"""Draw the layer of a network that predicts each voxel of one subject best."""

from nsdldm.nsd.layout import group_surfaces, group_transforms
from nsdldm.plots.best_layer import plot_best_layer
from nsdldm.plots.cortex import Anatomy
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        plot_best_layer(
            **dict(snakemake.wildcards.items()),
            **{key: given[key] for key in ("table", "errors")},
            anatomy=Anatomy(
                dict(zip(params.rois, given.masks, strict=True)),
                group_transforms(given.transforms),
                group_surfaces(given.surfaces),
            ),
            repeats=params.bootstrap,
            **{key: params[key] for key in ("layers", "seed", "demo")},
            **dict(snakemake.output.items()),
        )
