"""Write the single-trial betas of another test set's session, region by region."""

from nsdldm.nsd.betas import extract_betas
from nsdldm.support.logs import logged

if __name__ == "__main__":
    params = snakemake.params
    with logged(snakemake.log[0]):
        extract_betas(
            sessions=list(snakemake.input.betas),
            masks=dict(zip(params.rois, snakemake.input.masks, strict=True)),
            **{key: params[key] for key in ("partial", "storage", "n_trials")},
            outputs=dict(zip(params.rois, snakemake.output, strict=True)),
        )
