"""``python -m sqlkmeans``."""

from sqlkmeans.cli import main

main()
