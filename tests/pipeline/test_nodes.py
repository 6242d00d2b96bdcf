"""A batch on a cluster of two nodes, one of which ends in the middle."""

import os
import subprocess
import sys
import textwrap

from dragoman.pipeline.actors import InProcess
from dragoman.pipeline.journal import NAME
from dragoman.pipeline.pool import Pool
from tests.pipeline import media_files
from tests.pipeline.batches import batch, run, sound
from tests.pipeline.clusters import TOKEN, head, kill, node, without_ray
from tests.pipeline.fake_stages import fakes
from tests.waiting import PATIENCE_S, eventually

# Fake stages, of which each segment takes a while, in a driver of its own: it joins the cluster.
DRIVER = """
    import sys
    from dragoman.pipeline.start import host
    from dragoman.pipeline.pool import Pool
    from dragoman.pipeline.recipes import Recipe
    from tests.pipeline.batches import batch, run
    from tests.pipeline.fake_stages import Making, fakes
    from tests.pipeline.slow_cli import Pausing
    stages = (*fakes(), Recipe("pause", Making(Pausing(0.05))))
    pool = Pool.start(host(True, sys.argv[3], 2), stages[1:], 2)
    results = run(batch([sys.argv[1]], sys.argv[2], stages), pool)
    assert {result.status for result in results.values()} == {"done"}, results
    pool.stop()
"""


def translating(media, out, address) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRIVER), str(media), str(out), address],
        cwd=media_files.ROOT,
        env={
            **without_ray(),
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_AUTH_MODE": "token",
            "PYTHONPATH": os.pathsep.join([str(media_files.ROOT), *sys.path]),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def written(out) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != NAME}


def finished(out) -> int:
    journal = out / NAME
    return journal.read_text().count('"kind": "segment"') if journal.exists() else 0


def test_a_node_that_ends_costs_time_alone(tmp_path):
    media, undisturbed, out = tmp_path / "media", tmp_path / "undisturbed", tmp_path / "out"
    media.mkdir()
    for name in "abcdef":
        sound(media / f"{name}.wav", 100)
    with head(cpus=1) as address, node(address, cpus=1) as other:
        driver = translating(media, out, address)
        eventually(lambda: finished(out) > 20 or driver.poll() is not None)
        kill(other)
        said, _ = driver.communicate(timeout=PATIENCE_S)
        assert driver.returncode == 0, said
    alone = Pool.start(InProcess(), fakes()[1:])
    run(batch([media], undisturbed), alone)
    alone.stop()
    assert written(out) == written(undisturbed)
