"""`python -m workers.cli` is `wheelfarm`."""

from workers.cli import main

main()
