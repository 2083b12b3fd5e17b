"""Draw the training curves of a cohort."""

from nsdldm.plots.trained_curves import plot_training_curves
from nsdldm.support.logs import logged

if __name__ == "__main__":
    params = snakemake.params
    with logged(snakemake.log[0]):
        plot_training_curves(
            curves=dict(zip(params.names, snakemake.input, strict=True)),
            cohort=snakemake.wildcards.cohort,
            demo=params.demo,
            **dict(snakemake.output.items()),
        )
