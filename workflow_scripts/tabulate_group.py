"""Compare all subjects' accuracy and unique variance by region, and this under different noise."""

from nsdldm.encoding.group import tabulate_group
from nsdldm.support.logs import logged

if __name__ == "__main__":
    params = snakemake.params
    with logged(snakemake.log[0]):
        tabulate_group(
            sums={subject: snakemake.input[subject] for subject in params.subjects},
            repeats=params.bootstrap,
            seed=params.seed,
            **dict(snakemake.output.items()),
        )
