"""Read the live rows of an export's Parquet files into one sparse matrix.

sparseclip export docs/images codes
python examples/read_export.py codes
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.dataset
from scipy.sparse import csr_array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("export", type=Path, help="the folder that `sparseclip export` wrote")
    options = parser.parse_args()

    table = pyarrow.dataset.dataset(options.export / "data", format="parquet").to_table()
    if (options.export / "ended").exists():  # `--update` was run: some rows count no more
        ended = pyarrow.dataset.dataset(options.export / "ended").to_table(["id", "generation"])
        numbers = pyarrow.array(range(len(table)))
        keys = table.select(["id", "generation"]).append_column("row", numbers)
        live = keys.join(ended, ["id", "generation"], join_type="left anti")
        table = table.take(sorted(live["row"].to_pylist()))
    rows = table.to_pydict()

    # CSR: row i has the concepts indices[offsets[i]:offsets[i + 1]].
    offsets = np.cumsum([0, *(len(indices) for indices in rows["indices"])])
    codes = csr_array((np.concatenate(rows["values"]), np.concatenate(rows["indices"]), offsets))
    print(f"{codes.shape[0]} images, {codes.nnz / codes.shape[0]:.0f} active concepts each")

    names = Counter(concept["name"] for row in rows["concepts"] for concept in row)
    for name, count in names.most_common(5):
        print(f"{name}: among the strongest of {count}")


if __name__ == "__main__":
    main()
