"""Check headers, shapes and tables of one subject's part of the release."""

from nsdldm.nsd.check import ReleaseFiles, check_release
from nsdldm.nsd.layout import group_surfaces, group_transforms
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    groups = group_transforms(given.transforms), group_surfaces(given.surfaces)
    with logged(snakemake.log[0]):
        check_release(
            subject=snakemake.wildcards.subject,
            files=ReleaseFiles(*(given[key] for key in ReleaseFiles._fields[:6]), *groups),
            atlases=dict(zip(params.atlases, given.volumes, strict=True)),
            tables=dict(zip(params.tabled, given.tables, strict=True)),
            **{key: params[key] for key in ("sessions", "rois", "reorient", "storage")},
            report=snakemake.output[0],
        )
