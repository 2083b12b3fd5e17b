"""Write a page with every test image and its reconstructions."""

from nsdldm.plots.gallery import write_gallery
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    runs = [(subject, method) for subject, _, method in params.runs]
    by_run = ("reconstructions", "samples", "tables")
    how = ("best_by", "demo", "max_samples", "pixels", "quality", "max_megabytes")
    with logged(snakemake.log[0]):
        write_gallery(
            subjects=params.subjects,
            methods=params.methods,
            images=dict(zip(params.subjects, given.images, strict=True)),
            **{key: dict(zip(runs, given[key], strict=True)) for key in by_run},
            **{key: given[key] for key in ("stimuli", "captions")},
            **{key: params[key] for key in how},
            html=snakemake.output[0],
        )
