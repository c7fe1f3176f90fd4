"""Keep libmpg123's messages, which it writes directly to file descriptor 2, out of the user's terminal."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager

from pipeline.io.standard_error import hide_lines

# "[src/libmpg123/layer3.c:do_layer3():1774] error: …", "Warning: Xing stream size off by more than 1% …"
_MESSAGE = re.compile(rb"\[[^\]\n]*libmpg123|(Warning|Note|NOTE|Info): |\n")


def hide_mpg123_messages() -> AbstractContextManager[None]:
    """Return the context in which a file is decoded without libmpg123's messages."""
    return hide_lines(_MESSAGE)
