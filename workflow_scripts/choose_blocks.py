"""Find the block of the U-Net that predicts each cortical voxel of one subject best."""

from nsdldm.blocks import choose_blocks
from nsdldm.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        choose_blocks(
            kernels=dict(zip(params.blocks, given.kernels, strict=True)),
            **{key: given[key] for key in ("betas", "trials", "images", "mask")},
            **{key: value for key, value in params.items() if key not in ("blocks", "code")},
            **dict(snakemake.output.items()),
        )
