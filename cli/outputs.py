"""Files that verbs write: refused before the work where that can be seen, and in a line of their own after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gen_eval.errors import UsageError


def require_file(out: Path, formats: Sequence[str] = ()) -> None:
    """Refuse a path that cannot be written to, before the work is done.

    Args:
        out: the file.
        formats: the extensions that it may have; by default any.

    Raises:
        UsageError: if its extension names no format, it is a folder, or its folder does not exist.
    """
    if formats and out.suffix.lower() not in formats:
        found = f"'{out.suffix}'" if out.suffix else "no extension"
        raise UsageError(
            f"cannot write {out}: expected a name that ends in {', '.join(formats)}, found {found}"
        )
    if not out.parent.is_dir():
        raise UsageError(f"cannot write {out}: there is no folder {out.parent}")
    if out.is_dir():
        raise UsageError(f"cannot write {out}: it is a folder")


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """What the file system refuses meanwhile, as an error of ours.

    Raises:
        UsageError: names the file or folder, and why it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}") from error
