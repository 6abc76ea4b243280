"""Statistics files of the other tools, both ways: made by them and read here, written here and read by them.

Two kinds of features are compared. Those of a few images are pooled early in the network, 64 of them, so that fewer
than a hundred images have a covariance of full rank: a square root of a singular matrix is noise to half the digits.
Where a tool knows no such tap, features of full rank are made up, and go through its own reading, writing and distance.
"""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from gen_eval import foreign
from gen_eval.bench import peers
from gen_eval.evaluation import evaluate
from gen_eval.extractors import Custom
from gen_eval.foreign import Held
from gen_eval.metrics.frechet.frechet import frechet
from gen_eval.metrics.frechet.gaussian import Gaussian
from gen_eval.protocols import find_protocol
from gen_eval.stats import Features

TOLERANCE = 1e-6  # of the distance, relative
DIM = 48


@pytest.fixture(scope="module")
def features():
    """Two sets of full rank with heavy tails and scales that differ by powers of ten, float32 as in the tools."""
    rng = np.random.default_rng(0)
    scale = rng.lognormal(-1, 0.7, DIM)

    def draw(n, shift):
        mixture = rng.normal(size=(n, DIM)) + rng.standard_t(5, (n, 4)) @ rng.normal(0, 0.3, (4, DIM))
        return (np.maximum(mixture + shift, 0) ** 1.5 * scale).astype(np.float32)

    return draw(300, 0.3), draw(280, 0.6)


def distance(one: Held, other: Held, protocol: str) -> float:
    """Ours, of what stands in two files, under the settings of a tool."""
    params = find_protocol(protocol).params
    sides = [
        Gaussian(held.features.n, held.features.moments.mean, held.features.cov(params["ddof"]))
        for held in (one, other)
    ]
    return frechet(*sides, mean_dtype=params["mean_dtype"]).values["frechet"]


def read(path: Path) -> Held:
    (held,) = foreign.read(path).held
    return held


def ours(rows: np.ndarray) -> list[Held]:
    return [Held("rows", Features.of(torch.from_numpy(rows)))]


# --- pytorch-fid: its own command line, from images


@pytest.fixture(scope="module")
def pytorch_fid_files(folders, peer_weights, tmp_path_factory):
    """Statistics of 64 pooled features of two folders, by `pytorch_fid --save-stats`, and the FID of the folders."""
    root = tmp_path_factory.mktemp("pytorch-fid")
    paths, device = folders("cifar10"), torch.device("cpu")
    files = [root / f"{name}.npz" for name in ("real", "fake")]
    with peers.surroundings(peer_weights, "pytorch_fid.fid_score") as peer:
        for folder, file in zip(paths, files, strict=True):
            peer.save_fid_stats([str(folder), str(file)], 16, device, 64, 0)
        fid = peer.calculate_fid_given_paths([str(file) for file in files], 16, device, 64, 0)
    return files, float(fid)


@pytest.mark.network
def test_statistics_of_pytorch_fid_give_its_fid(pytorch_fid_files):
    files, fid = pytorch_fid_files
    assert distance(*map(read, files), "pytorch-fid") == pytest.approx(fid, rel=TOLERANCE)


@pytest.mark.network
def test_statistics_of_pytorch_fid_stand_for_its_images(pytorch_fid_files):
    """Through the whole of an evaluation, where a network of as many features is claimed to have made them."""
    files, fid = pytorch_fid_files
    claimed = Custom(lambda images: images[:, :1].flatten(1), size=8, name="early", version="1")
    (result,) = evaluate(
        "fd:early",
        generated=files[1],
        reference=files[0],
        protocol="pytorch-fid",
        extractors={"early": claimed},
    )
    assert result.value == pytest.approx(fid, rel=TOLERANCE)
    assert all(info.claimed for info in result.sets.values())


@pytest.mark.network
def test_pytorch_fid_reads_what_is_written_for_it(pytorch_fid_files, peer_weights, tmp_path):
    files, fid = pytorch_fid_files
    written = [tmp_path / file.name for file in files]
    for file, copy in zip(files, written, strict=True):
        foreign.write(copy, "pytorch-fid", foreign.read(file).held)
    with peers.surroundings(peer_weights, "pytorch_fid.fid_score") as peer:
        found = peer.calculate_fid_given_paths(
            [str(copy) for copy in written], 16, torch.device("cpu"), 64, 0
        )
    assert float(found) == pytest.approx(fid, rel=TOLERANCE)


# --- torch-fidelity: its own cache


@pytest.fixture
def torch_fidelity_run(features, tmp_path):
    """Its FID of two cached sets, by its own functions from the features on; a set that is in the cache is read."""

    class Network:
        @staticmethod
        def get_name() -> str:
            return "inception-v3-compat"

    def run(rows=features) -> float:
        with peers.surroundings(peers.PeerWeights(tmp_path), "torch_fidelity.metric_fid") as peer:
            cache = {"cache": True, "cache_root": str(tmp_path), "verbose": False}
            statistics = [
                peer.fid_featuresdict_to_statistics_cached(
                    {"2048": torch.from_numpy(each)} if each is not None else None,
                    name,
                    Network,
                    "2048",
                    **cache,
                )
                for name, each in zip(("real", "fake"), rows, strict=True)
            ]
            return peer.fid_statistics_to_metric(*statistics, verbose=False)[peer.KEY_METRIC_FID]

    return run, [tmp_path / f"{name}-inception-v3-compat-stat-fid-2048.pt" for name in ("real", "fake")]


