"""Share an artifact through the Hugging Face Hub: python jobs/push.py ARTIFACT USER/REPO [--private] [--report]"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout runs without being installed

from golem_ray.cli import main

if __name__ == "__main__":
    sys.exit(main("push", sys.argv[1:]))
