"""The one place that knows Ray: joining a cluster, embedding clips in a pool of actors, training in a task.

What the workers do with a batch is in stages.py. The driver itself never imports PyTorch.
"""

from golem_ray.cluster.connection import joined
from golem_ray.cluster.embedding import embed, hash_clips
from golem_ray.cluster.tasks import put, side_by_side, train

__all__ = ["embed", "hash_clips", "joined", "put", "side_by_side", "train"]
