"""List one subject's trials and the images shown, from tables of one's own."""

from nsdldm.arrays import tabulate_trials
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        tabulate_trials(
            images=snakemake.input.images,
            trials=snakemake.input.trials,
            output_trials=snakemake.output.trials,
            output_images=snakemake.output.images,
        )
