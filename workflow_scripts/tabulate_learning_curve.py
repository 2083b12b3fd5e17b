"""Join the learning curves of all subjects."""

from nsdldm.evaluation.tables import tabulate_learning_curve
from nsdldm.support.logs import logged

if __name__ == "__main__":
    params = snakemake.params
    with logged(snakemake.log[0]):
        tabulate_learning_curve(
            tables=dict(zip(params.subjects, snakemake.input, strict=True)),
            demo=params.demo,
            output=snakemake.output[0],
        )
