"""The command `sparseclip sparsify`."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.bundle_path import BundlePath
from bundle.progress import line_when_stopped
from training.cli.evaluate import find_judge
from training.cli.models_option import models_option
from training.cli.pair_options import (
    PairOptions,
    errors_as_typed,
    held_out_option,
    pair_options,
)
from training.cli.run_options import show_log
from training.cli.vocabulary_options import check_coverage_file, coverage_option, report_coverage
from training.sparsify.head_options import CONCEPTS_PER_DIMENSION, HeadOptions

_STOPPED = "stopped. Run the same command again: it goes on after the last part or checkpoint"


@click.command()
@click.argument("bundle", type=BundlePath())
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--name", required=True, help="Name of the sparse model.")
@click.option("--version", default="1", show_default=True, help="An existing one is never changed.")
@models_option
@click.option(
    "--head",
    default="contrastive",
    show_default=True,
    metavar="HEAD",
    help="How the codes are learned: contrastive (from captions), distill (from the dense model's"
    " similarities to a vocabulary, without captions), topk_sae, batch_topk_sae, matryoshka_sae.",
)
@click.option(
    "--compare",
    multiple=True,
    metavar="HEAD",
    help="A further head for the report, also splice, or `all`. May be repeated.",
)
@pair_options
@held_out_option
@click.option(
    "--images-only",
    is_flag=True,
    help="DATA is a folder of images without captions. Needs --vocabulary and --head distill.",
)
@click.option("--split", help="The split to train on.  [default: train; all of --images-only]")
@click.option(
    "--vocabulary",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of words and phrases of your field, one a line: for names of concepts, and for"
    " distill and splice.",
)
@coverage_option
@click.option(
    "--concepts",
    type=click.IntRange(1, 2**20),
    help="C, how many concepts the codes have.  [default:"
    f" {CONCEPTS_PER_DIMENSION} times the width of the dense vectors]",
)
@click.option(
    "--l0",
    type=click.FloatRange(0, 1, min_open=True),
    default=HeadOptions.l0,
    show_default=True,
    help="The largest share of concepts that is active in training, on the average of images and of"
    " texts.",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=HeadOptions.steps,
    show_default=True,
    help="Steps of a head.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(2),
    default=HeadOptions.batch_size,
    show_default=True,
    help="Images of a step.",
)
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    default=HeadOptions.lr,
    show_default=True,
    help="Peak learning rate.",
)
@click.option("--seed", type=click.IntRange(0), default=HeadOptions.seed, show_default=True)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of checkpoints and of the report.  [default: runs/sparsify/NAME-VERSION]",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the embeddings, which other runs use again.  [default: the user's cache]",
)
def sparsify(
    bundle: Path,
    data: Path,
    name: str,
    version: str,
    models_dir: Path,
    head: str,
    compare: tuple[str, ...],
    read_as: PairOptions,
    images_only: bool,
    split: str | None,
    vocabulary: Path | None,
    coverage: Path | None,
    concepts: int | None,
    l0: float,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
    output: Path | None,
    cache: Path | None,
) -> None:
    """Make the dense bundle BUNDLE sparse by the images of DATA, and name its concepts.

    Both towers stay as they are. The command embeds the images and texts once, trains a wide ReLU
    layer on the embeddings, measures it on held-out images beside the dense model, and writes a
    sparse bundle. It takes minutes on a CPU. A command that was stopped goes on where it was.
    """
    from bundle.plugins import PluginError
    from bundle.store import BundleError, vacant_version
    from training.bundling.name_vocabulary import read_vocabulary
    from training.bundling.onnx_parity import ParityError
    from training.core.checkpoint import CheckpointError
    from training.core.resume import TrainingError
    from training.data.data_recipe import DataError
    from training.loading.pair_data import ALL, TRAIN
    from training.sparsify.embeddings.uncaptioned_images import UncaptionedImages
    from training.sparsify.heads import HEADS
    from training.sparsify.job import SparsifyConfig
    from training.sparsify.job import sparsify as run
    from training.sparsify.onnx_heads import HeadGraphError

    options = HeadOptions(
        concepts=concepts, l0=l0, steps=steps, batch_size=batch_size, lr=lr, seed=seed
    )
    check_coverage_file(vocabulary, coverage)
    if images_only:
        read_as.refuse("goes without --images-only")
        if split is not None:
            raise click.UsageError("--split goes without --images-only: all images are trained on")
    show_log()
    words = None
    try:
        vacant_version(models_dir, name, version)  # fails now, not after minutes of work
        chosen = HEADS.names if "all" in compare else compare
        for wanted in (head, *chosen):
            HEADS.check(wanted)
        run_folder = output or Path("runs/sparsify") / f"{name}-{version}"
        _refuse_foreign(run_folder, {*HEADS.names, "report.html", "report.json"})
        with errors_as_typed("DATA"):
            for wanted in (head, *chosen):
                if images_only and HEADS.load(wanted).needs_captions:
                    raise PluginError(f"head {wanted}: needs captions; --head distill needs none")
            if images_only and vocabulary is None:
                raise DataError("--images-only: wants --vocabulary, the words for names")
            words = None if vocabulary is None else read_vocabulary(vocabulary)
            pairs = UncaptionedImages(data) if images_only else read_as.open(data)
            config = SparsifyConfig(
                bundle=bundle,
                data=pairs,
                split=split if split is not None else ALL if images_only else TRAIN,
                vocabulary=words,
                models_dir=models_dir,
                name=name,
                version=version,
                head=head,
                compare=chosen,
                options=options,
                run=run_folder,
                cache=cache,
                judge=find_judge(),
            )
            with line_when_stopped(lambda: _STOPPED):
                path = run(config)
    except (
        BundleError,
        CheckpointError,
        DataError,
        HeadGraphError,
        ParityError,
        PluginError,
        TrainingError,
    ) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"report: {run_folder / 'report.html'}")
    click.echo(f"bundle: {path}")
    report_coverage(path, words, coverage)


def _refuse_foreign(folder: Path, own: set[str]) -> None:
    """Raises DataError for a folder that holds something else than a run of sparsify."""
    from bundle.atomic import is_draft
    from training.data.data_recipe import DataError
    from training.loading.sources.base import printable

    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if foreign := [name for name in names if name not in own and not is_draft(name)]:
        raise DataError(
            f"--output: {printable(folder.name)} is not empty and no run of sparsify: it holds"
            f" {printable(foreign[0])!r}. Choose a new or an empty folder"
        )
