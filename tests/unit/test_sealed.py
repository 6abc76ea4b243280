"""Sealed files: what is read is one file, though another may take its place at any moment."""

from __future__ import annotations

import torch

from gen_eval import sealed


def contents(number: int) -> dict[str, torch.Tensor]:
    return {name: torch.full((50,), float(number)) for name in ("a", "b")}


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    sealed.write(path, "form", {"number": 1}, contents(1), "a state")
    opened = []

    def replaced(*args):
        """Open the old file, as the writer of the new one does its work."""
        opened.append(args)
        file = safe_open(*args)
        if len(opened) == 1:
            sealed.write(path, "form", {"number": 2}, contents(2), "a state")
        return file

    safe_open = sealed.safe_open
    monkeypatch.setattr(sealed, "safe_open", replaced)
    terms, tensors = sealed.read(path, "form", "a state")
    assert len(opened) == 2
    assert terms == {"number": 2}
    assert torch.equal(tensors["a"], contents(2)["a"])
    assert not list(tmp_path.glob("*.part"))
