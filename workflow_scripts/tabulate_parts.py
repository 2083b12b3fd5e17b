"""Join the parts of variance that joint models explain in each subject."""

from nsdldm.encoding.components import tabulate_parts
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        tabulate_parts(
            subjects=snakemake.params.subjects,
            summaries=list(snakemake.input),
            output=snakemake.output[0],
        )
