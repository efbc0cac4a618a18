"""vLLM: prompts go in as embeddings, and vLLM does the batching. T tokens, H LLM width.

vLLM is imported here at the top, so that `Plugins.load` can say in one line that it is missing.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import vllm
from jaxtyping import Float
from torch import Tensor
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from mllm_adapter.engines.base import FinishReason, GenerationError, LoadedLLM, Sampling, TokenDelta
from mllm_adapter.model.llm import context_length, end_tokens, load_embeddings, load_tokenizer
from mllm_adapter.model.llm_files import check_weights

FINISH_REASONS: dict[str | None, FinishReason] = {None: "", "stop": "stop", "length": "length"}


class VllmEngine:
    """Generates with vLLM's AsyncLLM.

    The LLM is unmodified: edits are applied before the projector. So vLLM's batching and its
    compiled graphs work as usual, and so does its prefix cache, because the cache keys include the
    embeddings.
    """

    # vLLM's own counts the tokens of the prompt, too. A prompt of embeddings has no ids, and vLLM
    # then reads its buffer of ids where they would be: zeros, or what another conversation left
    # there (0.32: GPUInputBatch.add_request and _make_prompt_token_ids_cpu_tensor; the second
    # runner's PenaltiesState reads zeros). The two other penalties look at the answer alone. A
    # logits processor of ours would have to be written for both runners, and makes every
    # conversation wait for its last token to reach the CPU.
    has_repetition_penalty = False

    def __init__(self, llm: Any, end: Sequence[int]) -> None:
        self._llm, self._end = llm, list(end)
        self._request_numbers = itertools.count()
        self.description = f"vllm {vllm.__version__}"

    @classmethod
    def open(cls, path: Path, max_batch: int, **options: Any) -> LoadedLLM:
        """See GenerationEngine.open. `options` are passed on to vLLM's AsyncEngineArgs."""
        tokenizer, embeddings = load_tokenizer(path), load_embeddings(path)
        check_weights(path)
        arguments = AsyncEngineArgs(
            model=str(path),
            enable_prompt_embeds=True,
            skip_tokenizer_init=True,
            max_num_seqs=max_batch,
            max_model_len=context_length(path),
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
        """See GenerationEngine.generate. Closing AsyncLLM's generator early aborts its request."""
        if sampling.repetition_penalty != 1:
            raise GenerationError("vllm: there is no repetition penalty of embeddings")
        parameters = SamplingParams(
            max_tokens=sampling.max_tokens,
            min_tokens=sampling.min_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed if sampling.temperature > 0 else None,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            stop_token_ids=self._end,
            ignore_eos=True,  # stop_token_ids already hold the end tokens
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        outputs = self._llm.generate(
            {"prompt_embeds": prompt}, parameters, f"chat-{next(self._request_numbers)}"
        )
        try:
            async for output in outputs:
                [completion] = output.outputs
                ids = tuple(token for token in completion.token_ids if token not in self._end)
                if completion.finish_reason not in FINISH_REASONS:
                    raise GenerationError(f"vllm: {completion.finish_reason}")
                yield TokenDelta(ids=ids, finish=FINISH_REASONS[completion.finish_reason])
        except EngineDeadError:
            raise GenerationError("vllm: the engine's process has ended") from None
        finally:
            await outputs.aclose()

    async def close(self) -> None:
        """See GenerationEngine.close."""
        self._llm.shutdown()
        self._llm = None  # AsyncLLM's destructor fails if it first runs at interpreter exit
