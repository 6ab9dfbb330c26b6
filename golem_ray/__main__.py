"""`python -m golem_ray COMMAND ...`: the same as `golem-ray COMMAND ...`."""

import sys

from golem_ray.cli import golem_ray

if __name__ == "__main__":
    sys.exit(golem_ray())
