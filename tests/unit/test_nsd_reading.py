import pytest

from nsdldm.support.errors import Finding, InputError, reading


def test_whatever_goes_wrong_becomes_a_finding_about_the_file():
    with pytest.raises(InputError) as caught, reading("a.mat", "a design"):
        raise KeyError("order\nand more")
    (finding,) = caught.value.findings
    assert (finding.where, finding.expected) == ("a.mat", "a design")
    assert "order" in finding.found
    assert isinstance(caught.value.__cause__, KeyError)


def test_findings_and_lack_of_memory_pass_unchanged():
    finding = Finding("b.mat", "this", "that", "Do so")
    with pytest.raises(InputError) as caught, reading("a.mat", "a design"):
        raise InputError(finding)
    assert caught.value.findings == (finding,)
    with pytest.raises(MemoryError), reading("a.mat", "a design"):
        raise MemoryError
