"""Whether the p-value of ``ts.related`` is exact, and what it says of networks that are related or were trained alike.

    python bench/related.py [--controls N] [--to FILE]

*Controls* are pairs that are independent by construction: degree-kept copies (``ts.degree_kept``) of neighbours in a
chain of the demo's networks, 64-200-200-200-10, 1 % of the connections moved from one to the next: half of them before
training, half after 200 epochs of SET. *Related* are pairs of that chain and of the published networks
(``TOPOSTRATA_REFERENCE_TOPOLOGIES``, default ../shared/set-topologies), hidden units renamed. *Trained alike* are
networks of the demo that differ in all but their widths, number of connections and training data. All seeds are fixed.
Prints the section of docs/benchmarks-ancestry.md; exit 1 where a control's p-value is not uniform (Kolmogorov-Smirnov
p .01 or less, or more than 5.5 % below .05), or a published pair is not at the smallest possible p in every layer.
Needs the extra ``demo``; about ten minutes of one core.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from overlap import published, renamed
from scipy.stats import kstest
from surroundings import surroundings

import topostrata as ts
from topostrata.lineage.related import Relatedness
from topostrata.service.demo.training import Digits, family, load_digits, train

SEED = 20261127
WIDTH, EPOCHS, CHAIN, ALIKE = 200, 200, 4, 4
CONTROL_TESTS, TESTS = 199, 999
LEAST_KS, MOST_BELOW = 0.01, 0.055


def trained(seed: int, networks: int, data: Digits) -> list[tuple[ts.Topology, ts.Topology]]:
    """A chain of networks, each before training and after."""
    pairs = []
    for member in family(seed=seed, networks=networks, perturb=0.01, epsilon=4.0, hidden=(WIDTH, WIDTH, WIDTH)):
        first, *_, last = train(member, data, epochs=EPOCHS)
        pairs.append((first.topology, last.topology))
    return pairs


def controls(networks: Sequence[ts.Topology], count: int, seed: int) -> Iterator[Relatedness]:
    """The answers about so many pairs of independent copies of neighbours."""
    for k in range(count):
        sides = networks[k % (len(networks) - 1)], networks[k % (len(networks) - 1) + 1]
        a, b = (ts.degree_kept(network, [SEED, seed, k, side]) for side, network in enumerate(sides))
        yield ts.related(a, b, tests=CONTROL_TESTS, seed=2 * k + seed)  # no two controls with the same exchanges
        if k % 100 == 99:
            print(f"{k + 1} controls, {time.process_time():.0f} s of CPU", file=sys.stderr, flush=True)


def control_rows(answers: dict[str, list[Relatedness]], missed: list[str]) -> Iterator[str]:
    """A row for each tested layer, of each group and of all together."""
    yield "| controls | layer | pairs | mean p | p below .05 | KS against uniform, p |"
    yield "| --- | --- | ---: | ---: | ---: | ---: |"
    groups = {**answers, "all": [answer for group in answers.values() for answer in group]}
    for name, group in groups.items():
        for row in range(len(group[0].layers)):
            p = np.array([answer.layers[row].p for answer in group if answer.layers[row].p is not None])
            if not len(p):
                continue
            below, uniform = float((p < 0.05).mean()), float(kstest(p, "uniform").pvalue)
            layer = group[0].layers[row].name
            yield f"| {name} | {layer} | {len(p)} | {p.mean():.3f} | {below:.1%} | {uniform:.3f} |"
            if name == "all" and (uniform <= LEAST_KS or below > MOST_BELOW):
                missed.append(f"controls, layer {layer}: {below:.1%} below .05, KS p {uniform:.3f}")


def pair_rows(name: str, pairs: Iterable[tuple[ts.Topology, ts.Topology]], missed: list[str] | None) -> Iterator[str]:
    """A row for each tested layer of these pairs, units of both renamed."""
    answers, seconds = [], []
    for k, (a, b) in enumerate(pairs):
        first, second = renamed(a, 2 * k)[0], renamed(b, 2 * k + 1)[0]
        begin = time.process_time()
        answers.append(ts.related(first, second, tests=TESTS, seed=k))
        seconds.append(time.process_time() - begin)
    for row in range(len(answers[0].layers)):
        tested = [answer.layers[row] for answer in answers if answer.layers[row].p is not None]
        if not tested:
            continue
        p = np.array([layer.p for layer in tested])
        z = np.array([layer.z for layer in tested])
        least = int((p == 1 / (TESTS + 1)).sum())
        yield (
            f"| {name} | {tested[0].name} | {len(p)} | {least} | {int((p < 0.05).sum())} | {p.max():.3f} "
            f"| {z.min():.1f} to {z.max():.1f} | {np.median(seconds):.2f} |"
        )
        if missed is not None and least < len(p):
            missed.append(f"{name}, layer {tested[0].name}: {least} of {len(p)} pairs at the smallest p")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--controls", type=int, default=2000)
    parser.add_argument("--to", type=Path)
    chosen = parser.parse_args()
    missed: list[str] = []
    data = load_digits()
    chain = trained(SEED, CHAIN, data)
    early, late = ([states[at] for states in chain] for at in (0, 1))
    alike = [trained(SEED + k, 1, data)[0] for k in range(1, ALIKE + 1)]
    lines = ["| pairs | layer | pairs | at the smallest p | p below .05 | largest p | z | CPU s a pair |"]
    lines += ["| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    networks = published()
    for epoch in sorted({int(name.partition("@")[2]) for name in networks}):
        of_epoch = [network for name, network in networks.items() if name.endswith(f"@{epoch}")]
        lines += pair_rows(f"published, epoch {epoch}", itertools.combinations(of_epoch, 2), missed)
    lines += pair_rows("demo chain, epoch 0", itertools.combinations(early, 2), None)
    lines += pair_rows(f"demo chain, epoch {EPOCHS}", itertools.combinations(late, 2), None)
    lines += pair_rows("trained alike, epoch 0", itertools.combinations([first for first, _ in alike], 2), None)
    lines += pair_rows(f"trained alike, epoch {EPOCHS}", itertools.combinations([last for _, last in alike], 2), None)
    print("\n".join(lines), file=sys.stderr, flush=True)
    half = chosen.controls // 2
    answers = {
        "epoch 0": list(controls(early, half, 0)),
        f"epoch {EPOCHS}": list(controls(late, half, 1)),
    }
    lines = [*control_rows(answers, missed), "", *lines]
    made = f"`python bench/related.py --controls {chosen.controls}`, {surroundings('numpy', 'scipy')}"
    text = "\n".join([f"{made}, {time.process_time():.0f} s of CPU.", "", *lines, ""])
    print(text)
    if chosen.to is not None:
        chosen.to.write_text(text, encoding="utf-8")
    if missed:
        sys.exit("\n".join(missed))


if __name__ == "__main__":
    main()
