"""Draw images that all subjects saw next to each subject's reconstruction."""

from nsdldm.plots.fig4 import plot_fig4
from nsdldm.plots.pictures import Showing
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    names = ("images", "reconstructions", "samples")
    with logged(snakemake.log[0]):
        plot_fig4(
            stimuli=given.stimuli,
            **{key: dict(zip(params.subjects, given[key], strict=True)) for key in names},
            showing=Showing(**params.showing),
            demo=params.demo,
            **dict(snakemake.output.items()),
        )
