"""Break the method one line at a time and see the test that guards the line fail: what ``make mutants`` runs.

Every mutant is a fault that ports of HDML have, or could have, without anybody noticing: training goes on, and the figures are
of something else. The table in docs/method.md is printed by ``python tools/mutants.py --table``.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
COPIED = ("hdml", "indexing", "cli", "app", "tests", "pyproject.toml")
_FAILED = 1  # pytest's exit status when tests ran and some failed; others mean that they never ran


class Mutant(NamedTuple):
    """A fault and what finds it.

    Attributes:
        name: of the fault, in words.
        trap: number of the trap in docs/method.md, or a dash.
        file: below the repository.
        old: a part of one line that is there exactly once.
        new: what stands there in the mutant.
        tests: ids of the tests, one of which has to fail.
    """

    name: str
    trap: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _tests(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"tests/hdml/{file}.py::{name}" for name in names)


MUTANTS = (
    Mutant(
        "J_avg of the weighted loss",
        "1",
        "hdml/hardness.py",
        "self.metric_loss_avg.add(logged)",
        "self.metric_loss_avg.add(metric)",
        _tests("test_train", "test_running_mean_sees_the_raw_loss_and_not_the_weighted_one"),
    ),
    Mutant(
        "J_avg of the raw loss in the paper setting",
        "1",
        "hdml/hardness.py",
        "self.metric_loss_avg.add(logged)",
        "self.metric_loss_avg.add(real)",
        _tests("test_hardness", "test_paper_setting_averages_the_weighted_loss_with_its_penalties"),
    ),
    Mutant(
        "α in units of the loss whatever its reduction",
        "2",
        "hdml/hardness.py",
        "self.alpha * (1.0 if self.paper else self.loss.at_chance)",
        "self.alpha",
        _tests("test_hardness", "test_one_alpha_gives_one_share_at_the_same_part_of_chance"),
    ),
    Mutant(
        "J_recon in units of the backbone",
        "2",
        "hdml/losses.py",
        "return (features - reconstructed).square().sum() / variance.clamp_min(torch.finfo(features.dtype).tiny)",
        "return (features - reconstructed).square().sum()",
        _tests("test_losses", "test_reconstruction_loss_is_one_for_the_mean_photo_and_does_not_depend_on_scale"),
    ),
    Mutant(
        "the paper setting's triplets meaned, so that α = 7 pulls all the way",
        "2",
        "hdml/losses.py",
        "return hinges.sum() if summed else _mean(hinges)",
        "return _mean(hinges)",
        _tests("test_train", "test_paper_setting_sums_triplets_in_thirds[hdml]"),
    ),
    Mutant(
        "0/0 in the branch not taken",
        "3",
        "hdml/losses.py",
        ".clamp_min(torch.finfo(vectors.dtype).tiny).sqrt()",
        ".sqrt()",
        _tests("test_synthesis", "test_pull_of_coinciding_points_is_finite_with_its_gradients"),
    ),
    Mutant(
        "synthetic rows in the head's running statistics",
        "4",
        "hdml/synthesis.py",
        "head(generated[members]) if trace else leaving_no_trace(head, generated[members], frozen=False)",
        "head(generated[members])",
        _tests("test_hardness", "test_statistics_of_the_users_own_head_see_real_photos_alone"),
    ),
    Mutant(
        "synthetic rows out of them in the paper setting",
        "4",
        "hdml/hardness.py",
        '"out-of-statistics" not in variants if self.paper else "in-statistics" in variants',
        '"in-statistics" in variants',
        _tests("test_hardness", "test_head_counts_the_batches_that_its_statistics_learn_from"),
    ),
    Mutant(
        "anchor and positive drawn with replacement",
        "5",
        "hdml/sampling.py",
        "drawn = random.choice(photos, enough, replace=False)",
        "drawn = random.choice(photos, enough, replace=True)",
        _tests("test_sampling", "test_pairs_are_two_different_photos_of_one_class_and_classes_differ"),
    ),
    Mutant(
        "checkpoint chosen on the test classes",
        "6",
        "hdml/fit.py",
        "validation_set=validation_photos(split.validation_set, split.train_set) if split.validation_set else None,",
        "validation_set=split.test_set.queries if split.test_set else None,",
        _tests("test_fit", "test_training_is_shown_no_photo_of_a_test_class"),
    ),
    Mutant(
        "test classes among those that train and choose",
        "6",
        "hdml/class_split.py",
        "rest = [name for name in names if name not in test]",
        "rest = names",
        _tests("test_class_split", "test_split_parts_are_disjoint_and_together_whole"),
    ),
    Mutant(
        "the last model kept, whatever validation says",
        "6",
        "hdml/train.py",
        "if score >= best:",
        "if True:",
        _tests("test_train", "test_chosen_model_is_the_best_on_validation_classes"),
    ),
    Mutant(
        "K of k-means fixed at Cars196's 98",
        "7",
        "hdml/evaluate.py",
        "clusters = cluster(embeddings[labelled], classes, seed=seed, device=device)",
        "clusters = cluster(embeddings[labelled], 98, seed=seed, device=device)",
        _tests("test_evaluate", "test_nmi_and_f1_are_of_as_many_clusters_as_classes"),
    ),
    Mutant(
        "J_syn teaches the generator",
        "–",
        "hdml/synthesis.py",
        "generated = leaving_no_trace(generator, rows, frozen=True)",
        "generated = leaving_no_trace(generator, rows, frozen=False)",
        _tests("test_hardness", "test_no_loss_reaches_a_module_of_another[model]"),
    ),
    Mutant(
        "J_gen teaches head and backbone through z",
        "–",
        "hdml/hardness.py",
        "generated = self.generator(synthetic.rows.detach())",
        "generated = self.generator(synthetic.rows)",
        _tests("test_hardness", "test_no_loss_reaches_a_module_of_another[generator]"),
    ),
    Mutant(
        "J_gen teaches the backbone through y",
        "–",
        "hdml/hardness.py",
        "count, real = len(tuples.anchors), features.detach()",
        "count, real = len(tuples.anchors), features",
        _tests("test_hardness", "test_no_loss_reaches_a_module_of_another[generator]"),
    ),
    Mutant(
        "J_soft moves the classifier",
        "–",
        "hdml/hardness.py",
        "logits = F.linear(members, self.classifier.weight.detach(), self.classifier.bias.detach())",
        "logits = self.classifier(members)",
        _tests("test_hardness", "test_no_loss_reaches_a_module_of_another[generator]"),
    ),
    Mutant(
        "the classifier's loss teaches the backbone",
        "–",
        "hdml/hardness.py",
        "classification = F.cross_entropy(self.classifier(features.detach()), labels)",
        "classification = F.cross_entropy(self.classifier(features), labels)",
        _tests("test_hardness", "test_no_loss_reaches_a_module_of_another[classifier]"),
    ),
    Mutant(
        "J_syn does not reach the backbone",
        "–",
        "hdml/synthesis.py",
        "rows = torch.cat([embeddings.to(pulled.dtype), pulled.flatten(0, 1)])",
        "rows = torch.cat([embeddings.to(pulled.dtype), pulled.flatten(0, 1)]).detach()",
        _tests("test_train", "test_synthetic_loss_reaches_the_backbone_through_generator_and_pull[npair]"),
    ),
    Mutant(
        "the distances of the pull carry no gradient",
        "–",
        "hdml/synthesis.py",
        "offset * ((share * d_an + (1 - share) * d_ap) / d_an)",
        "offset * ((share * d_an + (1 - share) * d_ap) / d_an).detach()",
        _tests("test_synthesis", "test_pull_equals_loop_with_gradients"),
    ),
    Mutant(
        "every anchor meets the synthetics of the next",
        "–",
        "hdml/synthesis.py",
        "negatives=embedded[2 * count :].unflatten(0, pulled.shape[:2]),",
        "negatives=embedded[2 * count :].unflatten(0, pulled.shape[:2]).roll(1, 0),",
        _tests("test_hardness", "test_objective_equals_loops_with_gradients[default]"),
    ),
    Mutant(
        "every anchor meets the synthetics of all",
        "–",
        "hdml/losses.py",
        "torch.cat([to_positive, to_negatives], 1).logsumexp(1) - to_positive[:, 0]",
        "torch.cat([to_positive, anchors @ negatives.flatten(0, 1).T], 1).logsumexp(1) - to_positive[:, 0]",
        _tests("test_losses", "test_negatives_reach_only_their_own_anchor[npair]"),
    ),
    Mutant(
        "λ grows as the loss falls",
        "–",
        "hdml/synthesis.py",
        "return _exp_of_ratio(metric_loss_avg, alpha)",
        "return 1 - _exp_of_ratio(metric_loss_avg, alpha)",
        _tests("test_synthesis", "test_pulling_share_at_its_ends"),
    ),
    Mutant(
        "λ is the part pulled, not the part kept",
        "–",
        "hdml/synthesis.py",
        "((share * d_an + (1 - share) * d_ap) / d_an)",
        "((share * d_ap + (1 - share) * d_an) / d_an)",
        _tests("test_synthesis", "test_pulled_negative_lies_at_the_distance_of_the_equation"),
    ),
    Mutant(
        "d⁺ of another anchor's positive",
        "–",
        "hdml/synthesis.py",
        "pulled = pull(anchors[:, None], positives[:, None], negatives, share)",
        "pulled = pull(anchors[:, None], positives.roll(1, 0)[:, None], negatives, share)",
        _tests("test_synthesis", "test_synthetic_tuples_equal_loop"),
    ),
    Mutant(
        "the positive does not pass the generator",
        "–",
        "hdml/synthesis.py",
        "positives=embedded[count : 2 * count],",
        "positives=positives,",
        _tests("test_synthesis", "test_synthetic_tuples_equal_loop"),
    ),
    Mutant(
        "the anchor does not pass the generator",
        "–",
        "hdml/synthesis.py",
        "anchors=embedded[:count],",
        "anchors=anchors,",
        _tests("test_synthesis", "test_synthetic_tuples_equal_loop"),
    ),
    Mutant(
        "a poor generator puts the weight on synthetics",
        "–",
        "hdml/hardness.py",
        "metric = weight * real + synthetic_weight * synthetic_loss + penalty",
        "metric = synthetic_weight * real + weight * synthetic_loss + penalty",
        _tests("test_hardness", "test_objective_equals_loops_with_gradients[default]"),
    ),
    Mutant(
        "losses that see directions pulled along the segment",
        "–",
        "hdml/synthesis.py",
        "pull = pull_on_sphere if on_sphere else pull_negatives",
        "pull = pull_negatives",
        _tests("test_hardness", "test_losses_that_normalise_see_the_distance_of_the_pull"),
    ),
    Mutant(
        "the paper setting decays BatchNorm, which J_avg holds",
        "–",
        "hdml/trainee.py",
        "if not isinstance(module, nn.modules.batchnorm._BatchNorm)",
        "if True",
        _tests("test_train", "test_paper_setting_decays_weights_through_the_loss"),
    ),
)


def main() -> None:
    """Print the table, or run every mutant and leave with status 1 when one survives or cannot be judged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print the table of docs/method.md and run nothing")
    if parser.parse_args().table:
        print(table(MUTANTS))
        return
    sys.exit(run_mutants(MUTANTS, ROOT))


