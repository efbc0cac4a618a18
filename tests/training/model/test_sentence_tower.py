"""The text tower over a sentence encoder: what transformers gives, computed once."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bundle.text import TextError, clean_text
from tests.support.tiny_encoders import FAMILIES, LIMIT, write_encoder
from tests.training.importing.varied_texts import varied_texts
from training.core.torchvision_compat import transformers
from training.model.sentence_source import fill_encoder, resolved_text
from training.model.sentence_tower import SentenceTower
from training.model.stored_tensors import stored_tensors
from training.model.tokenizer import CaptionTokenizer
from training.model.vector_memo import VectorMemo

TEXTS = ["a red circle", "dog", "the cat sits under a green tree " * 5, "Привет 😀", "zzz"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of an encoder by its family and the options of write_encoder."""
    root = tmp_path_factory.mktemp("encoders")

    def folder(family: str, pooling: str = "mean", normalize: bool = True) -> Path:
        path = root / f"{family}-{pooling}-{normalize}"
        if not path.exists():
            write_encoder(path, family, pooling=pooling, normalize=normalize)
        return path

    return folder


def tower_of(folder: Path, **text: object) -> SentenceTower:
    torch.manual_seed(1)
    resolved = resolved_text({"sentence_encoder": str(folder), "hidden": 16, **text})
    tower = SentenceTower.empty(resolved)
    fill_encoder(tower, resolved)
    return tower


def ids_of(folder: Path, texts: list[str] = TEXTS) -> Tensor:
    return CaptionTokenizer.of_text({"sentence_encoder": str(folder)})(texts).ids


def readable(text: str) -> bool:
    try:
        return bool(clean_text(text, "none"))
    except TextError:
        return False


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_rows_and_masks_are_the_library_s(folders: Any, family: str) -> None:
    tokenizer = CaptionTokenizer.of_text({"sentence_encoder": str(folders(family))})
    texts = [text for text in varied_texts(400) if readable(text)]
    theirs = transformers().AutoTokenizer.from_pretrained(folders(family))(
        texts, padding="max_length", truncation=True, max_length=LIMIT, return_tensors="pt"
    )
    assert len(texts) > 350
    ours = tokenizer(texts)
    assert torch.equal(ours.ids, theirs["input_ids"])
    assert 0 < ours.cut < len(texts)
    masks: list[Tensor] = []
    trunk = tower_of(folders(family)).trunk
    trunk.encoder.register_forward_pre_hook(
        lambda _module, _inputs, named: masks.append(named["attention_mask"]), with_kwargs=True
    )
    trunk(ours.ids)
    assert torch.equal(masks[0], theirs["attention_mask"])
    with pytest.raises(TextError):
        tokenizer([""])


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize(("pooling", "normalize"), [("mean", True), ("cls", False)])
def test_vectors_are_the_library_s(
    folders: Any, family: str, pooling: str, normalize: bool
) -> None:
    folder = folders(family, pooling, normalize)
    tokenizer = transformers().AutoTokenizer.from_pretrained(folder)
    encoder = transformers().AutoModel.from_pretrained(folder).eval()
    tower, rows = tower_of(folder), []
    for text in TEXTS:  # each alone, without padding
        given = tokenizer([text], truncation=True, max_length=LIMIT, return_tensors="pt")
        with torch.no_grad():
            states = encoder(**given).last_hidden_state[0]
        row = states.mean(0) if pooling == "mean" else states[0]
        rows.append(row / row.norm() if normalize else row)
    torch.testing.assert_close(tower.pooled(ids_of(folder)), torch.stack(rows), rtol=0, atol=1e-5)


def test_each_row_is_computed_once(folders: Any) -> None:
    tower, ids = tower_of(folders("bert")), ids_of(folders("bert"))
    read: list[int] = []
    tower.trunk.register_forward_hook(lambda _module, inputs, _out: read.append(len(inputs[0])))
    first = tower.pooled(ids[[0, 1, 0, 2]])
    assert torch.equal(first[0], first[2])
    tower.pooled(ids)
    assert torch.equal(tower.pooled(ids)[:2], first[:2])
    assert read == [3, 2]
    tower.train()
    assert torch.equal(tower.pooled(ids)[:2], first[:2])
    assert not tower.trunk.training
    assert read == [3, 2]


