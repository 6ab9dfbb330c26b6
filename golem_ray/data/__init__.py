"""Sources: a Hub dataset, a local folder, a manifest, or either of them at a URI -> labelled examples in order."""

from golem_ray.data.encode import encode_labels
from golem_ray.data.files import open_paths
from golem_ray.data.shards import with_contents
from golem_ray.data.sources import open_source
from golem_ray.data.table import Content, Source, columns_of, example_name, read_content

__all__ = [
    "Content",
    "Source",
    "columns_of",
    "encode_labels",
    "example_name",
    "open_paths",
    "open_source",
    "read_content",
    "with_contents",
]
