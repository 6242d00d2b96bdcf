import numpy as np

from dragoman.pipeline.segments import segments
from dragoman.stages.messages import SessionOptions
from dragoman.stages.segment import SegmentStage
from tests.pipeline import media_files


def test_a_segment_in_one_piece_is_the_stream_cut_by_the_segmenter():
    samples = media_files.speech()
    options = SessionOptions()
    whole = list(segments([samples], SegmentStage(), options))
    pieces = list(segments(np.array_split(samples, 999), SegmentStage(), options))
    for one, other in zip(whole, pieces, strict=True):
        assert one.opens and one.closes and (one.start, one.segment) == (other.start, other.segment)
        assert np.array_equal(one.samples, other.samples)
        assert np.array_equal(one.samples, samples[one.start : one.end])
