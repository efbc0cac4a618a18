"""A new small Llama, with a tokenizer that is learned from the texts that it will read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from training.core.torchvision_compat import transformers

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, the format of SmolLM2 and Qwen."""

WORDS_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}"
    "{{ ' ' if message['role'] == 'assistant' else '\n' }}{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)
"""The same with a space before an answer, so that its first word is the token that it is within a
sentence."""

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

ROLES = ("user", "assistant")
ROLE_WEIGHT = 1000
"""How often a tokenizer counts the name of a role: every turn has one, so that it is worth a token.
"""


@dataclass(frozen=True, kw_only=True)
class SmallLLM:
    """The shape of a new Llama, whose tokenizer is learned from the texts that it will read."""

    vocabulary: int = 4096
    width: int = 256
    layers: int = 6
    heads: int = 4
    key_value_heads: int = 2
    inner: int = 704
    """The width of the feed-forward layers."""
    context: int = 512
    """The longest prompt and answer together, in tokens."""
    whole_words: bool = False
    """Make every word of the texts a token, beside the `vocabulary`. A word that is learned from
    few texts is then said or not, but never misspelt."""


def new_llm(config: SmallLLM, texts: Iterable[str]) -> tuple[Any, Any]:
    """Makes a model with random weights, and a byte-level BPE tokenizer learned from `texts`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    library = transformers()
    texts = [*texts]  # they are read twice
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([*texts, *ROLES * ROLE_WEIGHT], trainer)
    if config.whole_words:
        backend = _with_whole_words(backend, texts)
    tokenizer = library.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=config.context,
    )
    tokenizer.chat_template = WORDS_TEMPLATE if config.whole_words else CHAT_TEMPLATE
    model = library.LlamaForCausalLM(
        library.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.key_value_heads,
            intermediate_size=config.inner,
            max_position_embeddings=config.context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    return model, tokenizer


def _with_whole_words(bpe: Any, texts: Iterable[str]) -> Any:
    """A byte-level BPE that has each word of `texts` after a space as one token."""
    from tokenizers import AddedToken, Tokenizer, decoders, models

    spec = json.loads(bpe.to_str())["model"]
    vocabulary: dict[str, int] = spec["vocab"]
    for text in texts:
        for piece, _ in bpe.pre_tokenizer.pre_tokenize_str(f" {text}"):
            vocabulary.setdefault(piece, len(vocabulary))
    merges = [tuple(pair) for pair in spec["merges"]]
    # A word that is in the vocabulary is looked up; merges make the others.
    whole = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    whole.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL_TOKENS])
    whole.pre_tokenizer = bpe.pre_tokenizer
    # The space before an answer is no part of it.
    whole.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    return whole
