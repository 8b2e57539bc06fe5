"""The embedded store: every verb on the files of one home folder.

- `store`: `EmbeddedStore` and `open_store`, the verbs.
- `groups`: feature groups made, changed and ended.
- `prepare`: from records to writes; `reads`: from the online store to records.
- `tables`: the offline tables and the flush; `resolve`: what datasets refer to.
- `upkeep`: maintenance, old versions, verification, expiry.
"""

from featurestore.embedded.store import EmbeddedStore, open_store

__all__ = ["EmbeddedStore", "open_store"]