def run_mutants(mutants: Sequence[Mutant], root: Path, copied: Sequence[str] = COPIED) -> int:
    """See every mutant fail in a copy of the packages at ``root``; prints what became of each and returns an exit status."""
    broken = _failing_unmutated(mutants, root, copied)

    def judged(mutant: Mutant) -> str:
        return "test fails unmutated" if mutant.tests in broken else judge(mutant, root, copied)

    killed = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for mutant, verdict in zip(mutants, pool.map(judged, mutants), strict=True):
            killed += verdict == "killed"
            print(f"{verdict:<8} {mutant.trap}  {mutant.name}  ({mutant.file})", flush=True)
    print(f"{killed} of {len(mutants)} mutants were killed by the tests named for them")
    return 0 if killed == len(mutants) else 1


def judge(mutant: Mutant, root: Path, copied: Sequence[str] = COPIED) -> str:
    """``killed`` when a named test fails on the mutant, else what is wrong."""
    text = (root / mutant.file).read_text(encoding="utf-8")
    if (found := text.count(mutant.old)) != 1:
        return f"old line found {found} times"
    with _copy(root, copied) as copy:
        (copy / mutant.file).write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        status = _pytest(mutant.tests, copy)
    if status == _FAILED:
        return "killed"
    return "SURVIVED" if status == 0 else f"tests did not run (pytest's status {status})"


