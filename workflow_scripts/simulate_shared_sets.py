"""Write what all subjects share of the simulated NSD-synthetic and NSD-Imagery."""

from pathlib import Path

from nsdldm.demo.sessions import simulate_shared_sets
from nsdldm.nsd.layout import COCO_SPLITS, IMAGERY_SETS
from nsdldm.support.logs import logged

if __name__ == "__main__":
    made, params = snakemake.output, snakemake.params
    with logged(snakemake.log[0]):
        simulate_shared_sets(
            **dict(snakemake.input.items()),
            **{k: made[k] for k in ("synthetic_design", "information", "synthetic_stimuli")},
            pairs=dict(zip(IMAGERY_SETS, made.pairs, strict=True)),
            targets={Path(path).stem: path for path in made.targets},
            instances=dict(zip(COCO_SPLITS, made.instances, strict=True)),
            sessions=params.sessions,
            scenes_seed=params.seed,
            seed=params.seed,
        )
