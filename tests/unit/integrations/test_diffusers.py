"""A pipeline of diffusers, randomly initialised, as a generator: image i depends on seed i alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gen_eval.errors import ImagesError, UsageError
from gen_eval.evaluation import evaluate
from gen_eval.integrations.diffusers import from_pipeline

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pipeline():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = diffusers.UNet2DModel(
            sample_size=8,
            block_out_channels=(8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
        )
    made = diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler(num_train_timesteps=20))
    made.set_progress_bar_config(disable=True)
    return made


def test_an_image_depends_on_its_seed_alone(pipeline):
    sample = from_pipeline(pipeline, num_inference_steps=2)
    before = torch.get_rng_state()
    together = sample(torch.arange(5))
    assert torch.equal(torch.get_rng_state(), before)
    assert (together.dtype, tuple(together.shape)) == (torch.uint8, (5, 8, 8, 3))
    assert torch.equal(sample(torch.arange(5)), together)
    for seed in range(5):
        (alone,) = sample(torch.tensor([seed]))
        assert int((alone.int() - together[seed].int()).abs().max()) <= 1  # float rounding of the network
    assert len({image.numpy().tobytes() for image in together}) == 5


def test_levels_are_those_of_the_pipelines_own_images(pipeline):
    found = from_pipeline(pipeline, num_inference_steps=2)(torch.tensor([3]))
    (picture,) = pipeline(generator=[torch.Generator().manual_seed(3)], num_inference_steps=2).images
    assert np.array_equal(found[0].numpy(), np.asarray(picture))


def test_it_is_evaluated_like_any_generator(pipeline):
    sample = from_pipeline(pipeline, num_inference_steps=2)
    found, again = (
        evaluate(
            "frechet:pixels",
            generated=sample,
            n=12,
            reference=sample(torch.arange(100, 112)),
            batch_size=size,
        )[0]
        for size in (12, 5)
    )
    assert found.sets["generated"].name == "DDPMPipeline"
    assert found.value == pytest.approx(again.value, rel=1e-2)  # a level here and there


def test_prompts_go_round_by_seed_and_other_shapes_are_refused():
    asked = []

    class Prompted:
        def __call__(self, *, prompt, generator, output_type, guidance_scale):
            asked.append((prompt, len(generator), output_type, guidance_scale))
            return type("Output", (), {"images": torch.zeros(len(prompt), 4, 4, 3).numpy()})

    sample = from_pipeline(Prompted(), prompts=["a cat", "a dog"], guidance_scale=2.0)
    assert tuple(sample(torch.tensor([4, 7, 9])).shape) == (3, 4, 4, 3)
    assert asked == [(["a cat", "a dog", "a dog"], 3, "np", 2.0)]

    class Wrong:
        def __call__(self, **_):
            return type("Output", (), {"images": torch.zeros(1, 4, 4, 3).numpy()})

    with pytest.raises(ImagesError, match=r"Wrong returned images of shape \[1, 4, 4, 3\] for 2 seeds"):
        from_pipeline(Wrong())(torch.arange(2))

    class Listed:
        def __call__(self, **_):
            return type("Output", (), {"images": [None, None]})

    with pytest.raises(ImagesError, match="Listed returned images as list"):
        from_pipeline(Listed())(torch.arange(2))


def test_labels_go_round_by_seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = diffusers.DiTTransformer2DModel(
            sample_size=8,
            num_layers=1,
            attention_head_dim=4,
            num_attention_heads=2,
            in_channels=4,
            out_channels=8,
            num_embeds_ada_norm=10,
        )
        decoder = diffusers.AutoencoderKL(block_out_channels=(32,))
    made = diffusers.DiTPipeline(network, decoder, diffusers.DDIMScheduler())
    made.set_progress_bar_config(disable=True)
    sample = from_pipeline(made, class_labels=[1, 2], guidance_scale=1.0, num_inference_steps=1)
    assert tuple(sample(torch.arange(3)).shape) == (3, 8, 8, 3)
    with pytest.raises(
        UsageError, match="DiTPipeline takes no batch_size: give it prompts= or class_labels="
    ):
        from_pipeline(made)
    with pytest.raises(UsageError, match="class_labels are one number or more, without prompts"):
        from_pipeline(made, class_labels=[])


@pytest.mark.parametrize("prompts", ["a cat", []])
def test_one_text_and_none_are_no_prompts(prompts):
    with pytest.raises(UsageError, match="prompts are a list of one text or more"):
        from_pipeline(None, prompts=prompts)
