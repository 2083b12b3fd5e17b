"""Write a caption of what was decoded of each of one subject's test images."""

from nsdldm.decoding.captioners import Captioner, Writing, caption_features
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        caption_features(
            **{key: given[key] for key in ("decoded", "images")},
            captioner=Captioner(**params.captioner),
            writing=Writing(**params.writing),
            output=snakemake.output[0],
        )
