"""Slab by slab against nnU-Net's own predictor, which holds all logits at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_source
import torch
from tiny_window import REGIONS, Case, image

from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.nnunet.window import PreparedImage
from nnunet_active.nnunet.window_layout import Layout, lay_out

TWO = {"labels": {"background": 0, "organ": 1}}
MANY = {"labels": {"background": 0, **{f"organ {i}": i for i in range(1, 20)}}}
SHAPES = [(16, 16, 16), (20, 31, 18), (10, 12, 9), (5, 40, 16), (61, 17, 16), (33, 5, 47)]


def collect(window: SlidingWindow, prepared: PreparedImage, shape, **how) -> torch.Tensor:
    """The slabs put together; each voxel comes once."""
    whole = torch.full((prepared.layout.heads, *shape), torch.nan, dtype=torch.half)
    with window.streams(prepared):
        for slab in window.stream(prepared, **how):
            n, rows, width = slab.logits.shape[1:]
            assert width == shape[2] and n <= prepared.layout.depth
            there = whole[:, slab.first : slab.first + n, slab.row : slab.row + rows]
            assert there.isnan().all() and there.shape == slab.logits.shape
            there.copy_(slab.logits)
    return whole


def with_room(case: Case, shape, room: int | None, **how) -> Layout:
    layout = case.window.prepare(image(shape), 1).layout
    return lay_out(layout.windows, layout.shape, layout.inside, layout.heads, room, **how)


@pytest.mark.parametrize(
    ("labels", "shape"),
    [*[(None, shape) for shape in SHAPES], *[(labels, SHAPES[1]) for labels in (TWO, MANY, REGIONS)]],
)
@pytest.mark.parametrize("name", ["3d_fullres", "2d"])
def test_the_slabs_are_bit_for_bit_what_nnunets_predictor_returns(name, shape, labels):
    case = Case(name, labels)
    prepared = case.window.prepare(image(shape), 1)
    assert torch.equal(collect(case.window, prepared, shape), case.by_nnunet(image(shape)))


@pytest.mark.parametrize("slab_voxels", [1, 500, 10**9])
@pytest.mark.parametrize("name", ["3d_fullres", "2d"])
def test_slabs_of_any_size_give_the_same(name, slab_voxels, monkeypatch):
    monkeypatch.setattr("nnunet_active.nnunet.window_layout.SLAB_VOXELS", slab_voxels)
    case, shape = Case(name), (45, 20, 18)
    assert torch.equal(collect(case.window, case.window.prepare(image(shape), 1), shape), case.by_nnunet(image(shape)))


@pytest.mark.parametrize("room", [1, 20_000, 100_000])
@pytest.mark.parametrize("name", ["3d_fullres", "2d"])
@pytest.mark.parametrize("shape", [(20, 61, 18), (5, 40, 16), (10, 12, 9)])
def test_with_too_little_room_the_work_goes_on_in_blocks_and_gives_the_same(name, shape, room):
    case = Case(name)
    layout = with_room(case, shape, room)
    prepared = case.window.prepare(image(shape), 1)._replace(layout=layout)
    assert room > 1 or shape[1] <= 16 or len(layout.blocks) > 2
    assert [block[0] for block in layout.blocks[1:]] == [block[1] for block in layout.blocks[:-1]]
    assert torch.equal(collect(case.window, prepared, shape), case.by_nnunet(image(shape)))


@pytest.mark.parametrize("name", ["3d_fullres", "2d"])
def test_windows_that_share_a_pass_give_the_same_within_single_precision(name):
    case, shape = Case(name), (20, 40, 18)
    prepared = case.window.prepare(image(shape), 1)
    prepared = prepared._replace(layout=with_room(case, shape, None, windows_per_pass=4))
    sizes: list[int] = []
    handle = case.network.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    found = collect(case.window, prepared, shape)
    handle.remove()
    assert max(sizes) == 4 and sum(sizes) == len(prepared.layout.windows)
    torch.testing.assert_close(found.float(), case.by_nnunet(image(shape)).float(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("name", "axis"), [("3d_fullres", 0), ("3d_fullres", 2), ("2d", 1)])
def test_a_mirrored_pass_mirrors_every_window_as_nnunet_does(name, axis):
    case, shape = Case(name), (18, 25, 20)
    plain = case.by_nnunet(image(shape))
    mirrored = collect(case.window, case.window.prepare(image(shape), 1), shape, flip=(axis,))
    manager = case.window._predictor
    manager.use_mirroring, manager.allowed_mirroring_axes = True, (axis,)
    both = case.window.logits(image(shape))  # nnU-Net's mean of both
    gap = ((plain.float() + mirrored.float()) / 2 - both.float()).abs()
    assert (gap < 0.02).float().mean() > 0.99  # but for the corners, where nnU-Net's weights leave few bits
    assert not torch.allclose(plain.float(), mirrored.float(), atol=0.05)


# ---- what is held -----------------------------------------------------------------------------------------------------------


def test_the_buffer_is_as_deep_as_the_patch_however_long_the_volume_is(monkeypatch):
    """Of 400 slices, 16 are held: the logits of the whole volume never exist."""
    allocated: list[tuple] = []
    zeros = torch.zeros

    def watched(*shape, **how):
        found = zeros(*shape, **how)
        allocated.append(tuple(found.shape))
        return found

    case, shape = Case(labels=MANY), (400, 16, 16)
    prepared = case.window.prepare(image(shape), 1)
    monkeypatch.setattr(torch, "zeros", watched)
    with case.window.streams(prepared) as (stream,):
        deepest = max(slab.logits.shape[1] for slab in stream)
    assert allocated == [(20, 16, 16, 16), (16, 16, 16)] and deepest <= 16
    assert prepared.layout.blocks == ((0, 16),)


# ---- recorders --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["3d_fullres", "2d"])
def test_blocks_and_other_passes_do_not_change_what_the_recorders_see(name, monkeypatch):
    case, x = Case(name), image((18, 61, 20))
    plain = case.window.score(x, 1.0, class_mean=True)
    rich = case.window.score(x, 1.0, class_mean=True, ensemble=True, source=case.window)
    monkeypatch.setattr("nnunet_active.nnunet.inference.room_for_logits", lambda device: 50_000)
    assert len(case.window.prepare(x, 1).layout.blocks) > 1
    in_blocks = case.window.score(x, 1.0, class_mean=True)
    for other in (rich, in_blocks):
        np.testing.assert_allclose(other.arrays["embedding"], plain.arrays["embedding"], rtol=1e-5)
        np.testing.assert_allclose(other.arrays["class_mean"], plain.arrays["class_mean"], rtol=1e-4, atol=1e-6)
        assert {key: other.scalars[key] for key in plain.scalars} == pytest.approx(plain.scalars, nan_ok=True)
    for axis in range(3):
        foreground = f"slice_foreground_{axis}"
        np.testing.assert_array_equal(in_blocks.slices[foreground], plain.slices[foreground])


class OutOfMemoryOnce(torch.nn.Module):
    """A real network that does not fit at first."""

    def __init__(self, network: torch.nn.Module, times: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.left = network.encoder, network.decoder, times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.left:
            self.left -= 1
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return self.decoder(self.encoder(x))


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_gpu_that_runs_out_of_memory_is_tried_again_with_less(times):
    case = Case()
    window = SlidingWindow(
        OutOfMemoryOnce(case.network, times), case.plans, "3d_fullres", tiny_source.dataset_json(), torch.device("cpu")
    )
    if times == 3:
        with pytest.raises(RuntimeError, match="out of memory"):
            window.score(image(), 1.0)
    else:
        assert window.score(image(), 1.0).scalars == case.window.score(image(), 1.0).scalars


def test_no_file_but_the_adapter_needs_the_whole_volume():
    """Who asks for whole logits resamples them back to the scan; scoring and label maps do not."""
    package = Path(__file__).parents[2] / "nnunet_active"
    asking = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if ".logits(" in file.read_text(encoding="utf-8") and file.parent.name != "nnunet"
    }
    assert asking == {"pseudo/derived_dataset.py", "rounds/between_rounds.py"}
