"""One Zarr group for each shard, all in one group, with the codes as CSR. R rows, N non-zeros, T
strongest concepts, D CLIP width, H by W the grid of patches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from serving.export.formats._arrow_lists import concept_column
from serving.export.formats.base import ShardFiles
from serving.storage.location import Location

GROUP = "zarr.json"
"""The metadata of a group."""
COLUMN_ARRAYS = {
    "indices": ("indices", "offsets"),
    "values": ("values", "offsets"),
    "concepts": ("top_id", "top_name", "top_value"),
}
"""The arrays that a column is read from. Any other column is one array of its own name."""


class ZarrFormat:
    """See ExportFormat. Arrays of a shard: id, source, generation, active, norm and what was read
    (R,); indices, values (N,) and offsets (R + 1,); top_id, top_name, top_value (R, T), with -1, ""
    and 0 where a row has fewer; dense (R, D); patch_ID (R, H, W)."""

    extra = frozenset({GROUP})
    marks_ended = False

    def files(self, table: Any, stem: str) -> dict[str, bytes]:
        """See ExportFormat.files. Each array is one chunk, because a shard is read as a whole."""
        arrays = _arrays(table)
        return {f"{stem}/{name}": data for name, data in _stored(arrays).items()}

    def read(
        self, data: Location, names: Sequence[str], columns: Sequence[str], rows: int
    ) -> Iterator[Any]:
        """See ExportFormat.read."""
        stored = {GROUP, *(x for name in columns for x in COLUMN_ARRAYS.get(name, (name,)))}
        files: dict[str, Buffer] = {}
        for name in names:
            path = name.partition("/")[2]  # without the shard's group
            if path.partition("/")[0] in stored:
                content = data.at(name).read()
                files[path] = default_buffer_prototype().buffer.from_bytes(content)
        group = zarr.open_group(MemoryStore(files), mode="r", zarr_format=3)
        table = pyarrow.table({name: _column(group, name) for name in columns})
        yield from table.to_batches(rows)

    def finish(self, data: Location, schema: Any, shards: Sequence[ShardFiles]) -> None:
        """See ExportFormat.finish. Makes the data folder a group."""
        if any(self.find_problems(data, shards)):
            data.at(GROUP).write(_stored({})[GROUP])

    def find_problems(self, data: Location, shards: Sequence[ShardFiles]) -> Iterator[str]:
        """See ExportFormat.find_problems."""
        try:
            if data.at(GROUP).read() != _stored({})[GROUP]:
                yield f"{data.name}/{GROUP}: altered"
        except OSError:
            yield f"{data.name}/{GROUP}: missing"


def _stored(arrays: dict[str, NDArray[Any]]) -> dict[str, bytes]:
    """A group's files by name, as zarr writes them."""
    files: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(files), zarr_format=3)
    for name, array in arrays.items():
        chunks = tuple(max(1, side) for side in array.shape)
        group.create_array(name, data=array, chunks=chunks)
    return {name: files[name].to_bytes() for name in sorted(files)}


def _arrays(table: Any) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if name == "concepts":
            arrays |= _top_arrays(column)
        elif name in ("indices", "values"):
            arrays["offsets"] = column.offsets.to_numpy().astype(np.uint64)
            arrays[name] = column.values.to_numpy()
        elif pyarrow.types.is_fixed_size_list(column.type):
            arrays[name] = _fixed(column)
        elif pyarrow.types.is_string(column.type):
            arrays[name] = _strings(column)
        else:
            arrays[name] = column.to_numpy(zero_copy_only=False)
    return arrays


def _fixed(lists: Any) -> NDArray[Any]:
    """Nested lists of fixed lengths as an array of as many dimensions."""
    shape = [len(lists)]
    while pyarrow.types.is_fixed_size_list(lists.type):
        shape.append(lists.type.list_size)
        lists = lists.values
    array: NDArray[Any] = lists.to_numpy().reshape(shape)
    return array


def _column(group: zarr.Group, name: str) -> Any:
    """A column as it was in the table that was written."""
    arrays: list[Any] = [group[array][:] for array in COLUMN_ARRAYS.get(name, (name,))]  # type: ignore[index]
    if name in ("indices", "values"):
        values, offsets = arrays
        return pyarrow.ListArray.from_arrays(offsets.astype(np.int32), pyarrow.array(values))
    if name == "concepts":
        ids, names, values = arrays
        used = ids >= 0  # rows with fewer concepts are padded
        return concept_column(used.sum(axis=1), ids[used], names[used].tolist(), values[used])
    [array] = arrays
    if array.ndim > 1:
        lists = pyarrow.array(array.ravel())
        for width in reversed(array.shape[1:]):
            lists = pyarrow.FixedSizeListArray.from_arrays(lists, width)
        return lists
    return pyarrow.array(array.tolist() if array.dtype.kind == "T" else array)


def _top_arrays(lists: Any) -> dict[str, NDArray[Any]]:
    """Lists of concepts as arrays (R, T), padded at the end of each row."""
    offsets = lists.offsets.to_numpy()
    counts = np.diff(offsets)
    shape = (len(counts), int(counts.max(initial=0)))
    rows = np.repeat(np.arange(len(counts)), counts)
    ranks = np.arange(len(rows)) - np.repeat(offsets[:-1], counts)  # within a row
    fields = {name: lists.values.field(name) for name in ("id", "name", "value")}
    arrays: dict[str, NDArray[Any]] = {
        "top_id": np.full(shape, -1, np.int64),
        "top_name": np.full(shape, "", np.dtypes.StringDType()),
        "top_value": np.zeros(shape, np.float32),
    }
    arrays["top_id"][rows, ranks] = fields["id"].to_numpy()
    arrays["top_name"][rows, ranks] = _strings(fields["name"])
    arrays["top_value"][rows, ranks] = fields["value"].to_numpy()
    return arrays


def _strings(column: Any) -> NDArray[Any]:
    return np.array(column.to_pylist(), np.dtypes.StringDType())
