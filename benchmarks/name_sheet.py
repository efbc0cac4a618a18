"""A sheet of pictures of a held-out style with the names of their strongest concepts, for judging.

Each picture has the names of its five strongest concepts, as `embed` lists them, and two names of
other pictures' concepts as controls. They stand in random order, so that a judge cannot tell them
apart. A judge writes a file of answers (benchmarks/name_judgements.py has its form and the rule).
Beside the judge's shares stand automatic ones: a name that shares a word with the picture's caption
or keywords, or whose sentence embedding is near the caption's. How near is set on another split,
where 5% of the names of other pictures' concepts are as near.

    python -m benchmarks.name_sheet draw    # docs/assets/names_*.png, results/name_sheet.json
    python -m benchmarks.name_sheet list    # the names as text
    python -m benchmarks.name_sheet judge answers.txt --judge WHO  # results/name_judgements.csv
    python -m benchmarks.name_sheet score   # results/name_shares.json, also without judgements
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.arguments import at_least
from benchmarks.figures import RESULTS
from benchmarks.name_judgements import (
    JudgedPicture,
    ListedName,
    NameSheet,
    read_answers,
    read_verdicts,
    shares,
    write_verdicts,
)
from bundle.concepts import ConceptVocabulary
from bundle.ground import lay_on_ground
from bundle.store import default_bundle
from training.evaluation.clarity import Judge, named_judge
from training.evaluation.encoder import BundleEncoder, CodeMatrix, encode_all
from training.evaluation.minilm import HOW_TO_GET, fetched_encoder
from training.evaluation.name_trials import words_of
from training.loading.pair_data import PairData
from training.loading.samples import LabelledImage, read_samples

SHEET, VERDICTS = RESULTS / "name_sheet.json", RESULTS / "name_judgements.csv"
ASSETS = Path(__file__).parents[1] / "docs" / "assets"
"""Not docs/images, which examples read as a collection."""
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
"""Has letters with accents, unlike the default font of Pillow."""
SHOWN, CONTROLS = 5, 2
RANDOM_NEAR = 0.05
COLUMNS, ROWS = 5, 10
CELL, PICTURE, LINE = (280, 122), 84, 16
WHITE, BLACK, GREY = (255, 255, 255), (0, 0, 0), (120, 120, 120)


def main() -> None:
    """Draws a sheet, lists its names, takes a judge's answers, or computes the shares."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parts = parser.add_subparsers(dest="part", required=True)
    drawing = parts.add_parser("draw", help="draw the sheet")
    drawing.add_argument("--bundle", type=Path, help="default: the demo bundle")
    drawing.add_argument("--data", type=Path, default=Path("data/build/demo-research"))
    drawing.add_argument("--split", default="test_style")
    drawing.add_argument("--validation", default="val_style")
    drawing.add_argument("--pictures", type=at_least(2), default=100)
    drawing.add_argument("--seed", type=at_least(0), default=0)
    parts.add_parser("list", help="the names as text")
    judging = parts.add_parser("judge", help="take a file of answers")
    judging.add_argument("answers", type=Path)
    judging.add_argument("--judge", required=True, help="who judged")
    parts.add_parser("score", help="the shares accepted")
    given = parser.parse_args()
    if given.part == "draw":
        draw(given)
        return
    sheet = NameSheet.read(SHEET)
    if given.part == "list":
        print("\n".join(sheet.lines()))
    elif given.part == "judge":
        answers = given.answers.read_text(encoding="utf-8")
        write_verdicts(VERDICTS, read_answers(sheet, answers), given.judge)
    else:
        verdicts = read_verdicts(sheet, VERDICTS) if VERDICTS.is_file() else None
        text = json.dumps(shares(sheet, verdicts), indent=1)
        print(text)
        (RESULTS / "name_shares.json").write_text(text + "\n")


def draw(given: argparse.Namespace) -> None:
    """Writes the sheet's names and its pages. Judgements of an older sheet are deleted."""
    encoder = BundleEncoder(given.bundle or default_bundle())
    judge = named_judge(fetched_encoder(), encoder.text_encoder)
    if judge is None:
        raise SystemExit(HOW_TO_GET)
    samples = read_samples(PairData(given.data), [given.split, given.validation])
    chosen = one_of_each_caption(samples[given.split], given.pictures, given.seed)
    validation = judged(encoder, judge, samples[given.validation], given.seed)
    random_names = [e.cosine for p in validation for e in p.names if not e.rank]
    sheet = NameSheet(
        model=encoder.name,
        split=given.split,
        seed=given.seed,
        shown=SHOWN,
        encoder=judge.name,
        threshold=round(float(np.quantile(random_names, 1 - RANDOM_NEAR)), 3),
        pictures=tuple(judged(encoder, judge, chosen, given.seed)),
    )
    sheet.write(SHEET)
    VERDICTS.unlink(missing_ok=True)
    per_page = COLUMNS * ROWS
    for start in range(0, len(chosen), per_page):
        part = slice(start, start + per_page)
        path = ASSETS / f"names_{start // per_page + 1}.png"
        page(chosen[part], sheet.pictures[part]).save(path, optimize=True)


