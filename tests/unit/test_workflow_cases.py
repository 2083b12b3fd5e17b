import pytest

from nsdldm.workflow.cases import list_cases
from nsdldm.workflow.loading import load_settings
from nsdldm.workflow.plan import list_forms


@pytest.fixture
def cases():
    return list_cases(load_settings({}))


def test_kinds_of_the_demo_in_their_order(cases):
    kinds = cases.kinds
    assert [case for case, kind in kinds.items() if kind == "split"] == [
        *("shared", "unique-3", "sessions-2", "cluster", "category", "random")
    ]
    sets = [case for case, kind in kinds.items() if kind == "test set"]
    assert sets == ["synthetic", "vision", "imagery", "attention"]
    assert kinds["rank-5" if 5 in cases.ranks else f"rank-{cases.ranks[0]}"] == "bottleneck"
    assert kinds["betas"] == "betas"


def test_the_shared_case_is_the_plain_protocol(cases):
    assert cases.find_protocol("shared") == "corrected"
    assert cases.find_protocol("cluster") == "corrected@cluster"
    assert cases.find_decoded("shared", "z") == "results/{subject}/corrected/decoded/z.npy"
    assert cases.find_responses("shared", "early") == "results/{subject}/responses/early.h5"


@pytest.mark.parametrize(
    ("case", "tables"),
    [
        *(("cluster", "cluster"), ("half-1", "half-1"), ("rank-2", "shared"), ("mean", "shared")),
        *(
            ("betas", "shared"),
            ("hour-tuned", "hour"),
            ("others", "hour-all"),
            ("vision", "vision"),
        ),
        *(("cluster-true", "cluster"), ("imagery-true", "imagery")),
    ],
)
def test_tables_that_apply_to_a_case(cases, case, tables):
    assert cases.find_table(case) == f"results/{{subject}}/cases/{tables}/images.tsv"


def test_images_without_captions_have_no_score_of_c(cases):
    assert "c" in cases.list_scored("cluster")
    assert "c" not in cases.list_scored("imagery")
    assert "z" in cases.list_scored("imagery")


def test_true_features_stand_in_for_decoded_ones(cases):
    assert cases.find_given("cluster-true", "zc", "c") == "results/{subject}/features/c.npy"
    true = "results/{subject}/cases/vision/features/z.npy"
    assert cases.find_given("vision-true", "z", "z") == true
    assert cases.find_given("vision-true", "z", "c") == []
    decoded = "results/{subject}/corrected@vision/decoded/c.npy"
    assert cases.find_given("vision", "zc", "c") == decoded


def test_pictures_and_their_ceiling(cases):
    pictures = "results/{{subject}}/{}/reconstructions/{}.h5".format
    own = {"zc": pictures("corrected@cluster", "zc")}
    ceiling = {"ceiling": pictures("corrected@cluster-true", "zc")}
    assert cases.list_pictures("cluster") == {
        name: path.replace("{{", "{").replace("}}", "}") for name, path in (own | ceiling).items()
    }
    assert "ceiling" not in cases.list_pictures("imagery")
    assert cases.find_ceiling("imagery") == "vision"
    # Without captions there is no ceiling, only what the generator makes of z.
    assert cases.list_pictures("vision")["true-z"].endswith("@vision-true/reconstructions/z.h5")
    assert "ceiling" not in cases.list_pictures("vision")
    assert cases.find_ceiling("hour-tuned") == "hour-all"
    assert cases.find_ceiling("mean") == "shared"
    assert list(cases.list_pictures("true-caption")) == ["c"]
    assert list(cases.list_pictures(cases.noise[0])) == ["zc"]


def test_encoders_of_captions_are_not_tested_on_pictures_without():
    cases = list_cases(load_settings({"generalisation": {"encoders": ["c"]}}))
    assert "cluster" in cases.encoded
    assert not {"synthetic", "vision"} & {*cases.encoded}


def test_encoders_of_other_responses_have_those_that_cases_need():
    centred = load_settings({"encoding": {"zscore": False}})
    cases = list_cases(centred)
    assert cases.list_forms("half-1", "cortex") == ["centred/averages", "zscored/averages"]
    assert cases.list_forms("cluster", "cortex") == ["zscored/averages"]
    assert list_forms(centred, "cortex") == ["centred/averages", "zscored/averages"]


def test_one_subject_has_no_others_to_learn_from():
    cases = list_cases(load_settings({"subjects": ["subj01"]}))
    assert not {"hour-aligned", "hour-tuned", "others"} & {*cases.kinds}
    assert "hour" in cases.kinds


def test_nothing_is_made_without_a_space():
    own = {"space": None, "splits": []}
    settings = load_settings({"generalisation": own, "nsd": {"test_sets": ["shared"]}})
    assert list_cases(settings).list_targets() == []


def test_targets_are_files_of_no_usual_run(cases):
    targets = cases.list_targets()
    assert "results/report/generalisation.html" in targets
    assert "results/subj02/figures/nsd_imagery.png" in targets
