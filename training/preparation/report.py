"""The report of an output folder: report.json, and report.html with pictures, in one file."""

from __future__ import annotations

import base64
import html
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from training.preparation.options import PrepareOptions
from training.preparation.records import THUMBNAILS, ClipRecord, Job, VideoRecord, read_record

SHOWN = 400  # pictures each of kept and of dropped clips, at most; evenly spread over longer lists
REPORT = "report"
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 76rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top; max-width: 30rem }
figcaption { font-size: .8rem; color: #555 } figcaption b { color: #222 }
.error { color: #a40000 } img { display: block; max-width: 100% }
"""


def write_report(folder: Path, jobs: Sequence[Job], options: PrepareOptions) -> list[VideoRecord]:
    """Write both files; the records of the videos that are done."""
    records = [record for job in jobs if (record := read_record(folder, job.name)) is not None]
    summary = summary_of(records, len(jobs))
    values = {**summary, "options": asdict(options), "videos": [asdict(record) for record in records]}
    _write(folder / f"{REPORT}.json", json.dumps(values, indent=1))
    _write(folder / f"{REPORT}.html", page(folder, records, summary, options))
    return records


def summary_of(records: Sequence[VideoRecord], videos: int) -> dict:
    clips = [clip for record in records for clip in record.clips]
    kept = [clip for clip in clips if clip.kept]
    frames, seconds = sum(r.frames for r in records), sum(r.seconds for r in records)
    return {
        "videos_found": videos,
        "videos_done": len(records),
        "videos_failed": sum(bool(record.error) for record in records),
        "clips_kept": len(kept),
        "frames_kept": sum(clip.stop - clip.start for clip in kept),
        "frames_read": frames,
        "dropped": dict(Counter(clip.reason for clip in clips if not clip.kept).most_common()),
        "seconds_per_100_frames": round(100 * seconds / frames, 2) if frames else 0.0,
    }


def page(folder: Path, records: Sequence[VideoRecord], summary: dict, options: PrepareOptions) -> str:
    """The whole page, pictures included."""
    kept = [(record, clip) for record in records for clip in record.kept]
    dropped = [(record, clip) for record in records for clip in record.clips if not clip.kept]
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Prepared clips</title><style>{STYLE}"
        "</style><h1>Prepared clips</h1>",
        _totals(summary, options),
        "<h2>Kept</h2>" if kept else "<h2>Nothing was kept</h2>",
        _explanation(options) if kept else "",
        *(_figure(folder, record, clip) for record, clip in _spread(kept)),
    ]
    if dropped:
        parts += ["<h2>Dropped</h2>", *(_figure(folder, record, clip) for record, clip in _spread(dropped))]
    parts += ["<h2>Videos</h2>", _videos(records)]
    return "\n".join(part for part in parts if part)


def _totals(summary: dict, options: PrepareOptions) -> str:
    rows = [
        (
            "Videos",
            f"{summary['videos_done']} of {summary['videos_found']} done, "
            f"{summary['videos_failed']} could not be used",
        ),
        (
            "Clips kept",
            f"{summary['clips_kept']} with {summary['frames_kept']} of {summary['frames_read']} frames",
        ),
        *(("Dropped: " + reason, str(count)) for reason, count in summary["dropped"].items()),
        ("Pictures", f"{options.size}x{options.size}, {', '.join(options.maps)}"),
        ("Time", f"{summary['seconds_per_100_frames']:g} s of one worker for 100 frames"),
    ]
    cells = "".join(f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in rows)
    return f"<table>{cells}</table>"


def _explanation(options: PrepareOptions) -> str:
    rows = ["frames"] + [name for name in options.maps if name != "normal_left"]
    first = "On the left the still picture that the warp is made from. " if options.reference else ""
    return f"<p>{first}Rows: {html.escape(', '.join(rows))}.</p>"


def _figure(folder: Path, record: VideoRecord, clip: ClipRecord) -> str:
    reason = f"<br><b>{html.escape(clip.reason)}</b>: {html.escape(clip.detail)}" if clip.reason else ""
    figures = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in clip.figures.items())
    caption = f"{html.escape(record.shown)}, frames {clip.start} to {clip.stop - 1}{reason}"
    return (
        f"<figure>{_picture(folder / THUMBNAILS / f'{clip.name}.jpg')}<figcaption>{caption}<br>"
        f"{html.escape(figures)}</figcaption></figure>"
    )


def _picture(path: Path) -> str:
    if not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<img alt='' src='data:image/jpeg;base64,{data}'>"


def _videos(records: Sequence[VideoRecord]) -> str:
    head = "".join(
        f"<th{c}>{t}</th>"
        for t, c in (
            ("video", ""),
            ("frames", " class='n'"),
            ("shots", " class='n'"),
            ("clips", " class='n'"),
            ("seconds", " class='n'"),
            ("", ""),
        )
    )
    rows = []
    for record in records:
        said = [f"<span class='error'>{html.escape(record.error)}</span>"] if record.error else []
        said += [html.escape(note) for note in record.notes]
        numbers = (record.frames, record.shots, len(record.kept), f"{record.seconds:.1f}")
        cells = "".join(f"<td class='n'>{number}</td>" for number in numbers)
        rows.append(f"<tr><td>{html.escape(record.shown)}</td>{cells}<td>{'<br>'.join(said)}</td></tr>")
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _spread(items: list) -> list:
    if len(items) <= SHOWN:
        return items
    return [items[i * len(items) // SHOWN] for i in range(SHOWN)]


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise OSError(f"{path} cannot be written ({error}); free some space") from error
    finally:
        part.unlink(missing_ok=True)
