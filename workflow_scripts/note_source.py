"""Record the dataset and the release that results are made from."""

import pandas as pd

from nsdldm.support.files import save_table
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        save_table(snakemake.output[0], pd.DataFrame([snakemake.params.source]))
