"""Draw scores by similarity to the training images (figure 13)."""

from nsdldm.plots.generalisation import plot_fig13
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        plot_fig13(
            scores=dict(zip(map(tuple, params.scored), given, strict=True)),
            demo=params.demo,
            **dict(snakemake.output.items()),
        )
