"""A classifier of your own clips, a folder with a subfolder for each label, and what it takes another clip for.

python examples/own_folder.py recordings clip.wav [--encoder facebook/hubert-large-ls960-ft]
"""

import argparse
from pathlib import Path

import golem_ray
from golem_ray.errors import UserError


def main() -> None:
    """Train, say how good that is, keep it, and use it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("clip")
    parser.add_argument("--encoder", default="sample", help="of the Hub, a folder, or the small bundled one")
    arguments = parser.parse_args()

    clips = sorted(path for path in arguments.folder.glob("*/*") if path.is_file())
    labels = [clip.parent.name for clip in clips]
    try:
        classifier = golem_ray.train(clips=clips, labels=labels, encoder=arguments.encoder)
    except UserError as error:  # a clip that cannot be used, say
        raise SystemExit(f"error: {error}") from None
    print(classifier.summary)
    print("saved to", classifier.save("own_folder.pth"), "with report.html beside it")

    found = classifier.predict(arguments.clip)
    for label, probability in list(found.probabilities.items())[:3]:
        print(f"{probability:6.1%}  {label}")


if __name__ == "__main__":
    main()
