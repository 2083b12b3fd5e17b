"""Which targets there are, said to whoever asks for another."""

import pytest

from nsdldm.demo.atlases import check_regions
from nsdldm.workflow.targets import find_unknown

RULES = {
    "all": [
        "results/figures/fig3.png",
        "results/figures/fig6.png",
        "results/subj01/figures/fig6.png",
        "results/subj02/figures/fig6.png",
    ],
    "trained": ["results/figures/fig3.png", "results/tables/a.tsv"],
}


def test_a_misspelt_target_is_told_the_others():
    (finding,) = find_unknown({"resulsts/fig6.png": "neither"}, RULES, ["subj01", "subj02"])
    assert finding.where == "target resulsts/fig6.png"
    assert finding.remedy == (
        "Name one of: all and trained; results/figures/ fig3.png, fig6.png; "
        "results/SUBJECT/figures/ fig6.png; results/tables/ a.tsv (SUBJECT is subj01, subj02)"
    )


def test_a_subject_that_is_not_run_is_named():
    asked = {"results/subj05/figures/fig6.png": "neither", "results/subj09/x": "neither"}
    other, nobody = map(str, find_unknown(asked, RULES, ["subj01"]))
    assert "found subj05, who is not among subjects (subj01). Add subj05 to subjects" in other
    assert "found neither. Name one of: all and trained" in nobody


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("Kastner2015:V1v", "`rois`.V1: expected an atlas of the simulated release (streams, "),
        ("streams:V1v", "the atlas streams of the simulated release: expected label 'V1v', which"),
        ("streams:9", "found only 0 Unknown, 1 early, 2 midventral"),
        ("streams", "`rois`.V1: expected atlas:label"),
    ],
)
def test_a_region_that_the_demo_cannot_have_is_found(part, words):
    (finding,) = check_regions({"early": ["streams:early"], "V1": ["streams:1", part]})
    assert words in str(finding)


def test_regions_that_the_demo_has():
    parts = ["streams:ribbon", "streams:early", "streams:7", "nsdgeneral:nsdgeneral", "control:1"]
    assert check_regions({"V1": parts}) == []
