"""What TensorBoard and Weights & Biases hold after results were logged, read back from their files."""

from __future__ import annotations

import numpy as np
import pytest

from gen_eval.evaluation import evaluate
from gen_eval.integrations.loggers import log_to_tensorboard, log_to_wandb, scalars, tensorboard_layout

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def results():
    rng = np.random.default_rng(0)
    real, fake = (rng.integers(0, top, (60, 8, 8, 3), dtype=np.uint8) for top in (256, 230))
    return evaluate(["frechet:pixels", "pr:pixels"], generated=fake, reference=real)


def test_scalars_are_the_values_that_models_are_judged_by_and_their_errors(results):
    frechet, manifold = results
    assert scalars(results, "val/") == {
        "val/frechet:pixels": frechet.value,
        "val/frechet:pixels/error": frechet.error,
        "val/precision:pixels": manifold.values["precision"],
        "val/precision:pixels/error": manifold.errors["precision"],
        "val/recall:pixels": manifold.values["recall"],
        "val/recall:pixels/error": manifold.errors["recall"],
    }


def test_no_value_is_lost_where_two_measures_have_one_of_the_same_name():
    rng = np.random.default_rng(0)
    real, fake = (rng.integers(0, top, (60, 2, 2, 3), dtype=np.uint8) for top in (230, 256))
    manifold, both = evaluate(
        ["pr:pixels", "prdc:pixels"], generated=fake, reference=real, params={"prdc.k": 1}
    )
    found = scalars([manifold, both], "val/")
    assert found["val/precision of pr:pixels"] == manifold.values["precision"]
    assert found["val/precision of prdc:pixels"] == both.values["precision"]
    assert found["val/precision of pr:pixels"] != found["val/precision of prdc:pixels"]
    assert len(found) == 2 * (len(manifold.better) + len(both.better))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of protobuf
def test_tensorboard(results, tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_custom_scalars(tensorboard_layout(results))
        for step in (1, 5):
            log_to_tensorboard(writer, results, step)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    written = {
        tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }
    expected = scalars(results)
    for name, value in expected.items():
        assert written.pop(name) == [(step, pytest.approx(value, rel=1e-6)) for step in (1, 5)]
        if not name.endswith("/error"):
            error = expected[f"{name}/error"]
            assert written.pop(f"{name}/low")[0][1] == pytest.approx(value - 2 * error, rel=1e-5)
            assert written.pop(f"{name}/high")[0][1] == pytest.approx(value + 2 * error, rel=1e-5)
    assert not written


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_wandb_offline(results, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(project="gen_eval", mode="offline", dir=str(tmp_path))
    try:
        log_to_wandb(run, results, step=3)
        run.log({"loss": 1.0}, step=4)  # which ends step 3
        assert {name: run.summary[name] for name in scalars(results)} == pytest.approx(scalars(results))
        log_to_wandb(run, results, step=5, prefix="val/")
        for name in ("frechet:pixels", "val/frechet:pixels"):
            assert run.config["gen_eval"][name]["protocol"] == "torch-fidelity"
    finally:
        run.finish()
    assert list(tmp_path.rglob("*.wandb"))
