"""Our classes in the place of torchmetrics' own, live, on the same images and weights."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance as TheirFid
from torchmetrics.image.inception import InceptionScore as TheirIs
from torchmetrics.image.kid import KernelInceptionDistance as TheirKid

from gen_eval.bench import peers
from gen_eval.errors import UsageError
from gen_eval.integrations.torchmetrics import (
    FrechetInceptionDistance,
    InceptionScore,
    KernelInceptionDistance,
)

TOLERANCE = 1e-4  # relative, of distances from images
# What torchmetrics says of its own classes when they are made.
pytestmark = pytest.mark.filterwarnings("ignore:Metric `.*` will save all extracted features:UserWarning")

OURS = SimpleNamespace(
    FrechetInceptionDistance=FrechetInceptionDistance,
    KernelInceptionDistance=KernelInceptionDistance,
    InceptionScore=InceptionScore,
)
THEIRS = SimpleNamespace(
    FrechetInceptionDistance=TheirFid, KernelInceptionDistance=TheirKid, InceptionScore=TheirIs
)


@pytest.fixture(scope="module")
def sets():
    """The images of torchmetrics' examples, fewer and smaller: intensities in two ranges that overlap."""
    rng = torch.Generator().manual_seed(123)
    return (
        torch.randint(0, 200, (24, 3, 48, 40), dtype=torch.uint8, generator=rng),
        torch.randint(100, 255, (24, 3, 48, 40), dtype=torch.uint8, generator=rng),
    )


def example(fid, imgs_dist1, imgs_dist2):
    """The example of torchmetrics' documentation, from ``update`` on."""
    fid.update(imgs_dist1, real=True)
    fid.update(imgs_dist2, real=False)
    return fid.compute()


@pytest.mark.network
@pytest.mark.parametrize(("feature", "antialias"), [(64, True), (192, False)])
def test_fid_example(feature, antialias, sets, peer_weights):
    options = {
        "feature": feature,
        "antialias": antialias,
        "feature_extractor_weights_path": str(peer_weights.state),
    }
    found = example(metric := OURS.FrechetInceptionDistance(**options), *sets)
    expected = example(THEIRS.FrechetInceptionDistance(**options), *sets)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert float(found) == pytest.approx(float(expected), rel=TOLERANCE)
    assert 0 < float(metric.error) < float(found)
    assert metric.result.spec.resize.kernel == ("torch-bilinear-antialias" if antialias else "tf1-bilinear")


@pytest.mark.network
def test_fid_of_deeper_features_of_floats(sets, peer_weights):
    """Not the deepest: of 2048 features, theirs takes the eigenvalues of a product without symmetry for a minute."""
    options = {
        "feature": 768,
        "normalize": True,
        "feature_extractor_weights_path": str(peer_weights.state),
    }
    sets = [images[:8].float() / 255 for images in sets]
    found = example(OURS.FrechetInceptionDistance(**options), *sets)
    assert float(found) == pytest.approx(
        float(example(THEIRS.FrechetInceptionDistance(**options), *sets)), rel=TOLERANCE
    )


class Net(torch.nn.Module):
    """A module of one's own: sums over quarters."""

    def forward(self, imgs):
        assert imgs.dtype == torch.uint8
        return torch.nn.functional.adaptive_avg_pool2d(imgs.float(), 2).flatten(1)


@pytest.fixture(scope="module")
def squares():
    rng = torch.Generator().manual_seed(5)
    return tuple(
        torch.randint(0, top, (64, 3, 16, 16), dtype=torch.uint8, generator=rng) for top in (200, 255)
    )


def test_a_module_of_ones_own(squares):
    found = example(OURS.FrechetInceptionDistance(Net()), *squares)
    assert float(found) == pytest.approx(
        float(example(THEIRS.FrechetInceptionDistance(Net()), *squares)), rel=1e-5
    )


@pytest.mark.parametrize("options", [{}, {"degree": 2, "gamma": 1e-3, "coef": 0.5}])
def test_kid_of_all_images(options, squares):
    """Subsets of all images do not depend on how they are drawn."""
    options = {"subsets": 3, "subset_size": 64, **options}
    found = example(metric := OURS.KernelInceptionDistance(Net(), **options), *squares)
    expected = example(THEIRS.KernelInceptionDistance(Net(), **options), *squares)
    assert isinstance(found, tuple)
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-4)
    assert float(found[1]) == pytest.approx(float(expected[1]), abs=1e-4 * float(found[0]))
    assert float(metric.error) > 0


