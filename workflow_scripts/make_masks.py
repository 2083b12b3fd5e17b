"""Mark regions of one subject on the functional grid."""

from nsdldm.nsd.rois import make_masks
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        make_masks(
            atlases=dict(zip(params.atlases, given.volumes, strict=True)),
            tables=dict(zip(params.tabled, given.tables, strict=True)),
            outputs=dict(zip(params.rois, snakemake.output, strict=True)),
            reference=given.reference,
            ncsnr=given.get("ncsnr") or None,
            **{key: params[key] for key in ("rois", "min_ncsnr", "reorient")},
        )
