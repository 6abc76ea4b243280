"""Made-up pictures: the same by seed, of the size and format asked for, and of two kinds."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gen_eval.bench.pictures import write_folder
from gen_eval.errors import UnknownName, UsageError


def pixels(folder):
    return [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize(("name", "kind"), [("jpg", "JPEG"), ("png", "PNG")])
def test_size_format_and_number(tmp_path, name, kind):
    folder = write_folder(tmp_path / "deep" / "down", 3, 24, name, fake=False)
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            assert (path.suffix, image.format, image.size, image.mode) == (f".{name}", kind, (24, 24), "RGB")
    assert len(list(folder.iterdir())) == 3


def test_the_same_again_and_each_its_own(tmp_path):
    first, again, more, fake = (
        pixels(write_folder(tmp_path / name, n, 16, "png", fake=name == "fake"))
        for name, n in (("first", 3), ("again", 3), ("more", 4), ("fake", 3))
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, more[:3])
    distinct = [image.tobytes() for image in (*more, *fake)]
    assert len(set(distinct)) == 7


def test_what_cannot_be_made(tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'png'"):
        write_folder(tmp_path / "a", 3, 16, "pgn", fake=False)
    with pytest.raises(UsageError, match="0 images of 16 px cannot be made"):
        write_folder(tmp_path / "b", 0, 16, "png", fake=False)
    with pytest.raises(UsageError, match="of 4 px cannot be made: ask for .* 8 px or more"):
        write_folder(tmp_path / "c", 1, 4, "png", fake=False)
    assert not list(tmp_path.iterdir())
