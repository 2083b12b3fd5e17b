"""Write a page with every test image and its reconstructions."""

from nsdldm.plots.gallery import Page, write_gallery
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    runs = [(subject, method) for subject, _, method in params.runs]
    names = ("reconstructions", "samples", "tables")
    captioned = [tuple(run) for run in params.captioned]
    with logged(snakemake.log[0]):
        write_gallery(
            images=dict(zip(params.subjects, given.images, strict=True)),
            **{key: dict(zip(runs, given[key], strict=True)) for key in names},
            **{key: given[key] for key in ("stimuli", "captions")},
            **{key: params[key] for key in ("subjects", "methods", "best_by", "demo")},
            page=Page(
                **params.page, decoded=dict(zip(captioned, given.get("chosen", []), strict=True))
            ),
            html=snakemake.output[0],
        )
