"""The README's Python runs as it stands there, block after block."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gen_eval.errors import FetchError
from gen_eval.extractors.inception_weights import WEIGHTS
from gen_eval.fetch import fetch

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.network
def test_the_python_blocks_run(capsys):
    try:
        fetch(WEIGHTS)
    except FetchError as error:
        pytest.skip(str(error))
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 6
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    assert "tf1-bilinear to 299 24" in capsys.readouterr().out
    assert [result.measure for result in names["results"]] == ["fid", "kid", "pr"]
    assert all(result.sets["generated"].n == 24 for result in names["results"])
