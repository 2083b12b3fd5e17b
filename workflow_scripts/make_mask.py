"""Mark one region of one subject on the functional grid."""

from nsdldm.nsd.rois import make_masks
from nsdldm.support.logs import logged

if __name__ == "__main__":
    roi, params = snakemake.wildcards.roi, snakemake.params
    with logged(snakemake.log[0]):
        make_masks(
            atlases=dict(zip(params.atlases, snakemake.input.volumes, strict=True)),
            tables=dict(zip(params.tabled, snakemake.input.tables, strict=True)),
            reference=snakemake.input.reference,
            rois={roi: params.parts},
            outputs={roi: snakemake.output[0]},
            ncsnr=snakemake.input.get("ncsnr") or None,
            min_ncsnr=params.min_ncsnr,
            reorient=params.reorient,
        )
