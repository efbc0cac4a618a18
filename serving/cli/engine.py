"""`sparseclip engine`: what can run a bundle on this machine, how near to fp32, and how fast."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from bundle.bundle_path import BundlePath
from serving.cli._output import ResultWriter, json_option
from serving.cli._parity_cells import PARITY_COLUMNS, graph_cells, parity_cells
from serving.engines import AUTO, ENGINES, Device, EnginePrecision

if TYPE_CHECKING:
    from bundle.store import Bundle
    from serving.engine_plans.build_plan import ReferenceOutputs
    from serving.engines.base import EngineConfig

_OPTIONS = (
    click.option(
        "--bundle",
        "bundle_path",
        type=BundlePath(),
        help="Directory of a model or of one version. Default: $SPARSECLIP_BUNDLE, or the demo "
        "bundle.",
    ),
    click.option(
        "--device",
        type=click.Choice(get_args(Device)),
        default="cpu",
        show_default=True,
        help="The device that runs the graphs.",
    ),
    click.option(
        "--cache",
        "--engine-cache",
        "cache",
        help="Folder of built engines. Default: engines below $SPARSECLIP_CACHE or the user's "
        "cache.",
    ),
)

_IMAGES = click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Folder with at least 16 images like those that will be served, in any format that the "
    "server decodes. The engine is compared on up to 32 of them; up to 128 others calibrate int8. "
    "Default: drawn images, which cannot calibrate. With it, the engine is always built again.",
)


@click.group()
def engine() -> None:
    """Engines of this machine: list them, build them, measure them.

    An engine is served only if its outputs are near enough to those of the reference, which is
    ONNX Runtime in fp32 on the CPU: the parity gate. What is built, and how near it is, stays in
    the cache of this machine.
    """


def _command(work: Callable[..., None]) -> Callable[..., None]:
    """A command over a bundle; errors are one line."""

    @functools.wraps(work)
    def wrapped(bundle_path: Path | None, **given: Any) -> None:
        from bundle.plugins import PluginError
        from bundle.store import BundleError, default_bundle, open_bundle
        from serving.engine_plans.user_images import GateInputsError
        from serving.engines.base import EngineError

        try:
            work(open_bundle(bundle_path or default_bundle()), **given)
        except (BundleError, EngineError, GateInputsError, PluginError) as error:
            raise click.ClickException(" ".join(str(error).split())) from None

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


@engine.command("list")
@json_option
@_command
def list_command(bundle: Bundle, device: Device, cache: str | None, as_json: bool) -> None:
    """List engines and precisions, and how each does with a bundle.

    In `A / B`, A is for images and B for texts. `agreement` is the share of images whose nearest
    text is that of the reference. `*` marks what `auto` takes, once it was measured.
    """
    from serving.engine_plans.choose_engine import EngineChooser
    from serving.engine_plans.open_engine import say
    from serving.engine_plans.plan_cache import PlanCache
    from serving.engine_plans.survey import survey
    from serving.engines.base import EngineUnavailableError

    reference = _reference(bundle, None)
    plans = PlanCache(cache)
    try:
        plans.names()
    except OSError as error:
        raise EngineUnavailableError(f"--cache: cannot be read: {error.strerror}") from None
    chooser = EngineChooser(reference, _config(device=device, cache=cache), plans, say)
    columns = ("", "engine", "precision", "state", *PARITY_COLUMNS, "images/s at batch")
    writer = ResultWriter(*columns, as_json=as_json)
    for row in survey(bundle, device, plans, chooser.kept(), say):
        rates = ", ".join(f"{rate.median:g} at {batch}" for batch, rate in row.rates.items())
        writer.add(
            dataclasses.asdict(row),
            "*" if row.chosen else "",
            row.engine,
            row.precision,
            row.state,
            *parity_cells(row.plan),
            rates,
        )
    writer.close()


@engine.command()
@click.option(
    "--engine",
    "name",
    type=click.Choice(ENGINES.names),
    required=True,
    help="The engine to build.",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(EnginePrecision)),
    required=True,
    help="The numbers that its large products run in.",
)
@_IMAGES
@click.option("--again", is_flag=True, help="Build again, even if it is built.")
@json_option
@_command
def build(
    bundle: Bundle,
    name: str,
    precision: Any,
    device: Device,
    images: Path | None,
    cache: str | None,
    again: bool,
    as_json: bool,
) -> None:
    """Build an engine for a bundle and compare it with fp32.

    Ends with 1 when the parity gate refuses it. A server builds the engine that it is told to use
    by itself, apart from int8 that is calibrated on images.
    """
    from serving.engine_plans.build_plan import build_plan
    from serving.engine_plans.open_engine import say
    from serving.engine_plans.plan_cache import PlanCache, PlanKey
    from serving.engine_plans.ready_plan import check_precision, find_plan, is_reference
    from serving.engines.base import EngineUnavailableError

    config = _config(name=name, precision=precision, device=device, cache=cache)
    check_precision(config)
    if is_reference(name, precision, device):
        raise EngineUnavailableError("this is the bundle's own graphs: there is nothing to build")
    plans = PlanCache(cache)
    key = PlanKey.of(bundle, name, device, precision)
    wanted_anew = again or images is not None
    record = None if wanted_anew else find_plan(key, plans, say)
    known = record is not None
    if record is None:
        try:
            with plans.exclusive(say):
                # Another process may have built it meanwhile.
                record = None if wanted_anew else find_plan(key, plans, say)
                if record is None:
                    record = build_plan(_reference(bundle, images), config, plans, say)
        except OSError as error:
            reason = error.strerror or "no space"
            raise EngineUnavailableError(f"--cache: cannot be written: {reason}") from None
    writer = ResultWriter("graph", "recipe", *PARITY_COLUMNS, "MiB", as_json=as_json)
    if as_json:
        writer.add(dataclasses.asdict(record))
    for graph, built in record.graphs.items():
        if not as_json and not record.refused:  # the error says what a refused one lacks
            bytes_ = sum(f.bytes for path, f in record.files.items() if path.startswith(graph))
            size = f"{bytes_ / 2**20:.0f}" if bytes_ else ""
            writer.add({}, graph, built.recipe, *graph_cells(built), size)
    writer.close()
    if record.refused:
        before = " (as it was built before; --again builds it anew)" if known else ""
        raise EngineUnavailableError(f"the parity gate refuses it: {record.refused}{before}")


@engine.command()
@click.option(
    "--engine",
    "name",
    type=click.Choice(ENGINES.choices),
    default=AUTO,
    show_default=True,
    help="Measure this engine alone.",
)
@click.option(
    "--precision",
    type=click.Choice((AUTO, *get_args(EnginePrecision))),
    default=AUTO,
    show_default=True,
    help="Measure this precision alone.",
)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(1, 1024),
    multiple=True,
    default=(1, 16),
    show_default=True,
    help="Images per run; give it once for each size.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 100),
    default=5,
    show_default=True,
    help="How often each engine has its turn.",
)
@json_option
@_command
def bench(
    bundle: Bundle,
    name: str,
    precision: Any,
    batches: tuple[int, ...],
    rounds: int,
    device: Device,
    cache: str | None,
    as_json: bool,
) -> None:
    """Measure what passes the parity gate, and let `auto` choose anew.

    Builds what is missing, as `auto` does. Engines take turns. A rate is the median over the
    rounds, with the lowest and the highest, of the graph of images. `auto` takes the engine with
    the highest geometric mean over the batches. With --engine or --precision that choice is for
    servers that are given the same.
    """
    from serving.engine_plans.choose_engine import EngineChooser
    from serving.engine_plans.open_engine import say
    from serving.engine_plans.plan_cache import PlanCache

    config = _config(name=name, precision=precision, device=device, cache=cache)
    plans = PlanCache(cache)
    with plans.exclusive(say):
        choice = EngineChooser(_reference(bundle, None), config, plans, say).measure(
            batches, rounds
        )
    columns = (f"images/s, batch {batch}" for batch in batches)
    writer = ResultWriter("", "engine", *columns, "", as_json=as_json)
    for label, rates in choice.rates.items():
        chosen = label == f"{choice.engine} {choice.precision}"
        record = {"engine": label, "chosen": chosen} | {
            f"batch {batch}": dataclasses.asdict(rate) for batch, rate in rates.items()
        }
        cells = (f"{r.median:g} ({r.lowest:g} to {r.highest:g})" for r in rates.values())
        writer.add(record, "*" if chosen else "", label, *cells)
    for label, reason in choice.left_out.items():
        blank = ("" for _ in batches)
        writer.add({"engine": label, "left_out": reason}, "", label, *blank, reason)
    writer.close()
    if not choice.rates:
        print("sparseclip: engine: there is nothing to compare", file=sys.stderr)


def _config(**fields: Any) -> EngineConfig:
    from serving.engines.base import EngineConfig

    return EngineConfig(**fields)


def _reference(bundle: Bundle, images: Path | None) -> ReferenceOutputs:
    from serving.engine_plans.build_plan import ReferenceOutputs

    reference = ReferenceOutputs(bundle, images=images)
    if images is not None and reference.gate.left_out:
        print(
            f"sparseclip: engine: --images: left out {reference.gate.left_out}",
            file=sys.stderr,
        )
    return reference
