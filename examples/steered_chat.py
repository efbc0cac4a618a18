"""Ask a language model about an image, then edit what it sees and ask again.

    make serve                                                  # in another terminal
    python examples/steered_chat.py docs/images/cat.png --suppress cat --set dog

An edit changes the image's concepts before the language model reads them. The question, the image
and the model stay the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sparseclip import ChatStart, Client, Edit, Steering


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--suppress", default="cat", help="a word that the model must not see")
    parser.add_argument("--set", default="dog", help="a word that it sees instead")
    parser.add_argument("--question", default="What is this?")
    parser.add_argument("--server", default="localhost:50051")
    options = parser.parse_args()

    # A word becomes several concepts, the ones that it brings up in the text tower. Without a
    # value, SET gives them the strength that the adapter was tuned for.
    steering = Steering(
        edits=[
            Edit(phrase=options.suppress, op="ABLATE"),
            Edit(phrase=options.set, op="SET"),
        ]
    )
    with Client(options.server) as client:
        print(f"as it is: {ask(client, options.question, options.image, None)}")
        print(f"steered:  {ask(client, options.question, options.image, steering)}")


def ask(client: Client, question: str, image: Path, steering: Steering | None) -> str:
    """Returns the answer, and prints the concepts that were changed most for it."""
    answer = ""
    for event in client.chat(question, [image], steering=steering):
        if isinstance(event, ChatStart):
            for concept in event.images[0].edited[:5]:
                print(f"  {concept.name}: {concept.before:.2f} -> {concept.after:.2f}")
        answer += event.text
    return answer


if __name__ == "__main__":
    main()
