"""`python -m igpt`, the same as `igpt`."""

from igpt.cli import main

main()
