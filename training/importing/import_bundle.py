"""A model of another library becomes a dense bundle: read, compared, written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bundle.architecture import Architecture
from bundle.manifest import Manifest, ModelOrigin, SourceParity
from bundle.onnx_graph import DENSE_OUTPUTS, INPUT, GraphName
from bundle.schema import SchemaError, from_dict
from bundle.store import BundleError, vacant_version, write_version
from bundle.verify import check_content
from training.huggingface.model_error import ModelImportError
from training.importing import MODEL_SOURCES
from training.importing.base import ImportedModel, SourceOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from training.bundling.bundle_writer import Storage
    from training.importing._gates import Golden, GraphChecks

MAX_SOURCE = 4096

_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]")
"""Control characters, and what a file name that is not UTF-8 becomes."""

DEFAULT_SOURCE = "run"
"""What a SOURCE without a colon is: the folder of a run, or of a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """What is imported, and where it goes."""

    source: str
    """SOURCE of `sparseclip import`."""
    models_dir: Path
    name: str
    version: str = "1"
    weights: Path | None = None
    """A file of weights for an architecture alone."""
    storage: Storage = "float32"
    """How weights are stored. float16 rounds them first."""
    licence: Path | None = None
    """A file with the licence of the weights."""


def import_bundle(config: ImportConfig, report: Callable[[str], None]) -> Path:
    """Imports a model as the bundle NAME/VERSION and returns its folder. `report` gets one line for
    each step.

    Raises ModelImportError for a source that is not there, does not fit together, or is not what
    the source library's own code gives; PluginError for a kind of source that is not known; and
    BundleError for a version that exists. Then nothing is left behind.
    """
    vacant_version(config.models_dir, config.name, config.version)  # before the minutes of work
    licence = _licence(config)
    kind, rest = _split(config.source)
    source = MODEL_SOURCES.load(kind)()
    report("reading the model")
    model = source.load(rest, SourceOptions(weights=config.weights))
    label = f"{kind}:{source.label(rest)}"

    def write(folder: Path) -> Manifest:
        manifest = _write(model, folder, label, config, report)
        from training.importing._card import import_card, unknown_licence

        text = licence or model.licence
        (folder / "LICENSE").write_text(text or unknown_licence(label), encoding="utf-8")
        card = import_card(manifest, model.family, known_licence=text is not None)
        (folder / "CARD.md").write_text(card, encoding="utf-8")
        report("verifying the bundle")
        return manifest

    return write_version(config.models_dir, config.name, config.version, write)


def _split(source: str) -> tuple[str, str]:
    if _NOT_TEXT.search(source) or len(source) > MAX_SOURCE:
        raise ModelImportError(f"SOURCE: must be one line of text, at most {MAX_SOURCE} characters")
    kind, separator, rest = source.partition(":")
    if separator and "/" not in kind:
        return MODEL_SOURCES.check(kind), rest
    if DEFAULT_SOURCE not in MODEL_SOURCES.names or not source or not Path(source).is_dir():
        known = ", ".join(f"{name}:" for name in MODEL_SOURCES.names)
        raise ModelImportError(f"SOURCE: must begin with one of {known} or be a run's folder")
    if (Path(source) / "config.json").is_file():
        raise ModelImportError("SOURCE: for a folder of Hugging Face write hf: before its path")
    if (Path(source) / "open_clip_config.json").is_file():
        raise ModelImportError("SOURCE: for a folder of open_clip write open_clip:local-dir: first")
    return DEFAULT_SOURCE, source


def _licence(config: ImportConfig) -> str | None:
    if config.licence is None:
        return None
    try:
        if config.licence.is_file():  # no pipe, from which a read may never come back
            check_content(config.licence, "LICENSE")
            return config.licence.read_text(encoding="utf-8")
    except BundleError as error:
        raise ModelImportError(f"--licence: {str(error).partition(': ')[2]}") from None
    except (OSError, UnicodeDecodeError):
        pass
    raise ModelImportError("--licence: must be a file of text")


