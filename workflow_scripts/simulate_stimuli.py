"""Draw the pictures of a simulated release and write its shared files."""

from nsdldm.demo.atlases import AVERAGED
from nsdldm.demo.stimuli import simulate_stimuli
from nsdldm.nsd.layout import COCO_SPLITS
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        simulate_stimuli(
            design=snakemake.output.design,
            stim_info=snakemake.output.stim_info,
            stimuli=snakemake.output.stimuli,
            captions=dict(zip(COCO_SPLITS, snakemake.output.captions, strict=True)),
            tables=dict(zip(AVERAGED, snakemake.output.tables, strict=True)),
            seed=snakemake.params.seed,
            sessions=snakemake.params.sessions,
            shared_images=snakemake.params.shared_images,
            unique_images=snakemake.params.unique_images,
            # Nothing else can run before the pictures exist.
            threads=max(2, snakemake.threads),
        )
