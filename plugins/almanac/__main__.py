"""`almanac`, and `python -m almanac`."""

import gc

from almanac.settings import GARBAGE


def main() -> None:
    """The command line."""
    gc.set_threshold(GARBAGE)  # before what it is made of is imported
    from almanac import cli

    cli.main()


if __name__ == "__main__":
    main()
