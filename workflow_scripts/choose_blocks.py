"""Find the block, or layer of a network, that predicts each voxel of one subject best."""

from nsdldm.encoding.blocks import choose_blocks
from nsdldm.encoding.flips import FlipTest
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    names = ("maps", "tables", "errors")
    with logged(snakemake.log[0]):
        choose_blocks(
            models=params.models,
            regions=dict(zip(params.rois, given.regions, strict=True)),
            test=FlipTest(**{key: params[key] for key in FlipTest._fields}),
            **{key: given[key] for key in ("predictions", "responses", "mask")},
            **{key: dict(zip(params.models, made[key], strict=True)) for key in names},
        )