def test_padding_costs_no_time(folders: Any) -> None:
    tower, ids = tower_of(folders("bert")), ids_of(folders("bert"))
    shapes: list[tuple[int, ...]] = []
    tower.trunk.register_forward_hook(lambda _module, inputs, _out: shapes.append(inputs[0].shape))
    together = tower.pooled(ids)
    short = [1, 4]
    alone = tower_of(folders("bert")).trunk(ids[short])
    torch.testing.assert_close(together[short], alone, rtol=0, atol=1e-5)
    tower_again = copy.deepcopy(tower)
    tower_again.pooled(ids[short])
    assert shapes[0] == (len(TEXTS), LIMIT)
    assert shapes[1][0] == 2
    assert shapes[1][1] < LIMIT


def test_vectors_of_evaluation_are_good_for_training(folders: Any) -> None:
    tower, ids = tower_of(folders("bert")), ids_of(folders("bert"))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert tower.pooled(ids).dtype == torch.float32
    tower(ids).square().sum().backward()
    gradients = {name: p.grad is not None for name, p in tower.named_parameters()}
    assert {name.partition(".")[0] for name, has in gradients.items() if has} == {"layers"}


@pytest.mark.parametrize("normalize", [True, False])
def test_noise_turns_vectors_in_training_only(folders: Any, normalize: bool) -> None:
    folder = folders("bert", normalize=normalize)
    tower, ids = tower_of(folder, noise=0.75), ids_of(folder)
    tower.layers = torch.nn.Identity()
    exact = tower.eval()(ids)
    assert torch.equal(exact, tower.pooled(ids))
    turned = torch.stack([tower.train()(ids) for _ in range(200)])
    assert not torch.equal(turned[0], turned[1])
    torch.testing.assert_close(turned.norm(dim=-1), exact.norm(dim=-1).expand(200, -1))
    cosine = torch.cosine_similarity(turned, exact, dim=-1).mean()
    assert cosine == pytest.approx((1 + 0.75**2) ** -0.5, abs=0.03)


def test_changed_weights_give_new_vectors(folders: Any) -> None:
    tower, ids = tower_of(folders("bert")), ids_of(folders("bert"))
    before = tower.pooled(ids)
    changed = copy.deepcopy(tower)
    with torch.no_grad():
        for weight in stored_tensors(changed.trunk).values():
            weight.mul_(1.5)
    assert not torch.allclose(changed.pooled(ids), before, atol=1e-2)
    assert torch.equal(tower.pooled(ids), before)
    with torch.no_grad():
        next(tower.trunk.parameters()).mul_(1.5)
    assert not torch.allclose(tower.pooled(ids), before, atol=1e-3)


def test_the_oldest_vectors_go() -> None:
    module = torch.nn.Embedding(50, 4)
    memo = VectorMemo(pad_id=-1, kept_bytes=10 * 16)
    rows = torch.arange(50)[:, None]

    class First(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = module

        def forward(self, tokens: Tensor) -> Tensor:
            table: Tensor = self.table(tokens[:, 0])
            return table

    first = First()
    assert torch.equal(memo(first, rows), module(rows[:, 0]))
    assert len(memo) == 10
    assert torch.equal(memo(first, rows[:45]), module(rows[:45, 0]))


def test_a_frozen_encoder_is_no_part_of_the_state(folders: Any) -> None:
    tower = tower_of(folders("bert"))
    state = tower.state_dict()
    assert {name.partition(".")[0] for name in state} == {"layers"}
    assert any(name.startswith("trunk.") for name in stored_tensors(tower))
    weights = {name: value.clone() for name, value in tower.trunk.state_dict().items()}
    tower.load_state_dict({name: value + 1 for name, value in state.items()})
    torch.testing.assert_close(tower.trunk.state_dict(), weights)
    with pytest.raises(RuntimeError, match=r"layers\.0\.weight"):
        tower.load_state_dict({})
    trained = tower_of(folders("bert"), frozen=False)
    assert trained.state_dict().keys() == stored_tensors(trained).keys()
    assert trained.train().trunk.training
