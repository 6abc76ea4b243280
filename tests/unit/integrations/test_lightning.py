"""A generator that trains under Lightning is measured as it goes, and training stops when nothing improves."""

from __future__ import annotations

import csv

import pytest
import torch

from gen_eval import draws
from gen_eval.datasets import load
from gen_eval.errors import FetchError, UnknownName, UsageError
from gen_eval.evaluation import evaluate
from gen_eval.monitor import Monitor
from gen_eval.selection import Best
from gen_eval.zoo import MODELS
from gen_eval.zoo.task import Batch, Kind

lightning = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")

from gen_eval.integrations.lightning import EvaluateGenerator  # noqa: E402 (asks for Lightning)

# What Lightning says of a trainer this small, and of libraries of its own.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]
EPOCHS, N = 3, 90


class Toy(lightning.LightningModule):
    """A generator of noise about a learnt brightness, fitted to the mean of the data."""

    def __init__(self, rate=0.5):
        super().__init__()
        self.brightness = torch.nn.Parameter(torch.zeros(3))
        self.rate = rate
        self.modes = []

    def sample(self, seeds):
        self.modes.append((self.training, torch.is_grad_enabled()))
        noise = draws.normal(seeds.cpu(), 3 * 64).view(-1, 3, 8, 8).float().to(self.device)
        return (self.brightness[:, None, None] + 0.1 * noise).clamp(0, 1)

    def training_step(self, batch, _):
        (images,) = batch
        return (self.brightness - images.mean((0, 2, 3))).square().sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.rate)


@pytest.fixture(scope="module")
def real():
    return 0.5 + 0.1 * draws.normal(torch.arange(1000, 1100), 3 * 64).view(-1, 3, 8, 8).float()


def fit(real, tmp_path, module, callback, epochs=EPOCHS, resume=None):
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(real), batch_size=50)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=lightning.loggers.CSVLogger(tmp_path, version=""),
        callbacks=[callback],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(module, data, ckpt_path=resume)
    return trainer


def logged(tmp_path, name="val/frechet:pixels"):
    (file,) = tmp_path.rglob("metrics.csv")
    with file.open() as lines:
        return [row for row in csv.DictReader(lines) if row.get(name)]


def monitor_of(real, measures=("frechet:pixels", "kid:pixels"), **options):
    levels = (real * 255 + 0.5).byte()
    return Monitor(list(measures), reference=levels, value_range=(0, 1), device="cpu", **options)


def test_each_epoch_logs_values_with_their_errors(real, tmp_path):
    module = Toy()
    callback = EvaluateGenerator(monitor_of(real), n=N, batch_size=40, prefix="val/")
    fit(real, tmp_path, module, callback)
    rows = logged(tmp_path)
    assert len(rows) == EPOCHS
    values = [float(row["val/frechet:pixels"]) for row in rows]
    assert all(
        float(row["val/frechet:pixels/error"]) > 0 and float(row["val/kid:pixels/error"]) > 0 for row in rows
    )
    assert values == sorted(values, reverse=True)  # brightness goes where the data is
    assert set(module.modes) == {(False, False)}
    assert module.training
    # The last is that of an evaluation of the same images.
    with torch.no_grad():
        images = (module.sample(torch.arange(N)) * 255 + 0.5).byte()
    (expected, _) = evaluate(
        ["frechet:pixels", "kid:pixels"], generated=images, reference=(real * 255 + 0.5).byte(), device="cpu"
    )
    assert callback.results[0].value == pytest.approx(expected.value, rel=1e-9)
    assert values[-1] == pytest.approx(expected.value, rel=1e-5)  # Lightning logs float32


def test_training_stops_when_nothing_improves(real, tmp_path):
    best = Best(patience=2, paired=True)
    callback = EvaluateGenerator(monitor_of(real, ["frechet:pixels"]), n=N, best=best, offload=True)
    trainer = fit(real, tmp_path, Toy(rate=0.0), callback, epochs=50)
    assert trainer.current_epoch == 3
    assert (best.label, best.waited, best.stop) == (0, 2, True)


def test_only_every_so_many_epochs_and_by_a_sampler_of_ones_own(real, tmp_path):
    calls = []

    def sample(module, seeds):
        calls.append(seeds.tolist())
        return module.sample(seeds)

    callback = EvaluateGenerator(
        monitor_of(real, ["frechet:pixels"]), sample, n=60, seed=7, batch_size=60, every=2, prefix="val/"
    )
    fit(real, tmp_path, Toy(), callback)
    assert calls == [list(range(7, 67))]
    assert len(logged(tmp_path)) == 1


