"""Draw the images one subject saw above their reconstructions."""

from nsdldm.plots.fig3 import plot_fig3
from nsdldm.plots.pictures import Showing
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        plot_fig3(
            subject=snakemake.wildcards.subject,
            **{key: given[key] for key in ("stimuli", "images")},
            reconstructions=dict(zip(params.methods, given.reconstructions, strict=True)),
            samples=dict(zip(params.methods, given.samples, strict=True)),
            showing=Showing(**params.showing),
            **{key: params[key] for key in ("ranked_by", "demo", "words")},
            **dict(snakemake.output.items()),
        )
