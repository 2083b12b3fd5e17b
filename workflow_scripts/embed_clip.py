"""Embed the pictures and captions one subject saw with CLIP."""

from nsdldm.support.logs import logged
from nsdldm.trained.clip import embed_clip

if __name__ == "__main__":
    given = snakemake.input
    with logged(snakemake.log[0]):
        embed_clip(
            **{key: given[key] for key in ("images", "stimuli", "captions")},
            **{key: value for key, value in snakemake.params.items() if key != "code"},
            **dict(snakemake.output.items()),
        )
