"""Check a lineage proof offline: python -I check_lineage_proof.py PROOF [ROOT or CHECKPOINT]."""

import base64
import datetime
import json
import pathlib
import struct
import sys
from hashlib import sha256


def beside(place, start, end):
    """Say of each subtree beside the way from the root down to a leaf whether it is left of it."""
    while end - start > 1:
        middle = start + (1 << ((end - start - 1).bit_length() - 1))
        yield place >= middle
        start, end = (middle, end) if place >= middle else (start, middle)


def main(proof_file, kept=None):
    """Check a proof, against a root that was kept elsewhere if there is one; say what it says."""
    proof = json.loads(pathlib.Path(proof_file).read_text("utf-8"))
    event, size, root = proof["event"], proof["checkpoint"]["sequence"], proof["checkpoint"]["root"]
    if kept and pathlib.Path(kept).exists():
        kept = json.loads(pathlib.Path(kept).read_text("utf-8"))["root"]
    body = base64.b64decode(event["body"], validate=True)
    texts = [event[name].encode() for name in ("actor", "kind", "event_uid")]
    numbers = (event["sequence"], event["time_us"], *map(len, texts))
    header = struct.pack(">32sqqIII", bytes.fromhex(event["previous"]), *numbers)
    known = {entity["uid"]: entity for entity in json.loads(body)["entities"]}
    about = known[proof["entity"]] if proof["entity"] else {}
    leaf = sha256(b"".join((header, *texts, body))).digest()  # the event's hash in the log
    reached = sha256(b"\0" + leaf).digest()
    sides = list(beside(event["sequence"] - 1, 0, size))[::-1]
    for is_left, part in zip(sides, map(bytes.fromhex, proof["path"]), strict=True):
        reached = sha256(b"\1" + (part + reached if is_left else reached + part)).digest()
    if reached.hex() != root or kept not in (None, root):
        sys.exit(f"FALSE: the event belongs to {reached.hex()}, and not to {kept or root}")
    time = datetime.datetime.fromtimestamp(event["time_us"] / 1e6, datetime.UTC).isoformat()
    print(proof["entity"] or ", ".join(known), json.dumps(about))
    print(f"recorded {time} by {event['actor']}: {event['kind']}, event {event['sequence']}")
    print(f"belongs to the root {root}" + ("" if kept else ", which the proof itself names"))


try:
    main(*sys.argv[1:3])
except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
    sys.exit(f"FALSE: no proof to check ({error!r}). {__doc__}")
