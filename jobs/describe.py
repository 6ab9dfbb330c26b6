"""Say what a dataset holds: python jobs/describe.py SOURCE [--group.key value ...]"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout runs without being installed

from golem_ray.cli import main

if __name__ == "__main__":
    sys.exit(main("describe", sys.argv[1:]))