def test_the_cache_of_torch_fidelity_gives_its_fid(torch_fidelity_run):
    run, files = torch_fidelity_run
    fid = run()
    assert distance(*map(read, files), "torch-fidelity") == pytest.approx(fid, rel=TOLERANCE)


def test_torch_fidelity_reads_what_is_written_into_its_cache(torch_fidelity_run, features):
    run, files = torch_fidelity_run
    fid = run()
    for file, rows in zip(files, features, strict=True):
        file.unlink()
        foreign.write(file, "torch-fidelity", ours(rows))
    assert run((None, None)) == pytest.approx(fid, rel=TOLERANCE)  # from the cache: there are no features
    files[0].unlink()
    foreign.write(files[0], "torch-fidelity", ours(features[1]))
    assert run((None, features[1])) == pytest.approx(0, abs=1e-3)  # the file is what is read


def test_cached_features_of_torch_fidelity_go_both_ways(features, tmp_path):
    names = [f"real-inception-v3-compat-features-{tap}.pt" for tap in ("64", "2048")]
    with peers.surroundings(peers.PeerWeights(tmp_path), "torch_fidelity.utils") as peer:
        arguments = ("real-inception-v3-compat-features-", ["64", "2048"])
        options = {"cache": True, "cache_root": str(tmp_path), "verbose": False}
        made = {"64": torch.zeros(2, 3), "2048": torch.from_numpy(features[0])}
        peer.cache_lookup_group_recompute_all_on_any_miss(*arguments, lambda: made, **options)
        held = read(tmp_path / names[1])
        np.testing.assert_array_equal(held.features.sample.in_order(), features[0])
        foreign.write(tmp_path / names[1], "torch-fidelity-features", ours(features[1]))
        found = peer.cache_lookup_group_recompute_all_on_any_miss(*arguments, None, **options)
    np.testing.assert_array_equal(found["2048"], features[1])


# --- clean-fid: its custom statistics, kept in a folder of their own


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two folders of as many small images, of which a network of few features makes a covariance of full rank."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(1)
    for name, most in (("real", 256), ("fake", 200)):
        (root / name).mkdir()
        for index in range(56):
            blocks = rng.integers(0, most, (4, 4, 3), dtype=np.uint8).repeat(6, 0).repeat(6, 1)
            Image.fromarray(blocks).save(root / name / f"{index:02}.png")
    return root


@pytest.fixture
def clean_fid(tmp_path):
    """Its module, which looks for statistics here, and sees images through a network of 48 features.

    Inception, which it wants in the system's temporary folder, would be of more dimensions than images.
    """

    def network(images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images, 74).flatten(1)

    with (
        peers.surroundings(peers.PeerWeights(tmp_path), "cleanfid.fid") as fid,
        mock.patch.object(fid.cleanfid, "__file__", str(tmp_path / "__init__.py")),
        mock.patch.object(fid, "build_feature_extractor", return_value=network),
    ):
        yield fid


CUSTOM = {"dataset_split": "custom", "dataset_res": "na", "verbose": False, "num_workers": 0}


def make_custom(fid, pictures, tmp_path):
    """Both folders as custom statistics, by its own function: their files, of moments and of rows."""
    files = []
    for name in ("real", "fake"):
        options = {"num_workers": 0, "device": torch.device("cpu"), "verbose": False}
        fid.make_custom_stats(name, str(pictures / name), **options)
        files.append([tmp_path / "stats" / f"{name}_clean_custom_na{what}.npz" for what in ("", "_kid")])
    return files


def measure(fid, compute, pictures):
    return float(compute(str(pictures / "fake"), dataset_name="real", device=torch.device("cpu"), **CUSTOM))


def test_custom_statistics_of_clean_fid_give_its_fid(clean_fid, pictures, tmp_path):
    files = make_custom(clean_fid, pictures, tmp_path)
    expected = measure(clean_fid, clean_fid.compute_fid, pictures)
    for what in (0, 1):  # the moments, and those of the rows
        held = [read(pair[what]) for pair in files]
        assert distance(*held, "clean-fid") == pytest.approx(expected, rel=TOLERANCE)
    assert held[0].features.n == 56


@pytest.mark.parametrize("source", ["moments", "rows"])
def test_clean_fid_reads_what_is_written_for_it(source, clean_fid, pictures, tmp_path):
    (moments, rows), _ = make_custom(clean_fid, pictures, tmp_path)
    values = [
        measure(clean_fid, compute, pictures) for compute in (clean_fid.compute_fid, clean_fid.compute_kid)
    ]
    held = foreign.read(rows if source == "rows" else moments).held
    moments.unlink()
    foreign.write(moments, "clean-fid", held)
    if source == "rows":
        rows.unlink()
        foreign.write(rows, "clean-fid-kid", held)
    found = [
        measure(clean_fid, compute, pictures) for compute in (clean_fid.compute_fid, clean_fid.compute_kid)
    ]
    assert found == pytest.approx(values, rel=TOLERANCE)
