"""`python -m almanac`: the same as `almanac`."""

from almanac.cli import main

main()