def table(mutants: Sequence[Mutant]) -> str:
    """The mutants as a table in Markdown."""
    rows = ["| fault | trap | in | line | becomes | test that fails |", "|---|---|---|---|---|---|"]
    for mutant in mutants:
        tests = ", ".join(f"`{test.removeprefix('tests/hdml/')}`" for test in mutant.tests)
        rows.append(f"| {mutant.name} | {mutant.trap} | `{mutant.file}` | `{mutant.old}` | `{mutant.new}` | {tests} |")
    return "\n".join(rows)


def _failing_unmutated(mutants: Sequence[Mutant], root: Path, copied: Sequence[str]) -> set[tuple[str, ...]]:
    """The sets of tests that do not pass as things are: one run of all of them, and only if that fails one of each set."""
    distinct = list(dict.fromkeys(mutant.tests for mutant in mutants))
    with _copy(root, copied) as copy:
        if _pytest(list(dict.fromkeys(test for tests in distinct for test in tests)), copy) == 0:
            return set()
        return {tests for tests in distinct if _pytest(tests, copy) != 0}


def _pytest(tests: Sequence[str], copy: Path) -> int:
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=copy, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


@contextmanager
def _copy(root: Path, copied: Sequence[str]) -> Iterator[Path]:
    """A folder with a copy of what is named; never are the files at ``root`` changed."""
    with tempfile.TemporaryDirectory(prefix="hdml-mutant-") as folder:
        for name in copied:
            if (root / name).is_dir():
                shutil.copytree(root / name, Path(folder, name), ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(root / name, Path(folder, name))
        yield Path(folder)


if __name__ == "__main__":
    main()
