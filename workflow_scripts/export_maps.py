"""Write one subject's maps as GIFTI, on its surfaces and on fsaverage."""

from nsdldm.exports.brains import Source
from nsdldm.exports.maps import export_maps
from nsdldm.nsd.layout import HEMISPHERES, group_surfaces, group_transforms
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    groups = group_transforms(given.transforms), group_surfaces(given.surfaces)
    with logged(snakemake.log[0]):
        export_maps(
            subject=snakemake.wildcards.subject,
            maps=dict(zip(params.names, given.maps, strict=True)),
            tables=dict(zip(params.names, given.tables, strict=True)),
            masks=dict(zip(params.rois, given.masks, strict=True)),
            layers=params.layers,
            task=params.task,
            source=Source(*groups, dict(zip(HEMISPHERES, given.averages, strict=True))),
            output=snakemake.output[0],
        )
