"""`python -m cluster` is `melray`, also where only the code is present, such as in the folder of a job."""

from __future__ import annotations

from cluster.cli import main

if __name__ == "__main__":
    main()
