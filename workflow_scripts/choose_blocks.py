"""Find the block of the U-Net that predicts each cortical voxel of one subject best, by step."""

from nsdldm.encoding.blocks import choose_blocks
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    n = len(params.blocks)
    with logged(snakemake.log[0]):
        for step, outputs in enumerate(zip(made.maps, made.tables, made.errors, strict=True)):
            kernels = given.kernels[step * n : (step + 1) * n]
            choose_blocks(
                kernels=dict(zip(params.blocks, kernels, strict=True)),
                **{key: given[key] for key in ("betas", "trials", "images", "mask")},
                **{key: value for key, value in params.items() if key not in ("blocks", "code")},
                **dict(zip(("map", "table", "errors"), outputs, strict=True)),
            )
