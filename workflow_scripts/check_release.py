"""Check headers, shapes and tables of one subject's part of the release."""

from nsdldm.nsd.check import check_release
from nsdldm.nsd.layout import group_surfaces, group_transforms
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        check_release(
            subject=snakemake.wildcards.subject,
            **{key: given[key] for key in ("responses", "design", "stim_info", "stimuli")},
            **{key: list(given[key]) for key in ("captions", "betas")},
            sessions=params.sessions,
            reorient=params.reorient,
            storage=params.storage,
            rois={"cortex": params.cortex},
            atlases=dict(zip(params.atlases, given.volumes, strict=True)),
            tables=dict(zip(params.tabled, given.tables, strict=True)),
            transforms=group_transforms(given.transforms),
            surfaces=group_surfaces(given.surfaces),
            report=snakemake.output[0],
        )
