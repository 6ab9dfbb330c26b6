"""The many small files of a run's own embeddings, joined into few: a block each is 800,000 files for 10^8 examples.

A joined file is written whole before the files that are in it are removed. If the process ends in between, vectors are
there twice, and each is found once. Only files with the run's mark are touched: a cache that others share has none.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pyarrow as pa

from golem_ray import storage
from golem_ray.embedding.cache import EmbeddingCache
from golem_ray.errors import StorageError

log = logging.getLogger(__name__)

FILE_BYTES = 16 << 20
"""Size of a joined file, of which a reader holds sixteen at a time."""

FEWEST = 32
"""Files fewer than these are left as they are."""

_JOINED = "joined-"


def join_files(cache: EmbeddingCache) -> None:
    """Join the cache's own small files. What fails is a warning: the small ones do as well."""
    small = sorted(set(cache.own_files()) - set(cache.own_files(_JOINED))) if cache.mark else []
    if len(small) < FEWEST:
        return
    log.info("joining %d files of embeddings in %s into larger ones", len(small), cache.folder)
    parts: dict[str, pa.Table] = {}
    size = 0
    try:
        for file, table in cache.tables(small):
            if table.nbytes >= FILE_BYTES // 2:
                continue
            parts[file], size = table, size + table.nbytes
            if size >= FILE_BYTES:
                _join(cache, parts)
                parts, size = {}, 0
        _join(cache, parts)
    except (OSError, ValueError, MemoryError) as error:  # a StorageError is an OSError, Arrow's are either
        log.warning("the files of embeddings in %s could not all be joined (%s): they stay small", cache.folder, error)


def _join(cache: EmbeddingCache, parts: dict[str, pa.Table]) -> None:
    """Put the tables into one file, then remove theirs."""
    if len(parts) < 2:
        return
    joined = pa.concat_tables(parts.values())
    cache.write(joined.drop_columns(["remark"]), joined["remark"].to_pylist(), _JOINED)

    def remove(file: str) -> None:
        with suppress(StorageError):  # it is there twice then
            storage.remove(file)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(remove, parts))
