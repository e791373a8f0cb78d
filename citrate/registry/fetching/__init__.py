"""Fetch blocks and artifacts from sources that are not trusted, into the store, verified on arrival.

What is expected comes from a manifest: every file's path, size, SHA-256 and CID. From these the directory's whole tree
follows (``dag``), so of a directory nothing is fetched but its files, and of a file first its inner nodes, which name
the hash of every leaf. Then the leaves may come from anywhere, in any order: each is compared as it arrives and written
where it belongs (``assembly``), and the SHA-256 of the whole is compared at the end.

What the store has already is copied (``present``); the rest is given out in spans (``spans``) to connections to all
sources (``lanes``). Bytes go to ``partial/CID`` in the store. What stands there after an interruption, even
``kill -9``, is trusted for nothing: it is hashed again, and every leaf that is right is kept, wherever it stands
(``partial``).
"""

from citrate.registry.fetching.artifact import Fetched, fetch_artifact
from citrate.registry.fetching.blocks import fetch_block, find_block, read_folder
from citrate.registry.fetching.consistency import check_consistent
from citrate.registry.fetching.outside import fetch_files

__all__ = ["Fetched", "check_consistent", "fetch_artifact", "fetch_block", "fetch_files", "find_block", "read_folder"]
