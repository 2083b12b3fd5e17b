"""Mark regions of one subject of LAION-fMRI on the functional grid."""

from nsdldm.laion.rois import make_masks
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        make_masks(
            rois=params.rois,
            volumes=dict(zip(params.parts, given.volumes, strict=True)),
            transforms=list(given.transforms),
            reference=given.reference,
            metadata=given.metadata,
            subject=snakemake.wildcards.subject,
            min_ncsnr=params.min_ncsnr,
            outputs=dict(zip(params.rois, snakemake.output, strict=True)),
        )
