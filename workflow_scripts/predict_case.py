"""Predict every cortical voxel of one subject for the test images of a case."""

from nsdldm.encoding.fits import FitSettings
from nsdldm.encoding.transfer import predict_case
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        predict_case(
            **{key: given[key] for key in ("images", "responses", "test_images", "tested")},
            **{
                key: dict(zip(params.spaces, given[key], strict=True))
                for key in ("features", "test_features")
            },
            settings=FitSettings(**{key: params[key] for key in FitSettings._fields}),
            max_components=params.max_components,
            predictions=snakemake.output[0],
        )
