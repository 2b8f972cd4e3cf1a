"""Which windows come when, what is finished after them, and how much is held; whole passes are in test_streaming."""

from __future__ import annotations

import pytest
from tiny_window import Case, image

from nnunet_active.nnunet.window_layout import Layout, extent_of, lay_out

HEADS = 20


def layout_of(name: str, shape: tuple[int, int, int], room: int | None = None, **how) -> Layout:
    found = Case(name).window.prepare(image(shape), 1).layout
    return lay_out(found.windows, found.shape, found.inside, HEADS, room, **how)


@pytest.mark.parametrize("shape", [(16, 16, 16), (61, 17, 16), (40, 90, 5)])
@pytest.mark.parametrize("name", ["3d_fullres", "2d"])
def test_every_window_runs_before_what_it_touches_is_finished(name, shape):
    layout = layout_of(name, shape, 200_000)
    for block in layout.blocks:
        done, ran = 0, []
        for step in layout.steps(block):
            assert step.first == done < step.stop
            assert all(extent_of(window[1])[0] >= done for window in step.windows)
            assert all(extent_of(window[1])[1] - done <= layout.depth for window in step.windows)
            done, ran = step.stop, ran + step.windows
        assert done == layout.shape[0]
        assert ran == [one for one in layout.windows if one[2].start < block[1] and one[2].stop > block[0]]


def test_each_window_counts_in_one_block_only():
    layout = layout_of("3d_fullres", (20, 90, 18), 100_000, windows_per_pass=3)
    assert len(layout.blocks) > 2
    counted = []
    for block in layout.blocks:
        for step in layout.steps(block):
            for windows, repeated in layout.batches(step.windows, block):
                assert len(windows) in (1, 2)  # powers of two
                counted += [] if repeated else [str(window) for window in windows]
    assert sorted(counted) == sorted(map(str, layout.windows))


def test_the_room_bounds_the_buffer():
    for room in (10**6, 2 * 10**6, 10**8):
        layout = layout_of("3d_fullres", (40, 200, 30), room)
        rows = max(stop - start for start, stop in layout.blocks)
        assert 2 * (HEADS + 1) * layout.depth * rows * 30 <= room
    assert len(layout.blocks) == 1
    assert layout_of("3d_fullres", (40, 200, 30)).blocks == ((0, 200),)


def test_with_no_room_at_all_a_block_is_as_small_as_can_be():
    layout = layout_of("3d_fullres", (40, 60, 30), 1)
    assert len(layout.blocks) == len({window[2].start for window in layout.windows})


def test_a_2d_network_holds_about_one_slab_of_slices():
    assert layout_of("2d", (200, 60, 50)).depth == 2**18 // 3000
    assert layout_of("2d", (200, 60, 50), on_a_gpu=True).depth == 200
