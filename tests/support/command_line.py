"""The command line called in this process, on a world's bucket."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from almanac import cli


@dataclass(frozen=True)
class Asking:
    """Runs commands; each gives exit code, output and errors."""

    patch: pytest.MonkeyPatch
    written: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str, actor: str = "ann") -> tuple[int, str, str]:
        self.patch.setenv("ALMANAC_ACTOR", actor)
        self.patch.setattr(sys, "argv", ["almanac", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
            sys.exit(0)
        written = self.written.readouterr()
        return int(ended.value.code or 0), written.out, written.err

    def json(self, *arguments: str) -> Any:
        """What a command that ends well says to scripts."""
        code, output, errors = self(*arguments, "--json")
        assert (code, errors) == (0, "")
        return json.loads(output)
