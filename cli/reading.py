"""Results from the files that ``geneval evaluate --json`` wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gen_eval.results import Result


def read(name: str) -> list[Result]:
    """The results in a file; ``-`` stands for standard input.

    Raises:
        click.UsageError: if there is no such file.
        StoreError: if it holds no results.
    """
    from gen_eval.errors import StoreError
    from gen_eval.results import read_results

    try:
        with click.open_file(name, encoding="utf-8") as file:
            return read_results(file, "standard input" if name == "-" else name)
    except OSError as error:
        raise click.UsageError(f"cannot read {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StoreError(f"{name} is no text: expected what `geneval evaluate --json` prints") from error
