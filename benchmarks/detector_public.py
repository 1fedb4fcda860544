"""How well the detector tells trouble on public data: `python benchmarks/detector_public.py [--data FOLDER]`.

The folder holds one folder of `.npz` files per set: `asd` and `jumpstarter` with a row every 5 minutes, `smd` with one
a minute; without it the benchmark says so and ends. The method is that of `pilotlight detector evaluate`
(docs/detector.md).

`--quick` runs every method with one seed instead of five.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import Bar, machine, report
from pilotlight.detector.evaluation.protocol import evaluate
from pilotlight.detector.evaluation.series import read_folder

BESIDE = Path(__file__).parents[2] / "shared" / "data" / "anomaly"
SETS = {"asd": 5.0, "jumpstarter": 5.0, "smd": 1.0}
GAIN = 0.06
"""Event recall above PCA's that is asked for."""


def bars(name: str, found: Mapping[str, Any]) -> list[Bar]:
    methods = found["methods"]
    ours, pca, knn = methods["pilotlight"], methods["pca"], methods["knn"]
    recall, asked = ours["event_recall"], pca["event_recall"] + GAIN
    made = [
        Bar(
            "detector_public",
            f"{name} event recall",
            f"{recall:.3f} +- {ours['event_recall_std']:.3f}",
            f"at least {asked:.3f}, PCA's and {GAIN}",
            recall >= asked,
        ),
        Bar(
            "detector_public",
            f"{name} false alarms per entity and day",
            f"{ours['false_alarms_per_day']:.2f}",
            f"at most {found['budget']:g}",
            ours["false_alarms_per_day"] <= found["budget"],
        ),
        Bar(
            "detector_public",
            f"{name} VUS-PR",
            f"{ours['vus_pr']:.3f}",
            f"above kNN's {knn['vus_pr']:.3f}",
            ours["vus_pr"] > knn["vus_pr"],
        ),
    ]
    return made + (_label_bars(name, found["labels"]) if found["labels"] else [])


def _label_bars(name: str, curves: Mapping[str, Any]) -> list[Bar]:
    ours, regression = curves["pilotlight"], curves["logistic_regression"]
    return [
        Bar("detector_public", f"{name} {key} of ten labels over {other}", f"{gain:+.4f}", "above 0", gain > 0)
        for key in ("event_recall", "vus_pr")
        for other, less in (("none", ours["0"]), ("logistic regression", regression["10"]))
        for gain in (ours["10"][key] - less[key],)
    ]


def show(name: str, found: Mapping[str, Any]) -> None:
    print(f"{name}: {found['entities']} entities, {found['events']} events, {found['days']:.0f} days")
    for part in ("methods", "same_alarms"):
        for method, figures in found[part].items():
            print(f"{name} {part} {method}: {_line(figures)}")
    for learner, curve in (found["labels"] or {}).items():
        for count, figures in curve.items() if isinstance(curve, Mapping) else ():
            print(f"{name} {learner} with {count} labels: {_line(figures)}")


def _line(figures: Mapping[str, Any]) -> str:
    return (
        f"recall {figures['event_recall']:.3f} +- {figures['event_recall_std']:.3f}, "
        f"false {figures['false_alarms_per_day']:.2f} a day, delay {figures['delay_windows']}, "
        f"VUS-PR {figures['vus_pr']:.3f}, AUC-PR {figures['auc_pr']:.3f} ({', '.join(figures['rules'])})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="How well the detector tells trouble on public data.")
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--data", type=Path, default=BESIDE, metavar="FOLDER", help="folder of the sets' folders")
    parser.add_argument("--sets", nargs="+", choices=sorted(SETS), default=list(SETS), help="which of them")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"detector_public: skipped, there is no {options.data}; name a folder with --data")
        return
    facts, found, made = machine(), {}, []
    for name in options.sets:
        found[name] = evaluate(read_folder(options.data / name), SETS[name], 1 if options.quick else 5)
        show(name, found[name])
        made += bars(name, found[name])
    report({"machine": facts, "sets": found}, made, options.json)


if __name__ == "__main__":
    main()
