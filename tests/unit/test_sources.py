"""What may stand on either side: images, vectors, statistics, each told from the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gen_eval import store
from gen_eval.errors import GenEvalError, ImagesError, NumericalError, StoreError, UsageError
from gen_eval.evaluation import evaluate
from gen_eval.extractors import Identity, Pixels
from gen_eval.images import Images
from gen_eval.metrics import Measure, Metric, Score
from gen_eval.passing import Request
from gen_eval.sources import Vectors, dim_of_vectors, open_source, settle
from gen_eval.spec import Resize, Spec
from gen_eval.stats import Features, Moments
from gen_eval.summary import Summary
from gen_eval.zoo import WORLDS

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
OTHERS = np.random.default_rng(1).standard_normal((60, 6)).astype(np.float32) + 1
POOL = (Request(Identity(6), ("pool",)),)
PIXELS = (Request(Pixels(), ("pool",)),)


# --- Vectors


@given(
    hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(-100, 100, width=16),
    )
)
def test_floating_rows_are_vectors_as_numpy_or_torch(array):
    sources = [open_source(array), open_source(torch.from_numpy(array))]
    for source in sources:
        assert isinstance(source, Vectors)
        assert source.rows.dtype == (torch.float64 if array.dtype == np.float64 else torch.float32)
        np.testing.assert_array_equal(source.rows, array)
        assert dim_of_vectors(sources) == array.shape[1]
    (one, other) = (settle(source, [Request(Identity(array.shape[1]), ("pool",))]) for source in sources)
    assert one.digest == other.digest


LAYOUTS = {
    "reversed": lambda rows: rows[::-1],
    "fortran": np.asfortranarray,
    "every other column": lambda rows: np.repeat(rows, 2, axis=1)[:, ::2],
    "read only": lambda rows: np.frombuffer(rows.tobytes(), rows.dtype).reshape(rows.shape),
    "big endian": lambda rows: rows.astype(">f4"),
    "a tensor with a gradient": lambda rows: torch.from_numpy(rows).requires_grad_(),
    "a transposed tensor": lambda rows: torch.from_numpy(rows.T.copy()).T,
    "an array that knows its file": lambda rows: rows.view(np.memmap),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_how_vectors_lie_in_memory_says_nothing(layout):
    rows = layout(ROWS)
    plain = ROWS[::-1].copy() if layout is LAYOUTS["reversed"] else ROWS
    found, expected = (settle(open_source(source), POOL) for source in (rows, plain))
    assert found.digest == expected.digest
    (features,) = found.features.values()
    np.testing.assert_array_equal(features.sample.in_order(), plain)


def test_the_summary_of_vectors_is_that_of_images_with_these_features(tmp_path):
    requests = [Request(Identity(6), ("pool", "logits"))]
    np.save(tmp_path / "rows.npy", ROWS)
    for source, name in ((ROWS, "vectors"), (tmp_path / "rows.npy", str(tmp_path / "rows.npy"))):
        summary = settle(open_source(source), requests)
        assert (summary.name, summary.claimed, summary.skipped) == (name, False, ())
        assert [tap for _, tap in summary.features] == ["pool", "logits"]
        for tap in ("pool", "logits"):
            features = summary.require(Identity(6).spec(tap), tap)
            moments = Moments.of(torch.from_numpy(ROWS))
            assert (features.n, features.sample.n, features.sample.limit) == (50, 50, None)
            assert torch.equal(features.moments.mean, moments.mean)
            np.testing.assert_array_equal(features.sample.in_order(), ROWS)


def test_anything_about_the_vectors_moves_their_digest():
    changed = ROWS.copy()
    changed[3, 2] = np.nextafter(changed[3, 2], 9)
    others = [ROWS.reshape(60, 5), ROWS.astype(np.float64), changed, ROWS[::-1].copy(), ROWS[:-1]]
    digests = [
        settle(open_source(rows), [Request(Identity(rows.shape[1]), ("pool",))]).digest
        for rows in (ROWS, *others)
    ]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused_and_located(value):
    rows = ROWS.copy()
    rows[7, 2] = value
    with pytest.raises(NumericalError, match="1 of 50 feature rows hold NaN or infinity .first: row 7"):
        settle(open_source(rows), POOL)


@pytest.mark.parametrize("dtype", ["u1", "i8", "c16", "?", "O", "U3"])
def test_rows_that_are_not_floating_are_refused_with_their_type(dtype):
    with pytest.raises(ImagesError, match=r"with shape \[4, 3\]: expected floating point feature vectors"):
        open_source(np.zeros((4, 3)).astype(dtype))


@pytest.mark.parametrize("shape", [(0, 6), (6,), (2, 3, 4, 5)])
def test_floating_arrays_of_other_shapes_are_refused(shape):
    with pytest.raises(GenEvalError):
        settle(open_source(np.zeros(shape)), POOL)


def test_a_row_alone_is_told_what_vectors_are(tmp_path):
    np.save(tmp_path / "row.npy", np.zeros(6))
    for row in (np.zeros(6), torch.zeros(6), tmp_path / "row.npy"):
        with pytest.raises(
            ImagesError, match=r"shape \[6\]: expected floating point feature vectors \[n, d\]"
        ):
            open_source(row)


# --- Samples of a generator


@pytest.mark.parametrize("n", [0, -1])
def test_a_set_of_no_samples_is_refused(n):
    with pytest.raises(UsageError, match=f"n of 1 or more .* found n={n} "):
        open_source(WORLDS["ring8"](), n=n, beside=open_source(ROWS))
    with pytest.raises(UsageError, match=f"zoo:ring8,n={n}: expected n of 1 or more .* found n={n} "):
        open_source(f"zoo:ring8,n={n}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zoo:ring8,n=100,n=150", "says n twice"),
        ("zoo:ring8,n=100,n=100", "says n twice"),
        (f"zoo:ring8,n=1,seed={2**63}", r"below 2\^63, found n=1 and seed=9223372036854775808"),
        (f"zoo:ring8,n=2,seed={2**63 - 1}", r"below 2\^63"),
        ("zoo:ring8,n=2,seed=-1", "seeds from 0 on .* seed=-1"),
    ],
)
def test_settings_of_a_generator_that_make_no_sense_are_refused(name, message):
    with pytest.raises(UsageError, match=message):
        open_source(name)


def test_a_seed_beyond_all_is_refused_for_a_generator_too():
    with pytest.raises(UsageError, match=r"below 2\^63"):
        open_source(WORLDS["ring8"](), n=2, seed=2**63)


# --- Files


def test_a_file_is_told_by_what_it_holds(tmp_path, fake, pixel_summary):
    np.save(tmp_path / "rows.npy", ROWS)
    np.save(tmp_path / "images.npy", fake[:4])
    np.savez(tmp_path / "images.npz", fake[:4])
    np.savez(tmp_path / "moments.npz", mu=np.zeros(6), sigma=np.eye(6))
    store.save(pixel_summary(fake[:4]), tmp_path / "ours.safetensors")
    kinds = {path.name: open_source(path) for path in tmp_path.iterdir()}
    assert isinstance(kinds["rows.npy"], Vectors)
    assert isinstance(kinds["images.npy"], Images)
    assert isinstance(kinds["images.npz"], Images)
    assert kinds["moments.npz"] == tmp_path / "moments.npz"
    assert isinstance(kinds["ours.safetensors"], Summary)
    for name, found in kinds.items():
        assert type(open_source(str(tmp_path / name))) is type(found)


def test_files_that_hold_nothing_of_the_kind_are_refused_by_name(tmp_path):
    np.save(tmp_path / "integers.npy", np.zeros((4, 3), int))
    np.save(tmp_path / "flat.npy", np.zeros(4))
    np.save(tmp_path / "objects.npy", np.full((2, 2), None), allow_pickle=True)
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "text.npy").write_text("hello")
    for path in tmp_path.iterdir():
        with pytest.raises(ImagesError, match=path.name):
            open_source(path)
    with pytest.raises(ImagesError, match="does not exist"):
        open_source(tmp_path / "rows.npy")
    with pytest.raises(UsageError, match="an empty path"):
        open_source("")


def test_what_is_open_already_is_left_as_it_is(fake, pixel_summary):
    for source in (
        pixel_summary(fake[:4]),
        Vectors.of(torch.from_numpy(ROWS), "mine"),
        open_source(fake[:4]),
    ):
        assert open_source(source) is source


def test_a_callable_is_asked_for_its_images():
    source = open_source(lambda seeds: np.full((len(seeds), 2, 2, 3), int(seeds[0]), np.uint8), n=3, seed=7)
    assert len(source) == 3
    assert source.read([1])[0].pixels.max() == 8


# --- Settling


def test_images_are_left_for_their_pass(fake):
    images = open_source(fake[:4])
    assert settle(images, PIXELS) is images


def test_statistics_are_read_and_adopted(tmp_path, fake, pixel_summary):
    mine = pixel_summary(fake[:9])
    store.save(mine, tmp_path / "ours.safetensors")
    assert settle(open_source(tmp_path / "ours.safetensors"), PIXELS).digest == mine.digest
    np.savez(tmp_path / "theirs.npz", mu=np.zeros(192), sigma=np.eye(192))
    for n in (None, 77):
        adopted = settle(open_source(tmp_path / "theirs.npz"), PIXELS, n=n)
        assert adopted.claimed
        assert adopted.require(Pixels().spec("pool"), "pool").n == n
    (tmp_path / "ours.safetensors").write_bytes(b"cut short")
    with pytest.raises(StoreError):
        settle(open_source(tmp_path / "ours.safetensors"), PIXELS)


class Named:
    """As much of an extractor as statistics take."""

    device = torch.device("cpu")

    def __init__(self, name, **taps):
        self.name, self.taps = name, taps

    def spec(self, tap):
        return Spec(self.name, "0123456789abcdef", Resize(299, "tf1-bilinear"), "(x-128)/128")


def test_a_file_that_names_its_networks_serves_each(tmp_path):
    moments = {"mu": np.zeros(6), "sigma": np.eye(6)}
    spatial = {"mu_s": np.ones(4), "sigma_s": np.eye(4)}
    np.savez(tmp_path / "adm.npz", **moments, **spatial)
    inception, other = Named("inception-2015-12-05", pool=6, spatial=4), Named("vgg16", pool=6)
    both = settle(open_source(tmp_path / "adm.npz"), [Request(inception, ("pool", "spatial"))], n=50)
    assert {tap: features.moments.mean.sum() for (_, tap), features in both.features.items()} == {
        "pool": 0,
        "spatial": 4,
    }
    with pytest.raises(StoreError, match="no statistics of vgg16 pool"):
        settle(open_source(tmp_path / "adm.npz"), [Request(inception, ("pool",)), Request(other, ("pool",))])


def test_a_file_that_names_no_network_serves_the_first_alone(tmp_path):
    np.savez(tmp_path / "theirs.npz", mu=np.zeros(6), sigma=np.eye(6))
    requests = [Request(Named("vgg16", pool=6), ("pool",)), Request(Named("clip", pool=6), ("pool",))]
    adopted = settle(open_source(tmp_path / "theirs.npz"), requests)
    assert [(spec.name, tap) for spec, tap in adopted.features] == [("vgg16", "pool")]


def test_images_in_a_file_of_statistics_are_asked_for(tmp_path, fake):
    np.savez(tmp_path / "both.npz", mu=np.zeros(6), sigma=np.eye(6), arr_0=fake[:4])
    assert open_source(tmp_path / "both.npz") == tmp_path / "both.npz"
    images = open_source(f"images:{tmp_path / 'both.npz'}")
    assert (len(images), images.name) == (4, f"images:{tmp_path / 'both.npz'}")
    with pytest.raises(ImagesError, match="does not exist"):
        open_source("images:missing.npz")


def test_a_count_is_for_statistics_that_do_not_say(tmp_path, fake, pixel_summary):
    store.save(pixel_summary(fake[:9]), tmp_path / "ours.safetensors")
    for source in (fake[:4], ROWS, pixel_summary(fake[:4]), tmp_path / "ours.safetensors"):
        with pytest.raises(UsageError, match="reference_n is for {mu, sigma} statistics"):
            settle(open_source(source), PIXELS, n=9)


def test_images_and_vectors_are_not_taken_for_one_another(fake):
    with pytest.raises(UsageError, match=r"vectors are feature vectors.*'identity'.*such as fd:identity"):
        settle(open_source(ROWS), PIXELS)
    with pytest.raises(UsageError, match=r"'identity' takes feature vectors.*array holds images"):
        settle(open_source(fake[:4]), POOL)
    with pytest.raises(UsageError, match="feature vectors"):
        settle(open_source(ROWS), [*POOL, *PIXELS])


def test_the_dimension_is_that_of_the_first_vectors(fake, pixel_summary):
    images, vectors = open_source(fake[:4]), open_source(ROWS)
    summary = settle(vectors, POOL)
    assert dim_of_vectors([images, vectors]) == dim_of_vectors([images, summary]) == 6
    assert dim_of_vectors([images, pixel_summary(fake[:4])]) is None
    assert dim_of_vectors([]) is None


# --- Through the whole of it


def test_measures_of_vectors_are_those_of_their_rows(tmp_path):
    rows = Measure(
        "rows:identity",
        Metric(
            "rows",
            lambda features: Score({"rows": float(features["generated"].sample.in_order()[3].sum())}),
            {"rows": "lower"},
            "nobody",
            by_rows=True,
        ),
        "identity",
        "pool",
    )
    np.save(tmp_path / "rows.npy", ROWS)
    for generated in (ROWS, torch.from_numpy(ROWS), tmp_path / "rows.npy", str(tmp_path / "rows.npy")):
        distance, row = evaluate(["fd:identity", rows], generated=generated, reference=OTHERS)
        expected = evaluate("fd:identity", generated=ROWS, reference=OTHERS)[0]
        assert distance.value == expected.value
        assert row.value == pytest.approx(ROWS[3].sum(), rel=1e-6)
        assert distance.sets["generated"].digest == expected.sets["generated"].digest
    gap = ROWS.astype("f8").mean(0) - OTHERS.astype("f8").mean(0)
    assert distance.value > gap @ gap - 1e-9
    assert distance.spec.name == "identity"


def test_statistics_of_vectors_stand_in_for_them(tmp_path):
    direct = evaluate("fd:identity", generated=ROWS, reference=OTHERS)[0]
    for name, rows in (("generated", ROWS), ("reference", OTHERS)):
        store.save(settle(open_source(rows), POOL), tmp_path / f"{name}.safetensors")
    paths = {name: tmp_path / f"{name}.safetensors" for name in ("generated", "reference")}
    for sets in (
        {"generated": store.load(paths["generated"]), "reference": OTHERS},
        {"generated": ROWS, "reference": paths["reference"]},
        paths,
    ):
        assert evaluate("fd:identity", **sets)[0].value == pytest.approx(direct.value, rel=1e-12)


def test_vectors_have_classes_where_labels_say_so():
    labels = {
        "generated": [index % 2 for index in range(len(ROWS))],
        "reference": ["0", "1"] * (len(OTHERS) // 2),
    }
    result = evaluate("intra-fid:identity", generated=ROWS, reference=OTHERS, labels=labels)[0]
    for name in ("0", "1"):
        start = int(name)
        of_class = evaluate("fd:identity", generated=ROWS[start::2], reference=OTHERS[start::2])[0]
        assert result.values[name] == pytest.approx(of_class.value, rel=1e-9)
    assert result.value == pytest.approx((result.values["0"] + result.values["1"]) / 2)


def test_vectors_of_two_dimensions_are_refused():
    with pytest.raises(GenEvalError, match=r"6.*5|5.*6"):
        evaluate("fd:identity", generated=ROWS, reference=OTHERS[:, :5])


def test_images_where_vectors_are_expected_are_refused_before_any_pass(fake, counted):
    for generated, reference in (
        (counted(fake), ROWS),
        (ROWS, counted(fake)),
        (counted(fake), counted(fake)),
    ):
        with pytest.raises(UsageError, match="identity"):
            evaluate("fd:identity", generated=generated, reference=reference)
        for images in (generated, reference):
            assert getattr(images, "reads", 0) == 0


def test_vectors_where_images_are_expected_are_refused():
    with pytest.raises(UsageError, match="which only measures through 'identity' take"):
        evaluate("fd:pixels", generated=ROWS, reference=OTHERS)


def test_vectors_fit_any_summary_of_their_terms():
    features = Features.of(torch.from_numpy(ROWS))
    summary = Summary("mine", "aa" * 32, {(Identity(6).spec("pool"), "pool"): features}, {})
    by_hand = evaluate("fd:identity", generated=summary, reference=OTHERS)[0]
    assert by_hand.value == evaluate("fd:identity", generated=ROWS, reference=OTHERS)[0].value


def test_samples_are_not_measured_against_themselves():
    reference = open_source("zoo:ring8,n=100")
    for text, common in (("zoo:ring8", 100), ("zoo:ring8,seed=99", 1)):
        with pytest.raises(UsageError, match=f"samples of {common} seeds in common.*another seed"):
            open_source(text, beside=reference)
    assert len(open_source("zoo:ring8,seed=100", beside=reference)) == 100
    assert len(open_source("zoo:grid25", beside=reference)) == 100
    ring = WORLDS["ring8"]()
    with pytest.raises(UsageError, match="5 seeds in common"):
        open_source(ring, n=10, seed=0, beside=open_source(ring, n=10, seed=5))
    digits = open_source("zoo:sngan-mnist,n=4")
    with pytest.raises(UsageError, match="2 seeds in common"):
        open_source("zoo:sngan-mnist,n=4,seed=2", beside=digits)


def test_samples_know_the_classes_they_were_asked_for():
    samples = open_source("zoo:biggan-mnist,n=40,seed=2")
    expected = samples.drawn.named.sampler.labels_of(torch.arange(2, 42))
    assert samples.classes() == [str(label) for label in expected.tolist()]
    assert open_source("zoo:biggan-mnist,n=3,label=7").classes() == ["7"] * 3
    assert open_source("zoo:sngan-mnist,n=3").classes() is None
    pair = {"generated": "zoo:biggan-mnist,n=300", "reference": "zoo:biggan-mnist,n=300,seed=300"}
    (result,) = evaluate("intra-fid:pixels", **pair)
    assert len(result.values) > 1
