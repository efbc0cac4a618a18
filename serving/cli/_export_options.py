"""The options of `sparseclip export`, and the request that they make."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from bundle.bundle_path import BundlePath
from bundle.manifest import Framing
from serving.cli._inputs import concept_key
from serving.core.errors import StartupError
from serving.core.jpeg_decoder import JpegDecoder, check_installed
from serving.engines import ENGINES, Device, EnginePrecision
from serving.export.bounds import (
    MAX_BATCH,
    MAX_CORES,
    MAX_DECODERS,
    MAX_ROWS,
    MAX_TOP,
)
from serving.export.formats import FORMATS
from serving.export.inputs import AUTO, INPUTS

if TYPE_CHECKING:
    from bundle.store import Bundle
    from serving.export.export_request import ExportRequest

_OPTIONS: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
    click.option(
        "--kind",
        type=click.Choice([AUTO, *INPUTS.names]),
        default=AUTO,
        show_default=True,
        help="What INPUT is: images in a folder, tar shards, a table, or a list of paths. "
        "auto decides by the names of the files, and refuses a mix.",
    ),
    click.option(
        "--column", default="", help="The column of a table that holds the images or texts."
    ),
    click.option(
        "--id-column",
        default="",
        help="The column of a table that holds the ids. Without it, an id is a file and a row.",
    ),
    click.option(
        "--prefix",
        default="",
        help="What each id begins with, such as `camera-a/`. Ids of several exports that go into "
        "one database must differ.",
    ),
    click.option(
        "--bundle",
        "bundle_path",
        type=BundlePath(),
        help="The bundle that embeds INPUT. Default: $SPARSECLIP_BUNDLE, or the demo bundle.",
    ),
    click.option(
        "--sparse/--no-sparse",
        default=None,
        help="Whether to write the codes: the indices and values of the active concepts.  "
        "[default: sparse; a dense model has none]",
    ),
    click.option(
        "--top",
        type=click.IntRange(0, MAX_TOP),
        help="How many of a row's strongest concepts to write with their names; 0 writes none.  "
        "[default: 10; a dense model has none]",
    ),
    click.option(
        "--dense",
        is_flag=True,
        help="Write the dense vector that images and texts share. Of a dense model it is always "
        "written.",
    ),
    click.option(
        "--patch",
        "patches",
        multiple=True,
        metavar="CONCEPT",
        help="Write where in an image this concept fires. CONCEPT is an id or a name (repeatable).",
    ),
    click.option(
        "--framing",
        type=click.Choice(get_args(Framing)),
        help="How an image becomes square: crop keeps its middle, pad keeps all of it. Default: "
        "the model's own.",
    ),
    click.option(
        "--refuse-long-texts",
        is_flag=True,
        help="Put a text that is longer than the model's context into quarantine. Without it, the "
        "text is cut, and its row says so.",
    ),
    click.option(
        "--format",
        "format_name",
        type=click.Choice(FORMATS.names),
        default=FORMATS.names[0],
        show_default=True,
        help="The format of the data files.",
    ),
    click.option(
        "--rows",
        type=click.IntRange(1, MAX_ROWS),
        default=4096,
        show_default=True,
        help="How many entries a shard holds.",
    ),
    click.option(
        "--batch",
        type=click.IntRange(1, MAX_BATCH),
        default=32,
        show_default=True,
        help="How many rows one run of the model takes.",
    ),
    click.option(
        "--engine",
        type=click.Choice(ENGINES.choices),
        default=ENGINES.names[0],
        show_default=True,
        help="The engine that runs the model; auto takes the fastest here that passes the parity "
        "gate. All workers use the same.",
    ),
    click.option(
        "--precision",
        type=click.Choice((AUTO, *get_args(EnginePrecision))),
        default=get_args(EnginePrecision)[0],
        show_default=True,
        help="The precision of the model; auto as with --engine.",
    ),
    click.option(
        "--device",
        "--engine-device",
        type=click.Choice(get_args(Device)),
        default="cpu",
        show_default=True,
        help="The device that the engine runs on.",
    ),
    click.option(
        "--engine-cache",
        help="Folder of built engines, which all workers see. Default: engines below "
        "$SPARSECLIP_CACHE or the user's cache.",
    ),
    click.option(
        "--decoder",
        type=click.Choice(get_args(JpegDecoder)),
        default="pillow",
        show_default=True,
        help="What decodes JPEGs: pillow on the CPU; nvimgcodec on the first CUDA device (extra "
        "nvimgcodec; nobody has seen it run on a GPU yet); nvimgcodec_cpu the same library on the "
        "CPU, to try it.",
    ),
    click.option(
        "--cores",
        type=click.IntRange(0, MAX_CORES),
        default=0,
        help="How many cores a worker uses. 0 or not given: its share of this machine's cores, "
        "or 1 on Ray.",
    ),
    click.option(
        "--decoders",
        type=click.IntRange(0, MAX_DECODERS),
        default=0,
        help="How many processes decode images for a worker. 0 or not given: one per core, at "
        "most 8.",
    ),
    click.option(
        "--allow-empty",
        is_flag=True,
        help="Take an INPUT of which nothing becomes a row. Without it, the exit code is 3.",
    ),
]


def with_request(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say what is exported and how. The command gets `make_request`, which
    raises one of WORKER_ERRORS."""

    @functools.wraps(command)
    def wrapped(
        *,
        source: str,
        output: str,
        kind: str,
        column: str,
        id_column: str,
        prefix: str,
        bundle_path: Path | None,
        sparse: bool | None,
        top: int | None,
        dense: bool,
        patches: tuple[str, ...],
        framing: Framing | None,
        refuse_long_texts: bool,
        format_name: str,
        rows: int,
        batch: int,
        engine: str,
        precision: Any,
        device: Device,
        engine_cache: str | None,
        cores: int,
        decoders: int,
        decoder: JpegDecoder,
        allow_empty: bool,
        **others: Any,
    ) -> Any:
        def make_request() -> ExportRequest:
            from bundle.store import default_bundle
            from serving.engine_plans.open_engine import resolve
            from serving.engines.base import EngineConfig
            from serving.export.export_request import BundleOnce, ExportRequest
            from serving.export.job import ExportError, OutputConfig

            try:
                check_installed(decoder)
            except StartupError as error:
                raise ExportError(str(error)) from None
            bundle = BundleOnce(bundle_path or default_bundle())
            is_sparse = bundle.opened.is_sparse
            return ExportRequest(
                source=source,
                kind=kind,
                column=column,
                id_column=id_column,
                prefix=prefix,
                output=output,
                allow_empty=allow_empty,
                bundle=bundle,
                outputs=OutputConfig(
                    sparse=is_sparse if sparse is None else sparse,
                    top=(10 if is_sparse else 0) if top is None else top,
                    dense=dense or not is_sparse,
                    patches=_concept_ids(bundle.opened, patches),
                    framing=framing,
                    refuse_long_texts=refuse_long_texts,
                    format=format_name,
                    rows=rows,
                    batch=batch,
                ),
                engine=resolve(
                    bundle.opened,
                    EngineConfig(
                        name=engine, precision=precision, device=device, cache=engine_cache
                    ),
                ),
                cores=cores,
                decoders=decoders,
                decoder=decoder,
            )

        return command(make_request, **others)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def _concept_ids(bundle: Bundle, concepts: Sequence[str]) -> tuple[int, ...]:
    """Ids of concepts that are named or numbered, ascending. Raises ExportError for one that the
    bundle does not have."""
    if not concepts:
        return ()
    from bundle.manifest import NO_CONCEPTS
    from serving.core.errors import ServingError
    from serving.core.requests import find_concept
    from serving.export.job import ExportError

    if not bundle.is_sparse:
        raise ExportError(f"--patch: {NO_CONCEPTS}")
    vocabulary, ids = bundle.concepts, set[int]()
    for text in concepts:
        try:
            ids.add(find_concept(vocabulary, concept_key(text), f"--patch {text}").id)
        except ServingError as error:
            raise ExportError(error.message) from None
    return tuple(sorted(ids))