def test_kid_of_subsets_is_that_of_other_draws(squares):
    options = {"subsets": 40, "subset_size": 30}
    found = example(OURS.KernelInceptionDistance(Net(), **options), *squares)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = example(THEIRS.KernelInceptionDistance(Net(), **options), *squares)
    error = float(expected[1]) / 40**0.5
    assert float(found[0]) == pytest.approx(
        float(expected[0]), abs=4 * 2**0.5 * error
    )  # four errors of two means
    assert float(found[1]) == pytest.approx(float(expected[1]), rel=0.5)


class Logits(torch.nn.Module):
    """A classifier by colour."""

    def forward(self, imgs):
        return imgs.float().mean((2, 3)) - 120


@pytest.mark.parametrize("splits", [1, 4])
def test_inception_score(splits, squares):
    ours, theirs = (
        OURS.InceptionScore(Logits(), splits=splits),
        THEIRS.InceptionScore(Logits(), splits=splits),
    )
    ours.update(squares[1])
    theirs.update(squares[1])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        with peers.surroundings(peers.PeerWeights(None)):  # it takes the spread of one split, and warns
            expected = theirs.compute()
    found = ours.compute()
    if splits == 1:
        assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-5)
        assert torch.isnan(found[1])
        assert torch.isnan(expected[1])
    else:  # other splits
        assert float(found[0]) == pytest.approx(float(expected[0]), abs=4 * float(expected[1]))
        spread = ours.result.values["std"] * (splits / (splits - 1)) ** 0.5  # theirs has ddof 1
        assert float(found[1]) == pytest.approx(spread, rel=1e-6)
    assert float(ours.error) > 0


# --- The other examples of its documentation


@pytest.fixture
def figures():
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="torchmetrics draws with Matplotlib")
    pyplot.switch_backend("agg")
    yield pyplot
    pyplot.close("all")


def heights(axis):
    return [float(value) for line in axis.lines for value in line.get_ydata()]


@pytest.mark.parametrize(
    ("name", "options"),
    [("FrechetInceptionDistance", {}), ("KernelInceptionDistance", {"subsets": 3, "subset_size": 64})],
)
def test_examples_that_plot_one_value_and_several(name, options, squares, figures):
    drawn = []
    for classes in (OURS, THEIRS):
        metric = getattr(classes, name)(Net(), **options)
        example(metric, *squares)
        _, axis = metric.plot()
        values = []
        for shift in range(3):
            metric.reset()
            found = example(metric, squares[0], squares[1] - shift)
            values.append(found[0] if isinstance(found, tuple) else found)
        _, axes = metric.plot(values)
        assert len(heights(axes)) == 3
        drawn.append(heights(axis) + heights(axes))
    assert drawn[0] == pytest.approx(drawn[1], rel=1e-4)


def test_example_of_a_score_of_each_batch(squares, figures):
    drawn = []
    for classes in (OURS, THEIRS):
        metric = classes.InceptionScore(Logits(), splits=1)
        with peers.surroundings(peers.PeerWeights(None)):
            values = [metric(squares[1] - 10 * shift)[0] for shift in range(3)]
            drawn.append([*map(float, values), float(metric.compute()[0])])
        _, axis = metric.plot(values)
        assert heights(axis) == [float(value) for value in values]
    assert drawn[0] == pytest.approx(drawn[1], rel=1e-5)


def test_pickles_go_on_where_they_were(squares):
    for whole in (
        OURS.FrechetInceptionDistance(Net()),
        OURS.KernelInceptionDistance(Net(), subset_size=64),
    ):
        whole.update(squares[0], real=True)
        copied = pickle.loads(pickle.dumps(whole))
        for metric in (whole, copied):
            metric.update(squares[1], real=False)
        torch.testing.assert_close(copied.compute(), whole.compute(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (lambda metric: metric.merge_state(metric), "feed all images to one"),
        (lambda metric: metric.persistent(True), "pickle the metric"),
        (lambda metric: OURS.KernelInceptionDistance(64, gamma=-1.0), "gamma is positive, found -1"),
        (lambda metric: OURS.KernelInceptionDistance(64, coef=0.0), "coef is positive, found 0"),
    ],
)
def test_what_would_be_lost_or_wrong_is_refused(refused, said):
    with pytest.raises(UsageError, match=said):
        refused(OURS.FrechetInceptionDistance(Net()))
