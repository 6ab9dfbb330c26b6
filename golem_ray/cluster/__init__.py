"""The Ray engine: the only place that imports Ray. What workers do with a batch is in embedding/ and heads/."""

from golem_ray.cluster.engine import RayEngine, ray_engine

__all__ = ["RayEngine", "ray_engine"]
