"""vLLM: prompts as embeddings into its own batching. T tokens, H LLM width."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mllm_adapter.engines.base import FinishReason, GenerationError, LoadedLLM, Sampling, TokenDelta
from mllm_adapter.model.llm import end_tokens, load_embeddings, load_tokenizer

FINISH_REASONS: dict[str | None, FinishReason] = {None: "", "stop": "stop", "length": "length"}


class VllmEngine:
    """Generates with vLLM's AsyncLLM.

    The LLM is stock: edits end in front of the projector, so that vLLM's batching, its graphs and
    its prefix cache, whose keys contain the embeddings, stay as they are.
    """

    def __init__(self, llm: Any, end: Sequence[int]) -> None:
        import vllm

        self._llm, self._end = llm, list(end)
        self._numbers = itertools.count()
        self.description = f"vllm {vllm.__version__}"

    @classmethod
    def open(cls, path: Path, max_batch: int, **options: Any) -> LoadedLLM:
        """See GenerationEngine.open; `options` go to vLLM's AsyncEngineArgs."""
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        tokenizer, embeddings = load_tokenizer(path), load_embeddings(path)
        arguments = AsyncEngineArgs(
            model=str(path),
            enable_prompt_embeds=True,
            skip_tokenizer_init=True,
            max_num_seqs=max_batch,
            **options,
        )
        engine = cls(AsyncLLM.from_engine_args(arguments), end_tokens(path, tokenizer))
        return LoadedLLM(engine, tokenizer, embeddings)

    @property
    def ended(self) -> bool:
        """See GenerationEngine.ended."""
        return self._llm is None or bool(self._llm.errored)

    async def generate(
        self, prompt: Float[Tensor, "T H"], sampling: Sampling
    ) -> AsyncGenerator[TokenDelta]:
        """See GenerationEngine.generate. AsyncLLM's own generator aborts what is closed early."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        parameters = SamplingParams(
            max_tokens=sampling.max_tokens,
            min_tokens=sampling.min_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed if sampling.temperature > 0 else None,
            stop_token_ids=self._end,
            ignore_eos=True,  # those among stop_token_ids end it
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        answers = self._llm.generate(
            {"prompt_embeds": prompt}, parameters, f"chat-{next(self._numbers)}"
        )
        try:
            async for answer in answers:
                [part] = answer.outputs
                ids = tuple(i for i in part.token_ids if i not in self._end)
                if part.finish_reason not in FINISH_REASONS:
                    raise GenerationError(f"vllm: {part.finish_reason}")
                yield TokenDelta(ids=ids, finish=FINISH_REASONS[part.finish_reason])
        except EngineDeadError:
            raise GenerationError("vllm: the engine's process has ended") from None
        finally:
            await answers.aclose()

    async def close(self) -> None:
        """See GenerationEngine.close."""
        self._llm.shutdown()
        self._llm = None  # its own destructor wants modules that are gone at the process's end
