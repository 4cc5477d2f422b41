"""How well a comparison's models find what was photographed on one visit among the photos of another.

    python tools/visits.py COMPARISON [--queries GLOB] [--json FILE]

COMPARISON is a finished folder of ``hdml compare``. The test photos whose file names match the glob ask, and those that do not
are the gallery; in the Grocery Store Dataset names beginning with ``test_`` tell photos of other shop visits than
``train_`` and ``val_``. Arms are held against one another as in the comparison's own report.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hdml.arms import ArmSpec, arm_specs
from hdml.compare import COMPARISON, cell_folder, comparisons
from hdml.comparison import points
from hdml.config import TrainConfig
from hdml.evaluate import Evaluation, evaluate_retrieval
from hdml.fit import load_trained
from hdml.measure import embed_with_network, read_recorded, recorded_split
from hdml.model import EncoderNetwork
from hdml.run import read_record
from hdml.significance import judge_arms
from hdml.trainee import starting_backbone

MEASURES: dict[str, Callable[[Evaluation], float]] = {
    "R@1": lambda evaluation: evaluation.recall_at_k[1],
    "MAP@R": lambda evaluation: evaluation.map_at_r,
}


def measure(run: Path, queries: str) -> Evaluation:
    """Of the model of one run, on its test photos."""
    record = read_record(run)
    config = TrainConfig(**record["config"])
    if record["method"] == "untrained":
        network = EncoderNetwork(starting_backbone(config), None)
    else:
        model, *_ = load_trained(run, config)
        network = EncoderNetwork(model.backbone, model.head)
    test = recorded_split(run, read_recorded(record)).test_set
    if test is None or test.gallery is not None:
        raise SystemExit(f"{run} has no test photos that search one another")
    photos = test.queries
    embeddings = embed_with_network(network, photos, config.image_size, torch.device("cpu"))
    asks = np.array([path.match(queries) for path in photos.paths])
    return evaluate_retrieval(embeddings[asks], photos.labels[asks], embeddings[~asks], photos.labels[~asks])


def differences(specs: list[ArmSpec], found: dict[str, list[Evaluation]]) -> list[dict[str, Any]]:
    """Every paired difference, with its interval and verdict."""
    pairs = []
    for reference, compared in comparisons(specs):
        for name, of in MEASURES.items():
            base = np.array([of(evaluation) for evaluation in found[reference]])
            judged = judge_arms({arm: np.array([of(evaluation) for evaluation in found[arm]]) - base for arm in compared})
            for arm, verdict in judged.items():
                interval = {"difference": verdict.difference, "low": verdict.low, "high": verdict.high}
                pairs.append({"arm": arm, "against": reference, "measure": name, **interval, "verdict": str(verdict.verdict)})
    return pairs


def main() -> None:
    """Print the arms, then their differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path, help="folder of a finished comparison")
    parser.add_argument("--queries", default="test_*", help="file names of the photos that ask")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    plan = json.loads((options.comparison / COMPARISON).read_text(encoding="utf-8"))["plan"]
    specs = arm_specs(plan["arms"])
    found: dict[str, list[Evaluation]] = {}
    print(f"| arm | {' | '.join(MEASURES)} |\n|---|{'---|' * len(MEASURES)}")
    for spec in specs:
        runs = [cell_folder(options.comparison, spec, seed) for seed in range(plan["seeds"])]
        found[spec.name] = [measure(run, options.queries) for run in runs]
        values = [100 * np.array([of(evaluation) for evaluation in found[spec.name]]) for of in MEASURES.values()]
        print(f"| {spec.name} | {' | '.join(f'{each.mean():.1f} ± {each.std(ddof=1):.1f}' for each in values)} |", flush=True)
    pairs = differences(specs, found)
    print("\n| arm | against | measure | difference | verdict |\n|---|---|---|---|---|")
    for pair in pairs:
        interval = f"{points(pair['difference'])} ({points(pair['low'])} to {points(pair['high'])})"
        print(f"| {pair['arm']} | {pair['against']} | {pair['measure']} | {interval} | {pair['verdict']} |")
    if options.json is not None:
        arms = {name: {m: [of(e) for e in seeds] for m, of in MEASURES.items()} for name, seeds in found.items()}
        options.json.write_text(json.dumps({"queries": options.queries, "arms": arms, "paired": pairs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