def _write(
    model: ImportedModel,
    work: Path,
    label: str,
    config: ImportConfig,
    report: Callable[[str], None],
) -> Manifest:
    """Writes tokenizer and graphs into `work` and compares them. Returns the manifest."""
    from bundle.open_tokenizer import open_tokenizer
    from bundle.tokenizer import TokenizerError
    from training.importing._gates import check_tokens, golden

    _check_fields(model)
    report("comparing tokens and pixels")
    path = work / "tokenizer.json"
    model.write_tokenizer(path)
    try:
        tokenizer = open_tokenizer(path, model.context_length, model.tokenization)
    except TokenizerError as error:
        raise ModelImportError(f"tokenizer: {error}") from error
    token_rows = check_tokens(model, tokenizer)
    given = golden(model, tokenizer)
    half = config.storage == "float16"
    if half:
        _round(model)  # the golden vectors are those of the weights as they were
    checks = {
        graph: _write_graph(model, graph, module, work, given, half, report)
        for graph, module in _modules(model).items()
    }
    return Manifest(
        name=config.name,
        version=config.version,
        kind="dense",
        architecture=_architecture(model, given.image_dense.shape[1]),
        preprocessing=model.preprocessing,
        tokenization=model.tokenization,
        origin=ModelOrigin(
            source=label, library=model.library, weights_sha256=model.weights_sha256
        ),
        image_parity=checks["image"].parity,
        text_parity=checks["text"].parity,
        patch_parity=checks["patches"].parity if "patches" in checks else None,
        source_parity=SourceParity(
            images=len(given.pixels),
            texts=len(given.tokens),
            max_pixel_error=given.max_pixel_error,
            min_image_cosine=checks["image"].served_cosine,
            min_text_cosine=checks["text"].served_cosine,
            token_rows=token_rows,
        ),
        files={},
    )


def _check_fields(model: ImportedModel) -> None:
    """Raises ModelImportError, naming the field, for a value that no manifest may have: before the
    minutes of work after which the bundle would be refused."""
    for name, value in (
        ("preprocessing", model.preprocessing),
        ("architecture", _architecture(model, dense_dim=1)),
    ):
        fields = {key: entry for key, entry in asdict(value).items() if entry is not None}
        try:
            from_dict(type(value), json.loads(json.dumps(fields)), name)
        except SchemaError as error:
            raise ModelImportError(str(error)) from None


def _modules(model: ImportedModel) -> dict[GraphName, nn.Module]:
    modules: dict[GraphName, nn.Module] = {"image": model.image, "text": model.text}
    if model.patches is not None:
        modules["patches"] = model.patches
    return modules


def _write_graph(
    model: ImportedModel,
    graph: GraphName,
    module: nn.Module,
    work: Path,
    given: Golden,
    half: bool,
    report: Callable[[str], None],
) -> GraphChecks:
    from training.core.onnx_file import GraphTooLargeError, write_onnx
    from training.importing._gates import check_graph

    report(f"writing {graph}.onnx")
    path, example = work / f"{graph}.onnx", _example(model, graph)
    try:
        write_onnx(module, example, INPUT[graph], DENSE_OUTPUTS[graph], path, half=half)
    except GraphTooLargeError as error:
        raise ModelImportError(f"{graph}.onnx: {error}") from None
    report(f"comparing {graph}.onnx")
    return check_graph(path, graph, given, half=half)


def _example(model: ImportedModel, graph: GraphName) -> Tensor:
    import torch

    if graph == "text":
        return torch.zeros(2, model.context_length, dtype=torch.int64)
    return torch.zeros(2, 3, model.preprocessing.size, model.preprocessing.size)


def _round(model: ImportedModel) -> None:
    """Rounds the weights to float16. Raises ModelImportError for one beyond its range."""
    import torch

    from training.model.stored_tensors import stored_tensors

    with torch.no_grad():
        for module in _modules(model).values():
            for name, tensor in stored_tensors(module).items():
                if tensor.is_floating_point() and tensor.ndim > 0:
                    tensor.copy_(tensor.half().float())
                    if not torch.isfinite(tensor).all():
                        raise ModelImportError(f"weights: {name} does not fit float16")


def _architecture(model: ImportedModel, dense_dim: int) -> Architecture:
    return Architecture(
        family=model.family,
        dense_dim=dense_dim,
        text_dense_dim=dense_dim,
        context_length=model.context_length,
        vocabulary=model.vocabulary,
        logit_scale=model.logit_scale,
        logit_bias=model.logit_bias,
        score=model.score,
        dense="shared",
        patch_grid=model.patch_grid,
        text_encoder=model.text_encoder,
    )
