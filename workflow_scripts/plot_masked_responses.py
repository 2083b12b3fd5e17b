"""Draw partly hidden responses, and their completion by the encoder."""

from nsdldm.plots.trained_masked import plot_masked_responses
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        plot_masked_responses(
            **dict(snakemake.input.items()),
            **{key: value for key, value in snakemake.params.items() if key != "code"},
            **dict(snakemake.output.items()),
        )