def one_of_each_caption(
    samples: Sequence[LabelledImage], count: int, seed: int
) -> list[LabelledImage]:
    """A random sample of the images, no two of one caption."""
    order = random.Random(seed).sample(sorted(samples, key=lambda s: s.key), len(samples))
    of_caption: dict[str, LabelledImage] = {}
    for sample in order:
        of_caption.setdefault(str(sample.meta["caption"]).casefold(), sample)
    return list(of_caption.values())[:count]


def judged(
    encoder: BundleEncoder, judge: Judge, samples: Sequence[LabelledImage], seed: int
) -> list[JudgedPicture]:
    """Pictures with their names, own ones and controls."""
    images = (sample.decoded(encoder.preprocess.reduction) for sample in samples)
    codes = encode_all(encoder.images, images, len(samples), "images")
    lists = listed(codes, encoder.bundle.concepts, random.Random(seed))
    captions = [str(sample.meta["caption"]) for sample in samples]
    names = sorted({name for entries in lists for _, name, _ in entries})
    row = {name: i for i, name in enumerate(names)}
    of_names, of_captions = judge(names), judge(captions)
    return [
        JudgedPicture(
            picture=number + 1,
            key=sample.key,
            caption=captions[number],
            words=tuple(sorted(words_of(sample.meta))),
            names=tuple(
                ListedName(
                    concept=concept,
                    name=name,
                    cosine=round(float(of_names[row[name]] @ of_captions[number]), 4),
                    rank=rank,
                )
                for concept, name, rank in lists[number]
            ),
        )
        for number, sample in enumerate(samples)
    ]


def listed(
    codes: CodeMatrix, vocabulary: ConceptVocabulary, draws: random.Random
) -> list[list[tuple[int, str, int]]]:
    """For each row of codes (N, C) the named ones of its strongest concepts with their ranks, and
    CONTROLS of other rows' with rank 0, in random order: (concept, name, rank)."""
    order = np.argsort(-codes, axis=1, kind="stable")[:, :SHOWN].tolist()
    own = [
        {k: rank for rank, k in enumerate(ids, 1) if row[k] > 0 and vocabulary[k].is_named}
        for ids, row in zip(order, codes, strict=True)
    ]
    pool = [k for ranks in own for k in ranks]
    result = []
    for ids, ranks in zip(order, own, strict=True):
        others = sorted(set(pool) - set(ids))
        controls = draws.sample(others, min(CONTROLS, len(others)))
        entries = [*ranks.items(), *((k, 0) for k in controls)]
        draws.shuffle(entries)
        result.append([(k, vocabulary[k].name, rank) for k, rank in entries])
    return result


def page(samples: Sequence[LabelledImage], pictures: Sequence[JudgedPicture]) -> Image.Image:
    """Pictures with their numbers and numbered names, in COLUMNS columns."""
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL[0], rows * CELL[1]), WHITE)
    drawing, font = ImageDraw.Draw(sheet), ImageFont.truetype(FONT, 12)
    for i, (sample, picture) in enumerate(zip(samples, pictures, strict=True)):
        left, top = i % COLUMNS * CELL[0], i // COLUMNS * CELL[1]
        image = lay_on_ground(sample.image(), WHITE)[0]
        image.thumbnail((PICTURE, PICTURE), Image.Resampling.LANCZOS)
        sheet.paste(image, (left + 4, top + 20))
        drawing.text((left + 4, top + 2), f"{picture.picture}", GREY, font)
        width = CELL[0] - PICTURE - 14
        for line, entry in enumerate(picture.names):
            text = f"{line + 1} {entry.name}"
            while drawing.textlength(text, font) > width:
                text = f"{text[:-2]}…"
            drawing.text((left + PICTURE + 10, top + 3 + line * LINE), text, BLACK, font)
    return sheet.quantize(192, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


if __name__ == "__main__":
    main()
