"""Arms by name."""

from pathlib import Path

import pytest

from hdml.arms import CONTROLS, DEFAULT_ARMS, Frozen, arm_spec, arm_specs, trials
from indexing.errors import HdmlError


def test_default_arms_and_controls_are_arms() -> None:
    assert [spec.name for spec in arm_specs([*DEFAULT_ARMS, *CONTROLS])] == [*DEFAULT_ARMS, *CONTROLS]


def test_name_says_loss_method_and_changes() -> None:
    spec = arm_spec("multi-similarity+hdml  no-pull residual paper")
    assert spec.name == "multi-similarity+hdml no-pull residual paper"
    assert spec.settings == {
        "loss": "multi-similarity",
        "method": "hdml",
        "variants": ("no-pull", "residual"),
        "setting": "paper",
    }
    assert arm_spec("npair equal-compute").equal_compute
    assert not arm_spec("untrained").trains


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "got 'nothing'"),
        ("npair+more", r"got 'npair\+more'"),
        ("proxy-anchor+hdml", r"no arm proxy-anchor\+hdml: it compares every photo with learned proxies"),
        ("npair+hdml quickly", "got 'quickly'"),
        ("npair no-pull", r"no-pull is a change of HDML.*say npair\+hdml no-pull"),
        ("", "got ''"),
    ],
)
def test_what_is_no_arm_is_refused_with_what_is_wrong(name: str, said: str) -> None:
    with pytest.raises(HdmlError, match=said):
        arm_spec(name)


def test_frozen_arms_embed_by_weights_or_by_an_encoder(tmp_path: Path) -> None:
    encoder = tmp_path / "encoder.onnx"
    encoder.write_bytes(b"")
    assert arm_spec("untrained whitened").frozen == Frozen(whiten=True)
    assert arm_spec("frozen resnet50").settings == {"backbone": "resnet50", "weights": "imagenet"}
    assert arm_spec("frozen resnet18:some/weights.pth whitened").settings["weights"] == "some/weights.pth"
    assert arm_spec(f"frozen {encoder}").frozen == Frozen(whiten=False, encoder=encoder)
    assert "/" not in arm_spec(f"frozen {encoder}").slug


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("frozen", "got 'frozen'"),
        ("frozen missing.onnx", r"no file missing\.onnx"),
        ("untrained resnet50", "got 'untrained resnet50'; other networks are frozen NETWORK"),
    ],
)
def test_what_is_no_frozen_arm_is_refused(name: str, said: str) -> None:
    with pytest.raises(HdmlError, match=said):
        arm_spec(name)


def test_arm_named_twice_is_refused() -> None:
    with pytest.raises(HdmlError, match="npair is named twice"):
        arm_specs(["npair", "untrained", " npair"])


@pytest.mark.parametrize(
    ("name", "changed"),
    [("npair+hdml tuned", "alpha"), ("npair tuned", "regulariser"), ("multi-similarity tuned", "loss_options")],
)
def test_tuned_arms_have_as_many_trials_with_the_default_among_them(name: str, changed: str) -> None:
    found = trials(arm_spec(name))
    assert [list(trial) for trial in found] == [[changed]] * 3
    values = [next(iter(trial[changed].values())) if changed == "loss_options" else trial[changed] for trial in found]
    assert values[0] < values[1] < values[2]
    defaults = {"alpha": 0.25, "regulariser": 0.1, "loss_options": 2.0}
    assert values[1] == defaults[changed]


def test_tuned_arms_of_the_paper_setting_have_its_own_default_among_their_trials() -> None:
    """0.25 in units of the loss at chance would be no α at all among the authors' 90."""
    assert trials(arm_spec("npair+hdml paper tuned"))[1] == {"alpha": 90.0}
    assert trials(arm_spec("npair paper tuned"))[1] == {"regulariser": 3e-3}
