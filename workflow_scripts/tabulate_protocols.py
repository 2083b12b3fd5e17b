"""Join the comparisons of protocols of all subjects."""

from nsdldm.evaluation.tables import tabulate_protocols
from nsdldm.support.logs import logged

if __name__ == "__main__":
    params = snakemake.params
    with logged(snakemake.log[0]):
        tabulate_protocols(
            tables=dict(zip(params.subjects, snakemake.input, strict=True)),
            demo=params.demo,
            output=snakemake.output[0],
        )
