"""A process that migrates a home in a child, made anew at every line on its standard input.

Forking from a process that has imported everything makes a life of a few milliseconds possible. A
line is the URL to migrate to. Answers with the child's process id, then with its end: `done`,
`killed`, or the error's text.

Argument: the home.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from featurestore.errors import FeatureStoreError
from featurestore.migrate import migrate


def main() -> None:
    home = Path(sys.argv[1])
    for line in sys.stdin:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                migrate(home, line.strip())
            except FeatureStoreError as error:
                os.write(writer, str(error).encode())
                os._exit(1)
            os._exit(0)
        os.close(writer)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reader) as said:
            text = said.read().replace("\n", " ")
        print(text or ("done" if status == 0 else "killed"), flush=True)


if __name__ == "__main__":
    main()
