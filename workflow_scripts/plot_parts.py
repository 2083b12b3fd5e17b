"""Draw what each feature space of a joint model explains, by region."""

from nsdldm.plots.parts import plot_parts
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        plot_parts(
            table=snakemake.input[0],
            demo=snakemake.params.demo,
            **dict(snakemake.output.items()),
        )
