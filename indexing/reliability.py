"""What the scores of an index mean, as one HTML file that needs nothing beside itself."""

import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from indexing.calibration import LABELS, Calibration, Share, Uncalibrated, read_calibration
from indexing.catalogue import Catalogue
from indexing.errors import HdmlError
from indexing.writing import write_whole

_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 24, 34, 44  # margins of a figure
_LEAST_RATE, _MOST_RATE = 0.0005, 1.0  # ends of the axes of rates
_DECADES = (0.001, 0.01, 0.1, 1.0)
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1c1e; --muted: #6b6a66; --grid: #e2dfd9; --paper: #fff;
  --absent: #c2410c; --present: #15803d; --held: #2f55d4; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececea; --muted: #9b9c9f; --grid: #303236; --paper: #17181a;
  --absent: #fb923c; --present: #4ade80; --held: #8fa8ff; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 760px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .3rem; text-wrap: balance; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .2rem; }
p { margin: .3rem 0; } .muted { color: var(--muted); } .note { border-left: 3px solid var(--absent); padding-left: .8rem; }
svg { display: block; width: 100%; height: auto; margin-top: .6rem; overflow: visible; }
text { font-size: 12px; fill: var(--muted); } text.strong { fill: var(--ink); font-weight: 600; }
.grid { stroke: var(--grid); } .axis { stroke: var(--muted); }
.absent { fill: var(--absent); stroke: var(--absent); } .present { fill: var(--present); stroke: var(--present); }
.area { fill-opacity: .18; stroke-width: 1.8; }
.threshold { stroke: var(--ink); stroke-width: 1.4; stroke-dasharray: 5 4; }
.held { stroke: var(--held); fill: var(--held); stroke-width: 1.8; } .asked { stroke: var(--ink); }
.matched { stroke: var(--present); fill: var(--present); stroke-width: 1.8; }
.line { fill: none; } b.absent { color: var(--absent); } b:is(.present, .matched) { color: var(--present); }
b.held { color: var(--held); }
table { border-collapse: collapse; margin-top: .6rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid var(--grid); } th { font-weight: 600; }
tr.chosen td { font-weight: 600; }
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Scores of {name}</title><style>{style}</style></head><body>
<h1>{headline}</h1>
<p class="muted">{about}</p>
{note}
<h2>Best scores of photos</h2>
<p><b class="absent">Of absent things</b>, their own label hidden from them, and <b class="present">of present ones</b>, with
others of their label. Each has an area of its own, whatever the numbers of photos.</p>
{distributions}
<h2>False matches: asked and achieved</h2>
<p>Thresholds from one half of the {things}, checked on the photos of the other: <b class="held">photos of absent things that
are called a match</b>, with 95 % intervals, and <b class="matched">photos of present things that are</b>. On the dotted line,
what is asked is what is had.</p>
{rates}
{table}
</body></html>
"""


def write_reliability(index_dir: Path, target: Path) -> None:
    """Write the page of an index; it appears when it is whole.

    Raises:
        HdmlError: the index is not calibrated, or nothing can be written there.
    """
    with Catalogue(index_dir) as catalogue:
        found = read_calibration(catalogue)
    if not isinstance(found, Calibration):
        reason = found.reason if isinstance(found, Uncalibrated) else 'nobody has looked; run "hdml index" again'
        raise HdmlError(f"a report on scores needs a calibrated index, but {index_dir.resolve().name} is not: {reason}")
    write_whole(target, to_html(found, index_dir.resolve().name))


def to_html(found: Calibration, name: str) -> str:
    """The page, whole."""
    check = found.check
    things = "labels" if found.basis == LABELS else "groups of like photos"
    wrong = check.false_matches
    return _PAGE.format(
        name=escape(name),
        style=_STYLE,
        headline=(f"{_percent(found.asked)} of false matches asked, {_percent(wrong.share)} achieved ({_between(wrong)})"),
        about=(
            f"Index {escape(name)}: match from {found.match:.4f}, no match below {found.unsure:.4f}. "
            f"{check.queries} photos of {check.labels} {things}, as of change {found.sequence}."
        ),
        note=f'<p class="note">{escape(found.note.capitalize())}.</p>' if found.note else "",
        things=things,
        distributions=_distributions(found),
        rates=_rates(found),
        table=_table(found),
    )


def _distributions(found: Calibration) -> str:
    check = found.check
    low, high = min(check.low, found.unsure), max(check.high, found.match)
    low, high = low - 0.02 * (high - low), high + 0.02 * (high - low)
    shares = {"absent": _shares(check.absent), "present": _shares(check.present)}
    most = max(max(values) for values in shares.values()) * 1.08

    def across(score: float) -> float:
        return _across((score - low) / (high - low))

    def up(share: float) -> float:
        return _up(share / most)

    width = (check.high - check.low) / len(check.absent)
    drawn = [_axes("score, cosine similarity", [(across(tick), f"{tick:g}") for tick in _ticks(low, high)], [])]
    for kind, values in shares.items():
        if not sum(values):
            continue
        corners = [
            corner for place, value in enumerate(values) for corner in ((place * width, value), ((place + 1) * width, value))
        ]
        points = [(across(check.low), up(0)), *((across(check.low + x), up(y)) for x, y in corners), (across(check.high), up(0))]
        drawn.append(f'<polygon class="area {kind}" points="{_points(points)}"/>')
    places = sorted({found.unsure, found.match})
    drawn += [
        f'<line class="threshold" x1="{across(place):.1f}" x2="{across(place):.1f}" y1="{_TOP - 4}" y2="{_HEIGHT - _BOTTOM}"/>'
        for place in places
    ]
    zones = [("no match", low, found.unsure), ("unsure", found.unsure, found.match), ("match", found.match, high)]
    drawn += [
        f'<text class="strong" text-anchor="middle" x="{across((start + end) / 2):.1f}" y="{_TOP - 14}">{words}</text>'
        for words, start, end in zones
        if across(end) - across(start) > 8 * len(words) * 0.6
    ]
    return _figure("Distributions of best scores, with the thresholds", drawn)


def _rates(found: Calibration) -> str:
    across, up = _of_rate(_across), _of_rate(_up)
    ticks = [(across(rate), _percent(rate)) for rate in _DECADES]
    drawn = [_axes("false matches asked for", ticks, [(up(rate), _percent(rate)) for rate in _DECADES])]
    chosen = across(found.asked)
    drawn.append(f'<line class="threshold" x1="{chosen:.1f}" x2="{chosen:.1f}" y1="{_TOP - 4}" y2="{_HEIGHT - _BOTTOM}"/>')
    drawn.append(f'<text class="strong" text-anchor="middle" x="{chosen:.1f}" y="{_TOP - 14}">asked</text>')
    ends = [(across(rate), up(rate)) for rate in (_LEAST_RATE, _MOST_RATE)]
    drawn.append(f'<polyline class="line grid asked" stroke-dasharray="2 4" points="{_points(ends)}"/>')
    curve = found.check.curve
    matched = [(across(point.asked), up(point.matched)) for point in curve if point.matched is not None]
    drawn.append(f'<polyline class="line matched" points="{_points(matched)}"/>')
    drawn += [f'<circle class="matched" r="2.6" cx="{x:.1f}" cy="{y:.1f}"/>' for x, y in matched]
    held = [(across(point.asked), up(point.achieved.share)) for point in curve]
    drawn += [
        f'<line class="held" x1="{across(point.asked):.1f}" x2="{across(point.asked):.1f}" y1="{up(point.achieved.low):.1f}" '
        f'y2="{up(point.achieved.high):.1f}" stroke-opacity=".45"/>'
        for point in curve
    ]
    drawn.append(f'<polyline class="line held" points="{_points(held)}"/>')
    drawn += [f'<circle class="held" r="3.4" cx="{x:.1f}" cy="{y:.1f}"/>' for x, y in held]
    return _figure("False matches asked for against achieved, and present things matched", drawn)


def _table(found: Calibration) -> str:
    check = found.check
    rows = [
        f'<tr class="{"chosen" if point.asked == found.asked else "other"}"><td>{_percent(point.asked)}</td>'
        f"<td>{_percent(point.achieved.share)}</td><td>{_between(point.achieved)}</td>"
        f"<td>{'–' if point.matched is None else _percent(point.matched)}</td></tr>"
        for point in check.curve
    ]
    missed = "" if check.missed is None else f", and of {_percent(check.missed)} of those of things that are there"
    return (
        "<table><thead><tr><th>asked</th><th>achieved</th><th>95 % interval</th><th>present things matched</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
        f"<p>“No match” is said of {_percent(check.rejected)} of photos of absent things{missed}.</p>"
    )


def _axes(title: str, across: Sequence[tuple[float, str]], up: Sequence[tuple[float, str]]) -> str:
    base, end = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    lines = [f'<line class="grid" x1="{_LEFT}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>' for y, _ in up]
    lines += [f'<text text-anchor="end" x="{_LEFT - 8}" y="{y + 4:.1f}">{words}</text>' for y, words in up]
    lines += [f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>' for x, _ in across]
    lines += [f'<text text-anchor="middle" x="{x:.1f}" y="{base + 18}">{words}</text>' for x, words in across]
    lines.append(f'<line class="axis" x1="{_LEFT}" x2="{end}" y1="{base}" y2="{base}"/>')
    lines.append(f'<text text-anchor="middle" x="{(_LEFT + end) / 2}" y="{_HEIGHT - 8}">{title}</text>')
    return "".join(lines)


def _figure(title: str, drawn: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">{"".join(drawn)}</svg>'


def _across(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _up(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _of_rate(place: Callable[[float], float]) -> Callable[[float], float]:
    """Places of rates on a logarithmic axis; 0 lies at its end."""
    span = math.log(_MOST_RATE / _LEAST_RATE)
    return lambda rate: place(math.log(max(rate, _LEAST_RATE) / _LEAST_RATE) / span)


def _shares(counts: Sequence[int]) -> list[float]:
    return [count / max(1, sum(counts)) for count in counts]


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _ticks(low: float, high: float) -> list[float]:
    """Some three to eight round values between two."""
    rough = (high - low) / 6
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
    return [round(number * step, 6) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _between(share: Share) -> str:
    """An interval, such as 0.47–1.9 %."""
    return f"{_percent(share.low).split()[0]}–{_percent(share.high)}"


def _percent(share: float) -> str:
    """Such as 0.5 %, 1 % and 12.3 %."""
    return f"{round(100 * share, 2 if share < 0.01 else 1):g}\N{NO-BREAK SPACE}%"
