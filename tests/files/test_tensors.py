"""Files of tensors with a JSON header: whatever of them is changed is noticed."""

import pytest
import torch

from sparse_mrnn.errors import SavedFileError
from sparse_mrnn.files.tensors import FORMATS, RUN, read_tensors, write_tensors


@pytest.fixture
def written(tmp_path):
    def write(form):
        path = tmp_path / "file"
        tensors = {"floats": torch.linspace(-1, 1, 5), "numbers": torch.arange(3), "nothing": torch.zeros(0, 2), "one": torch.tensor(True)}
        write_tensors(path, form, {"step": 3, "name": "ü", "rates": [0.5, None], "more": {"a": []}}, tensors)
        return path

    return write


def test_no_flipped_bit_changes_what_is_read(written):
    path = written(RUN)
    header, tensors = read_tensors(path, RUN)
    assert header["name"] == "ü"
    assert tensors["numbers"].tolist() == [0, 1, 2]
    whole = path.read_bytes()
    read = 0
    for at in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
            try:
                found = read_tensors(path, RUN)
            except SavedFileError:
                continue
            read += 1
            assert found[0] == header
            torch.testing.assert_close(found[1], tensors, rtol=0, atol=0)
    assert read == 2  # \u00FC and \u00fC are \u00fc


@pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
def test_a_file_cut_short_or_made_longer_anywhere_is_refused(written, form):
    path = written(form)
    whole = path.read_bytes()
    for changed in (*(whole[:length] for length in range(len(whole))), whole + b"\0", whole + whole):
        path.write_bytes(changed)
        with pytest.raises(SavedFileError):
            read_tensors(path, form)
