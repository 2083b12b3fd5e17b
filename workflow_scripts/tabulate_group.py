"""Compare all subjects' accuracy and unique variance by region."""

from nsdldm.encoding.group import tabulate_group
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = list(snakemake.input), snakemake.params
    n = len(given) // len(params.subjects)
    with logged(snakemake.log[0]):
        tabulate_group(
            sums={name: given[n * k : n * (k + 1)] for k, name in enumerate(params.subjects)},
            repeats=params.repeats,
            seed=params.seed,
            output=snakemake.output[0],
        )