@pytest.mark.parametrize(
    ("steps_of_a_batch", "measured_at"), [(1, [4, 8, 12, 16]), (3, [6, 9, 12, 18, 21, 24])]
)
def test_steps_are_counted_across_epochs_and_a_batch_may_take_several(
    real, tmp_path, steps_of_a_batch, measured_at
):
    """A GAN under Lightning takes a step of each of its optimizers in one batch."""

    class ByHand(Toy):
        automatic_optimization = False

        def training_step(self, batch, place):
            for _ in range(steps_of_a_batch):
                self.optimizers().step()

    labels = []

    class Noting(Best):
        def update(self, result, label=None):
            labels.append(label)
            return super().update(result, label)

    callback = EvaluateGenerator(
        monitor_of(real, ["frechet:pixels"]),
        n=60,
        every=4,
        unit="steps",
        prefix="val/",
        best=Noting(patience=99),
    )
    fit(real, tmp_path, ByHand(), callback, epochs=8 if steps_of_a_batch == 1 else 4)
    assert labels == measured_at
    assert len(logged(tmp_path)) == len(measured_at)


def test_a_training_that_is_resumed_goes_on_counting_its_steps(real, tmp_path):
    calls = []

    def sample(module, seeds):
        calls.append(module.trainer.global_step)
        return module.sample(seeds)

    def callback():
        return EvaluateGenerator(
            monitor_of(real, ["frechet:pixels"]), sample, n=60, batch_size=60, every=3, unit="steps"
        )

    kept = tmp_path / "kept.ckpt"
    fit(real, tmp_path, Toy(), callback(), epochs=2).save_checkpoint(kept)
    assert calls == [3]
    fit(real, tmp_path, Toy(), callback(), epochs=5, resume=kept)
    assert calls == [3, 6, 9]


def test_units_are_epochs_or_steps(real):
    with pytest.raises(UnknownName, match="'batches'"):
        EvaluateGenerator(monitor_of(real, ["frechet:pixels"]), unit="batches")


@pytest.mark.parametrize("name", ["n", "batch_size", "every"])
def test_numbers_are_positive(name, real):
    with pytest.raises(UsageError, match=f"{name} must be at least 1, found 0"):
        EvaluateGenerator(monitor_of(real, ["frechet:pixels"]), **{name: 0})


# --- What a resumed training remembers, and what is refused before it begins


def test_a_training_that_is_resumed_goes_on_with_the_best(real, tmp_path):
    first, second = (
        EvaluateGenerator(monitor_of(real, ["frechet:pixels"]), n=N, best=Best(patience=9, paired=True))
        for _ in range(2)
    )
    trainer = fit(real, tmp_path, Toy(), first)
    kept = tmp_path / "kept.ckpt"
    trainer.save_checkpoint(kept)
    resumed = fit(real, tmp_path, Toy(), second, epochs=EPOCHS + 2, resume=kept)
    assert resumed.current_epoch == EPOCHS + 2
    whole = EvaluateGenerator(monitor_of(real, ["frechet:pixels"]), n=N, best=Best(patience=9, paired=True))
    fit(real, tmp_path, Toy(), whole, epochs=EPOCHS + 2)
    assert second.best.label == whole.best.label
    assert second.best.waited == whole.best.waited
    assert second.best.result.value == pytest.approx(whole.best.result.value, rel=1e-9)
    assert str(second.best.last) == str(whole.best.last)


def test_what_cannot_be_measured_is_told_before_training(real, tmp_path):
    class Silent(Toy):
        sample = None

    with pytest.raises(UsageError, match=r"Silent has no method sample\(seeds\)"):
        fit(real, tmp_path, Silent(), EvaluateGenerator(monitor_of(real, ["frechet:pixels"])))
    with pytest.raises(UsageError, match=r"expected a gen_eval.Monitor, found \['fd:pixels'\]"):
        EvaluateGenerator(["fd:pixels"])


class OfTheZoo(lightning.LightningModule):
    """A model of the zoo with one player, trained by Lightning instead of the zoo's own trainer."""

    def __init__(self, model, kind):
        super().__init__()
        self.model, self.kind = model, kind
        task = model.recipe.task(kind)
        self.networks, self.kept = task.modules, task.kept
        (self.player,) = task.players

    def sample(self, seeds):
        kept = torch.nn.ModuleDict({name: self.networks[name] for name in self.kept})
        return self.model.recipe.sampler(self.model.name, self.kind, kept, {})(seeds)

    def training_step(self, batch, place):
        loss, _ = self.player.loss(Batch(*batch, None), torch.Generator().manual_seed(place))
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.player.rate)


@pytest.mark.network
def test_a_model_of_the_zoo_logs_fid_with_its_error_each_epoch(tmp_path):
    pytest.importorskip("sklearn")  # whose copy of the digits is at hand
    digits = load("digits", "train", offline=True).images
    x = torch.from_numpy(digits).movedim(3, 1).float() / 127.5 - 1
    module = OfTheZoo(MODELS["vae"], Kind((1, 8, 8)))
    try:
        monitor = Monitor("fid", reference=digits[:24], device="cpu")
    except FetchError as error:
        pytest.skip(f"the weights cannot be had here: {error}")
    fit(x, tmp_path, module, EvaluateGenerator(monitor, n=24, prefix="val/"), epochs=2)
    rows = logged(tmp_path, "val/fid")
    assert len(rows) == 2
    assert all(0 < float(row["val/fid/error"]) < float(row["val/fid"]) for row in rows)
    assert float(rows[1]["val/fid"]) < float(rows[0]["val/fid"])
