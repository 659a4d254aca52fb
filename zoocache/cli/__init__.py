"""The command `zoocache`: see a segment, ask it, tell it.

Needs the extra `cli`, and nothing of it is imported before that is known to be there.
"""

from __future__ import annotations

import sys

EXTRA = ("click", "rich", "psutil")
MISSING = 'The command zoocache needs {name}: pip install "zoocache[cli]"'


def main() -> None:
    """Runs the command with the arguments of this process."""
    try:
        from zoocache.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        print(MISSING.format(name=error.name), file=sys.stderr)
        sys.exit(2)
    sys.exit(run())
