from __future__ import annotations

import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_active.data.gipl import ENDINGS, check_gipl_is_whole

KINDS = [np.uint8, np.int8, np.int16, np.uint16, np.float32, np.float64]


def written(folder, ending, kind=np.uint8, shape=(5, 6, 7)):
    file = folder / f"a{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 3, shape).astype(kind)), str(file))
    return file


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_lacks_one_byte_is_known_whatever_its_type(tmp_path, ending, kind):
    file = written(tmp_path, ending, kind)
    check_gipl_is_whole(file)
    content = gzip.decompress(file.read_bytes()) if ending.endswith(".gz") else file.read_bytes()
    file.write_bytes(gzip.compress(content[:-1]) if ending.endswith(".gz") else content[:-1])
    whole = 210 * np.dtype(kind).itemsize
    with pytest.raises(ValueError, match=f"ends after {whole - 1} of {whole} bytes"):
        check_gipl_is_whole(file)


@pytest.mark.parametrize("shape", [(6, 7), (1, 6, 7)])
def test_a_flat_image_is_whole(tmp_path, shape):
    check_gipl_is_whole(written(tmp_path, ".gipl", shape=shape))


def test_a_file_that_ends_within_its_header_or_its_compressed_stream_is_known(tmp_path):
    file = written(tmp_path, ".gipl")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="within its header"):
        check_gipl_is_whole(file)
    file = written(tmp_path, ".gipl.gz")
    file.write_bytes(file.read_bytes()[:-12])
    with pytest.raises(EOFError):
        check_gipl_is_whole(file)
