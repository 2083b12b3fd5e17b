"""Tabulate the trials and images of one task of NSD-Imagery, and copy its pictures."""

from pathlib import Path

from nsdldm.nsd.imagery import prepare_imagery
from nsdldm.nsd.layout import IMAGERY_RUNS
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given = snakemake.input
    with logged(snakemake.log[0]):
        prepare_imagery(
            behaviour=dict(zip(IMAGERY_RUNS, given.behaviour, strict=True)),
            pairs=dict(zip("ABC", given.pairs, strict=True)),
            targets={Path(path).stem: path for path in given.targets},
            design=given.get("design") or None,
            task=snakemake.wildcards.case,
            order=snakemake.params.order,
            **dict(snakemake.output.items()),
        )
