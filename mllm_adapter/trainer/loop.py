"""The training loop of an adapter: stage after stage, with checkpoints that resume exactly."""

from __future__ import annotations

import math
import statistics
import time
from contextlib import ExitStack
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from bundle.store import Bundle, BundleError, default_bundle, open_bundle
from mllm_adapter.adapter_recipe import AdapterRecipe
from mllm_adapter.data.code_tables import PATCH_GRAPH, BackboneGraphs
from mllm_adapter.model.adapter import (
    LLM_FOLDER,
    PACKAGED_LLMS,
    AdapterConfig,
    AdapterError,
    write_adapter,
)
from mllm_adapter.model.llm import load_llm, load_tokenizer
from mllm_adapter.model.llm_files import LLMError
from mllm_adapter.model.projector import Cells, Projector, visual_tokens
from mllm_adapter.model.prompt import PromptBuilder
from mllm_adapter.model.small_llm import new_llm
from mllm_adapter.trainer.adapter_module import AdapterModel, build_optimizers
from mllm_adapter.trainer.batches import ConversationBatch
from mllm_adapter.trainer.initial_projector import initialize_projector
from mllm_adapter.trainer.run_inputs import RunInputs
from mllm_adapter.trainer.training_data import TrainingData
from mllm_adapter.trainer.word_start import learn_words
from training.core import checkpoint
from training.core.checkpoint import Progress
from training.core.distributed import Ranks
from training.core.optimizer import learning_rate, set_learning_rate
from training.core.precision import autocast, resolve_precision
from training.core.resume import TrainingError, begun_recipe, open_run
from training.core.run_log import RunLog
from training.core.seeds import derive_seed


def train(recipe: AdapterRecipe, run: Path, stop_after: int | None = None) -> Path:
    """Trains a recipe in the folder `run`, and returns the folder of the finished adapter.

    A run that was stopped resumes from its last checkpoint, with the losses that it would have had
    without the stop. With `stop_after` the run ends after that many steps in all, and its last
    checkpoint is returned unless it is finished.

    Raises CheckpointError when the folder holds another recipe's run, TrainingError when the loss
    is not finite.
    """
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
    return _AdapterRun(recipe, run).go(stop_after)


def _resolved(recipe: AdapterRecipe, run: Path, device: torch.device) -> AdapterRecipe:
    """The recipe with `auto` replaced: by the precision of the run if it exists, else by the
    device's."""
    begun = begun_recipe(run, AdapterRecipe)
    precision = resolve_precision(
        recipe.run.precision,
        Ranks(rank=0, count=1, device=device),
        None if begun is None else begun.run.precision,
    )
    return replace(recipe, run=replace(recipe.run, precision=precision))


def _open_backbone(path: str) -> Bundle:
    """The bundle of a recipe. Raises BundleError, naming the recipe's field where it is set."""
    if not path:
        return open_bundle(default_bundle())
    try:
        return open_bundle(Path(path))
    except BundleError as error:
        raise BundleError(f"bundle: {error}") from None


