"""`dragoman doctor`: whether all is here that captions need, a line for each check.

What is checked stands in :mod:`demos.doctor_machine` and :mod:`demos.doctor_path`. The lines are
made to be pasted whole where somebody asks for help. Heavy imports wait until the command runs.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dragoman.demos import options
from dragoman.demos.stdout import own_stdout, say
from dragoman.errors import FAILED, OK
from dragoman.spec import ModelSpec

if TYPE_CHECKING:
    from dragoman.demos.doctor_machine import Finding


def doctor(
    model: options.Model = "nano",
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
    size: options.Size = "",
    threads: options.Threads = None,
    address: options.Address = None,
    no_ray: options.NoRay = False,
    clip: Annotated[
        Path | None,
        typer.Option(
            help="The recording of which an answer of the released model is published; the line "
            "`reference` says where it is."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, and nothing else.")
    ] = False,
    debug: options.Debug = False,
) -> int:
    """Check this machine and a model: sound, a picture and a translation the real way."""
    options.log_to_stderr(debug)
    options.check_place(no_ray, address)
    spec = ModelSpec(model, device, dtype, size, threads=threads, address=address)
    with own_stdout() as out:
        findings = []
        for finding in examine(spec, ray=not no_ray, clip=clip):
            findings.append(finding)
            if not as_json:
                say("\n".join(lines(finding)), out)
        well = all(finding.status != "failed" for finding in findings)
        if as_json:
            document = {"ok": well, "model": model, "checks": [asdict(one) for one in findings]}
            print(json.dumps(document, ensure_ascii=False, indent=1), file=out)
        else:
            print(summary(findings), file=out)
    return OK if well else FAILED


def examine(spec: ModelSpec, ray: bool = True, clip: Path | None = None) -> "Iterator[Finding]":
    """What is found out, as it is."""
    from dragoman.demos import doctor_machine, doctor_path

    yield from doctor_machine.machine(spec)
    yield from doctor_path.model(spec, ray, clip)


def lines(finding: "Finding") -> "Iterator[str]":
    """A finding for people; what to do stands below it."""
    yield f"{finding.status:8} {finding.check:12} {finding.found}"
    if finding.remedy:
        yield f"{'':21} -> {finding.remedy}"


def summary(findings: "Iterable[Finding]") -> str:
    """The last line."""
    counts = {"failed": 0, "warning": 0}
    for finding in findings:
        counts[finding.status] = counts.get(finding.status, 0) + 1
    warnings = f"{counts['warning']} warning{'s' * (counts['warning'] != 1)}"
    if counts["failed"]:
        return f"not well: {counts['failed']} failed, {warnings}"
    return "all is well" + (f", with {warnings}" if counts["warning"] else "")
