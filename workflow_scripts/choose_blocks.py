"""Find the U-Net block that predicts each cortical voxel of one subject best, at a step."""

from nsdldm.encoding.blocks import choose_blocks
from nsdldm.encoding.flips import FlipTest
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params, step = snakemake.input, snakemake.params, snakemake.wildcards.step
    with logged(snakemake.log[0]):
        choose_blocks(
            models={block: f"unet-{block}-{step}" for block in params.blocks},
            regions=dict(zip(params.rois, given.regions, strict=True)),
            test=FlipTest(**{key: params[key] for key in FlipTest._fields}),
            **{key: given[key] for key in ("predictions", "responses", "mask")},
            **dict(snakemake.output.items()),
        )
