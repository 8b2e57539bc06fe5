"""The embedded store: every verb on the files of one home folder.

- `opening`: `open_store`; `store`: `EmbeddedStore`, which hands each verb to one of the others.
- `groups`: feature groups made, changed and ended.
- `records`: records written; `prepare`: from records to writes; `reads`: from the online store to
  records.
- `tables`: the offline tables and the flush; `transfer`: rows from store to store.
- `datasets`: datasets built, kept and checked; `resolve`: what they refer to.
- `upkeep`: maintenance, old versions, verification, expiry.
"""

from featurestore.embedded.opening import open_store
from featurestore.embedded.store import EmbeddedStore

__all__ = ["EmbeddedStore", "open_store"]
