"""Draw decoding scores over the number of sessions."""

from nsdldm.plots.learning import plot_learning_curve
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        plot_learning_curve(
            table=snakemake.input[0],
            demo=snakemake.params.demo,
            **dict(snakemake.output.items()),
        )
