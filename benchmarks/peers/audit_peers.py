"""What the peers find in a gallery, as JSON: run by benchmarks/audit.py with a peer's own Python, without anything of hdml.

    python audit_peers.py PEER GALLERY VECTORS.npz OUT.json

VECTORS.npz holds paths, labels and vectors of the index, so that every peer that takes embeddings is given the same ones. Written
are ``pairs`` of duplicates, ``labels`` and ``outliers`` as the peer flags them at its defaults, ``ranked`` lists where it has
scores, and ``options`` with the same of further settings.
"""

import json
import sys
from itertools import combinations
from pathlib import Path

import numpy as np


def cleanvision(gallery, data):
    from cleanvision import Imagelab

    lab = Imagelab(filepaths=[str(gallery / path) for path in data["paths"]])  # one broken file would end it
    lab.find_issues()
    sets = [group for kind in ("exact_duplicates", "near_duplicates") for group in lab.info[kind]["sets"]]
    odd = [name for name in lab.issues if name.startswith("is_") and "duplicates" not in name]
    flagged = lab.issues.index[lab.issues[odd].any(axis=1)]
    return {"pairs": _pairs(sets, gallery), "outliers": [_relative(path, gallery) for path in flagged]}


def imagededup(gallery, data):
    from imagededup.methods import PHash

    hasher = PHash()
    codes = {str(gallery / path): hasher.encode_image(image_file=gallery / path) for path in data["paths"].tolist()}
    found = hasher.find_duplicates(encoding_map=codes)
    return {
        "pairs": sorted(
            {tuple(sorted((_relative(a, gallery), _relative(b, gallery)))) for a, others in found.items() for b in others}
        )
    }


def cleanlab(gallery, data):
    from cleanlab import Datalab
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    _, labels = np.unique(data["labels"], return_inverse=True)
    large = np.bincount(labels)[labels] >= 5
    paths = data["paths"][large]
    _, dense = np.unique(labels[large], return_inverse=True)
    predicted = cross_val_predict(
        LogisticRegression(max_iter=1000, C=10), data["vectors"][large], dense, cv=5, method="predict_proba"
    )
    flagged = find_label_issues(dense, predicted, return_indices_ranked_by="self_confidence")
    ranked = np.argsort(get_label_quality_scores(dense, predicted))
    lab = Datalab(data={"path": data["paths"].tolist()}, verbosity=0)
    lab.find_issues(features=data["vectors"], issue_types={"outlier": {}})
    outliers = lab.get_issues("outlier")
    score = outliers["outlier_score"].to_numpy()
    return {
        "labels": paths[flagged].tolist(),
        "ranked_labels": paths[ranked].tolist(),
        "ranked_outliers": data["paths"][np.argsort(score)].tolist(),
        "outliers": data["paths"][outliers["is_outlier_issue"].to_numpy()].tolist(),
        "options": {"share of the median score": {"outliers": data["paths"][score < 0.37037 * np.median(score)].tolist()}},
    }


def fiftyone(gallery, data):
    import fiftyone as fo
    import fiftyone.brain as fob
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    dataset = fo.Dataset()
    samples = [
        fo.Sample(filepath=str(gallery / path), truth=fo.Classification(label=label))
        for path, label in zip(data["paths"], data["labels"])
    ]
    dataset.add_samples(samples)
    at = {sample.id: path for sample, path in zip(samples, data["paths"].tolist())}
    exact = [(at[one], at[other]) for one, others in fob.compute_exact_duplicates(dataset).items() for other in others]
    options = {}
    for threshold in (None, 0.02, 0.05, 0.1):
        asked = {} if threshold is None else {"threshold": threshold}
        index = fob.compute_near_duplicates(dataset, embeddings=data["vectors"], **asked)
        near = [(at[one], at[other[0]]) for one, others in index.neighbors_map.items() for other in others]
        pairs = sorted(map(list, {tuple(sorted(pair)) for pair in [*exact, *near]}))
        options["default" if threshold is None else f"threshold {threshold}"] = {"pairs": pairs}
    _, labels = np.unique(data["labels"], return_inverse=True)
    large = np.bincount(labels)[labels] >= 5
    dense_names, dense = np.unique(data["labels"][large], return_inverse=True)
    predicted = cross_val_predict(
        LogisticRegression(max_iter=1000, C=10), data["vectors"][large], dense, cv=5, method="predict_proba"
    )
    for sample, row in zip([each for each, big in zip(samples, large) if big], predicted):
        best = int(row.argmax())
        sample["guess"] = fo.Classification(label=str(dense_names[best]), confidence=float(row[best]), logits=np.log(row + 1e-12))
        sample.save()
    view = dataset.exists("guess")
    fob.compute_mistakenness(view, "guess", label_field="truth", use_logits=True)
    fob.compute_uniqueness(dataset, embeddings=data["vectors"])
    scored = sorted(view, key=lambda sample: -sample["mistakenness"])
    unique = sorted(dataset, key=lambda sample: -sample["uniqueness"])
    return {
        **options.pop("default"),
        "options": options,
        "ranked_labels": [at[sample.id] for sample in scored],
        "labels": [at[sample.id] for sample in scored if sample["mistakenness"] > 0.5],
        "ranked_outliers": [at[sample.id] for sample in unique],
    }


def _pairs(groups, gallery):
    return sorted(
        {tuple(sorted(_relative(path, gallery) for path in pair)) for group in groups for pair in combinations(group, 2)}
    )


def _relative(path, gallery):
    return Path(path).relative_to(gallery).as_posix()


if __name__ == "__main__":
    peer, folder, vectors, out = sys.argv[1:]
    loaded = np.load(vectors)
    answer = globals()[peer](Path(folder).resolve(), {name: loaded[name] for name in loaded.files})
    Path(out).write_text(json.dumps(answer))
