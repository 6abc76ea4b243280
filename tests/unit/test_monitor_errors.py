"""What an error leaves behind: a monitor as it was before, or one that says that it is not whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gen_eval.errors import ImagesError, NumericalError, StoreError, UsageError
from gen_eval.evaluation import evaluate
from gen_eval.extractors import Custom
from gen_eval.monitor import Monitor

pytestmark = pytest.mark.usefixtures("one_thread")


def numbers(results):
    """Of how many images, and what was measured, one after the other."""
    return [number for each in results for number in (each.sets["generated"].n, each.value)]


def fed(monitor, images):
    monitor.update(images)
    return monitor


class Failing:
    """Features of images, but for the calls that raise; the first is a rehearsal."""

    def __init__(self, error, *calls):
        self.error, self.calls, self.count = error, calls, 0

    def __call__(self, x):
        self.count += 1
        if self.count in self.calls:
            raise self.error
        return x.mean((2, 3))


FAILURES = (RuntimeError("made up"), KeyboardInterrupt())


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("order", [("pixels", "mine"), ("mine", "pixels")])
def test_images_on_which_a_network_fails_are_not_taken_and_may_come_again(failure, order, fake, real):
    def options(*calls):
        net = Failing(failure, *calls)
        own = {"mine": Custom(net, size=8, name="mine", version="1", resize="tf1-bilinear")}
        return {"measures": [f"frechet:{name}" for name in order], "extractors": own, "batch_size": 16}

    expected = evaluate(generated=fake, reference=real, **options())
    monitor = Monitor(reference=real, **options(4, 7))  # the second batch of an update, and the first of one
    monitor.update(fake[:20])
    with pytest.raises(type(failure)):
        monitor.update(fake[20:55])
    for part in np.split(fake[20:], range(40, 210, 40)):
        try:
            monitor.update(part)
        except type(failure):
            monitor.update(part)
    assert numbers(monitor.compute()) == pytest.approx(numbers(expected))


def test_a_result_may_be_asked_for_again_where_a_network_failed(fake, real):
    net = Failing(FAILURES[0], 2)
    own = {"mine": Custom(net, size=8, name="mine", version="1", resize="tf1-bilinear")}
    monitor = Monitor("frechet:mine", reference=real, extractors=own, batch_size=300)
    monitor.update(fake)
    with pytest.raises(RuntimeError):
        monitor.compute()
    expected = evaluate("frechet:mine", generated=fake, reference=real, extractors=own)
    assert numbers(monitor.compute()) == pytest.approx(numbers(expected))


def test_what_is_kept_in_part_is_not_measured_before_it_is_forgotten(fake, real):
    own = {"mine": Custom(lambda x: 1 / x.mean((2, 3)), size=8, version="1", name="mine")}
    monitor = Monitor(["frechet:mine", "frechet:pixels"], reference=np.maximum(real, 1), extractors=own)
    with pytest.raises(NumericalError, match="first those of #7"):
        monitor.update(
            np.tile(np.maximum(fake, 1) * (np.arange(230) != 7)[:, None, None, None], (10, 1, 1, 1))
        )
    for refused in (monitor.compute, monitor.state_dict, lambda: monitor.update(fake)):
        with pytest.raises(UsageError, match=r"feeding of the images fed midway.*reset\(\)"):
            refused()
    monitor.reset()
    assert numbers(fed(monitor, np.maximum(fake, 1)).compute())[0] == 230


def test_images_that_are_refused_leave_it_open_whether_others_come_with_an_index(fake, real):
    monitor = Monitor("frechet:pixels", reference=real)
    with pytest.raises(ImagesError):
        monitor.update(fake.astype(np.float32), index=torch.arange(230))
    monitor.update(fake)


def altered(state, path, value=None):
    """A copy in which one entry is another; ``None`` takes it out."""
    entry, *rest = path
    changed = list(state) if isinstance(state, list) else dict(state)
    if rest:
        changed[entry] = altered(state[entry], rest, value)
    elif value is None:
        del changed[entry]
    else:
        changed[entry] = value
    return changed


FEATURES = ("generated", "features")
DAMAGES = {
    ("format",): [(None, "expected a state in the format 'gen_eval monitor 1', found None")],
    ("terms",): [
        (None, "lacks terms"),
        ("x", "terms are none"),
        ("[]", "terms are none"),
        (3, "terms are none"),
    ],
    ("generated",): [(None, "lacks generated"), (3, "no state of a monitor's images")],
    ("generated", "content"): [(None, "KeyError.*content"), ("x", "ValueError")],
    ("generated", "index"): [
        (None, "KeyError.*index"),
        ([1], "AttributeError"),
        (torch.arange(7), "damaged"),
    ],
    ("generated", "n"): [(None, "KeyError.*'n'"), (7, "not those of the 7 images"), (0, "of the 0 images")],
    FEATURES: [(None, "KeyError.*features"), ([], "not those of the 230 images")],
    (*FEATURES, 0, "n"): [(None, "KeyError.*'n'"), (229, "damaged")],
    (*FEATURES, 0, "tap"): [("other", "damaged")],
    (*FEATURES, 0, "mean"): [
        (None, "KeyError.*mean"),
        (torch.zeros(3), "damaged"),
        (torch.full((192,), torch.nan, dtype=torch.float64), "damaged"),
    ],
    (*FEATURES, 0, "scatter"): [(torch.zeros(3, 3), "damaged")],
    (*FEATURES, 0, "rows"): [
        (torch.zeros(3, 192), "damaged"),
        (torch.zeros(230, 192, dtype=torch.int32), "damaged"),
    ],
    (*FEATURES, 0, "index"): [(torch.arange(3), "damaged"), ("x", "AttributeError")],
}


@pytest.mark.parametrize("path", DAMAGES, ids=lambda path: "-".join(map(str, path)))
def test_a_state_that_is_damaged_is_refused_and_changes_nothing(path, fake, real):
    state = fed(Monitor("frechet:pixels", reference=real), fake).state_dict()
    monitor = fed(Monitor("frechet:pixels", reference=real), fake[:100])
    for value, message in DAMAGES[path]:
        with pytest.raises(StoreError, match=message):
            monitor.load_state_dict(altered(state, path, value))
    with pytest.raises(StoreError, match="found 'NoneType'"):
        monitor.load_state_dict(None)
    assert numbers(monitor.compute())[0] == 100
