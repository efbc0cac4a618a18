#!/usr/bin/env bash
# Embed a whole folder of images into Parquet files, check them, and look at them.
#
#     examples/bulk_export.sh docs/images codes
#
# No server is needed: the export opens the model itself. A run that was stopped goes on where it
# was. INPUT may also be WebDataset shards or a table, OUTPUT may be on an object store (s3://...);
# docs/export.md has every input, output and option.
set -euo pipefail

input=${1:?usage: bulk_export.sh INPUT OUTPUT}
output=${2:?usage: bulk_export.sh INPUT OUTPUT}

# The active concepts of each image, and its ten strongest by name.
sparseclip export "$input" "$output"

# Every file against its checksum, and the totals against the input.
sparseclip export verify "$output"

# One page, without network: frequent concepts, the images on which each is strongest.
sparseclip report "$output" --input "$input" --output "$output-report.html"

# The rows as one table, with any reader of Parquet.
python "$(dirname "$0")/read_export.py" "$output"
