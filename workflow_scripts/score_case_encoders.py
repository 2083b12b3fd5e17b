"""Score the encoders of one subject on the test images of a case, by region and class of image."""

from nsdldm.encoding.case_scores import score_case_encoders
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        score_case_encoders(
            **{key: given[key] for key in ("predictions", "responses", "images", "mask", "ncsnr")},
            regions=dict(zip(params.rois, given.regions, strict=True)),
            **{key: params[key] for key in ("min_ncsnr", "by_group")},
            table=snakemake.output[0],
        )
