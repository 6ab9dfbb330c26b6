"""The training job from Python, on the Ray that this is submitted to, else on one of its own.

python examples/on_a_cluster.py
ray job submit --working-dir . --runtime-env runtime_env.yaml -- python examples/on_a_cluster.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout runs without being installed

import golem_ray


def main() -> None:
    """Train on the bundled digits; the name of any folder, URI or Hub dataset does as well."""
    result = golem_ray.train(
        {
            "dataset": {"name": "sample-digits"},
            "model": {"feature_extractor_model": "sample"},
            "evaluation": {"split": "test"},
            "paths": {"save_path": "digits.pth", "run_dir": "runs/digits"},  # a lost run goes on from there
            "cluster": {"workers": "auto"},  # one for each GPU, or what the cores carry
        }
    )
    print(result["summary"])
    print("saved to", result["savedArtifactPath"])


if __name__ == "__main__":
    main()