class _AdapterRun:
    def __init__(self, recipe: AdapterRecipe, run: Path) -> None:
        self.device = torch.device(
            "cuda" if recipe.run.device != "cpu" and torch.cuda.is_available() else "cpu"
        )
        self.recipe, self.run = _resolved(recipe, run, self.device), run
        # What cannot be used is found before anything is written or computed.
        bundle = _open_backbone(recipe.bundle)
        self.backbone = f"{bundle.manifest.name}/{bundle.manifest.version}"
        graphs = BackboneGraphs(bundle, recipe.run.threads)
        self.codes = bundle.manifest.files[PATCH_GRAPH].sha256
        self.llm_path, self.chat_template = self._find_llm()
        data = TrainingData(self.recipe, run)
        self.own = data.own
        self.progress = open_run(run, self.recipe).progress
        torch.manual_seed(recipe.run.seed)
        self.llm, self.tokenizer = self._load_llm(data)
        if self.device.type == "cpu":
            # On texts as short as these a step with torch's fused kernel takes half as long again.
            self.llm.set_attn_implementation("eager")
        width = self.llm.config.hidden_size
        inputs = RunInputs(
            backbone=self.backbone, codes=self.codes, width=width, texts=data.digest(bundle)
        )
        inputs.keep(run)
        self.cells = self._cells(bundle.manifest.architecture.grid)
        self.projector = Projector(graphs.concepts, width, self.cells)
        self.patches = graphs.patches
        tokens = visual_tokens(graphs.patches, self.cells)
        build = PromptBuilder(self.tokenizer, tokens, recipe.llm.system)
        context = self.llm.config.max_position_embeddings
        if build.visual_tokens >= context:
            raise LLMError(
                f"llm: reads {context} tokens, and an image of this bundle is {build.visual_tokens}"
            )
        data.drop_long(build, context)
        if self.progress.step == 0:
            self._start_projector(data, graphs, build)
        self.samples = data.sampler(graphs, build)
        self.stage_ends = list(accumulate(stage.steps for stage in recipe.stages))
        """For each stage, the number of steps after which it ends, counted from the run's start."""

    def _start_projector(
        self, data: TrainingData, graphs: BackboneGraphs, build: PromptBuilder
    ) -> None:
        captions, table = data.captioned(graphs)
        if table is None:
            return
        texts = data.concepts(graphs)
        initialize_projector(self.projector, self.llm, build.answer_ids, captions, table, texts)
        if self.recipe.words.steps:
            learn_words(
                self.projector,
                self.llm.get_input_embeddings().weight,
                data.word_samples(graphs, build),
                self.recipe.words,
                self.recipe.run.precision,
                learns_table=self.recipe.stages[0].llm == "full",
            )

    def _cells(self, patches: tuple[int, int]) -> Cells | None:
        """Raises AdapterError for a grid that is finer than that of the patches."""
        grid = self.recipe.cells
        if grid is None:
            return None
        cells = Cells(patches=patches, grid=grid)
        if cells.is_finer:
            raise AdapterError(f"cells: {grid}, and {self.backbone} has {patches} patches")
        return cells

    def _find_llm(self) -> tuple[Path | None, str]:
        """The directory of the LLM, where it is not a new one, and the chat template that takes
        the place of its own. Raises LLMError for a model that is not supported."""
        config = self.recipe.llm
        if config.small is not None:
            return None, ""
        template = ""
        if config.chat_template:
            try:
                template = Path(config.chat_template).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                raise LLMError("llm.chat_template: cannot be read") from None
        packaged = PACKAGED_LLMS.get(config.path)
        path = packaged.fetch() if packaged else Path(config.path)
        load_tokenizer(path, template, own=True)
        return path, template

    def _load_llm(self, data: TrainingData) -> tuple[Any, Any]:
        config = self.recipe.llm
        if self.llm_path is None:
            assert config.small is not None
            return new_llm(config.small, data.texts())
        trains_all = any(stage.llm == "full" for stage in self.recipe.stages)
        bf16 = self.recipe.run.precision == "bf16" and not trains_all
        dtype = torch.bfloat16 if bf16 else torch.float32
        return load_llm(self.llm_path, dtype, self.chat_template, own=True)

    def go(self, stop_after: int | None) -> Path:
        total = self.stage_ends[-1]
        last = min(total, stop_after or total)
        with ExitStack() as stack:
            log = RunLog(self.run, steps=total, done=self.progress.step)
            stack.callback(log.close)
            start = 0
            for number, end in enumerate(self.stage_ends):
                # A finished run comes here too, for its last stage: it has no step left to train,
                # but reads the weights from which the adapter is written.
                if self.progress.step < min(end, last) or self.progress.step == end == total:
                    self._stage(number, start, min(end, last), log)
                start = end
        if self.progress.step < total:
            return checkpoint.complete_checkpoints(self.run)[-1]
        return self._finish()

    def _stage(self, number: int, start: int, last: int, log: RunLog) -> None:
        stage, run = self.recipe.stages[number], self.recipe.run
        model = AdapterModel(self.projector, self.llm, stage, self.recipe.llm.lora_rank)
        model.to(self.device).train()
        optimizers = build_optimizers(model, stage)
        if self.progress.step:
            latest = checkpoint.complete_checkpoints(self.run)[-1]
            if self.progress.step > start:
                checkpoint.restore(latest, model, optimizers, {})
            else:  # a new stage continues with the weights, but with optimizers of its own
                model.load_state_dict(load_file(latest / "model.safetensors"))
        seconds_before, began = self.progress.seconds, time.monotonic()
        losses: list[float] = []
        logged = time.monotonic()
        for step in range(self.progress.step, last):
            lr = learning_rate(step - start, stage.steps, stage.optimizer)
            torch.manual_seed(derive_seed(run.seed, step))
            loss = self._gradients(model, self.samples.batch(step, stage.batch_size))
            if not math.isfinite(loss):
                raise TrainingError(f"step {step}: the loss is {loss}")
            norm = nn.utils.clip_grad_norm_(model.parameters(), stage.clip_norm)
            for optimizer in optimizers:
                set_learning_rate(optimizer, lr)
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss)
            self.progress = Progress(
                step=step + 1,
                samples=self.progress.samples + stage.batch_size,
                seconds=seconds_before + time.monotonic() - began,
            )
            log.advance()
            if (step + 1) % run.log_every == 0:
                mean = statistics.fmean(losses)
                rate = len(losses) * stage.batch_size / (time.monotonic() - logged)
                line = {
                    "stage": number + 1,
                    "loss": mean,
                    "lr": lr,
                    "grad_norm": float(norm),
                    "samples_per_second": rate,
                }
                if self.own is not None:
                    line["bad_conversations"] = self.own.tally.bad
                log.write(step + 1, line, {"stage": f"{number + 1}", "loss": f"{mean:.3f}"})
                losses, logged = [], time.monotonic()
            if (step + 1) % run.checkpoint_every == 0 or step + 1 == last:
                checkpoint.save(
                    self.run, model, optimizers, {}, self.recipe.to_dict(), self.progress
                )
        self.llm = model.llm

    def _gradients(self, model: AdapterModel, parts: list[ConversationBatch]) -> float:
        """Adds the gradients of a batch's mean loss per token, and returns that loss."""
        # The parts have different numbers of tokens: each contributes its sum over the tokens of
        # the whole batch, not the mean over its own.
        tokens = sum(part.text.learned for part in parts)
        total = 0.0
        for part in parts:
            with autocast(self.recipe.run.precision, self.device):
                loss = model(part.to(self.device)) / tokens
            if loss.requires_grad:  # not of texts alone, where the LLM does not learn
                loss.backward()
            total += float(loss.detach())
        return total

    def _finish(self) -> Path:
        """Writes the adapter. A packaged LLM that no stage changed is named, not copied."""
        folder = self.run / "adapter"
        config = self.recipe.llm
        changed = any(stage.llm != "frozen" for stage in self.recipe.stages)
        is_packaged = config.path in PACKAGED_LLMS and not (changed or config.chat_template)
        adapter = AdapterConfig(
            concepts=self.projector.concepts,
            patches=self.patches,
            width=self.llm.config.hidden_size,
            cells=self.cells,
            backbone=self.backbone,
            codes=self.codes,
            llm=config.path if is_packaged else LLM_FOLDER,
            system=config.system,
            recipe=self.recipe.name,
            training={
                "samples": float(self.progress.samples),
                "seconds": round(self.progress.seconds, 1),
                "own_share": self.recipe.own_share,
                "text_share": self.recipe.texts.share,
            },
        )
        write_adapter(folder, adapter, self.projector.cpu())
        if not is_packaged:
            llm = self.llm.cpu()
            llm = llm.merge_and_unload() if hasattr(llm, "merge_and_unload") else llm
            llm.half() if config.small is not None else llm.to(torch.bfloat16)
            llm.save_pretrained(folder / LLM_FOLDER)
            self.tokenizer.save_pretrained(folder / LLM_FOLDER, save_jinja_files=False)
        return folder
