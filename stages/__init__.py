"""The steps of the pipeline, from 160 ms of audio to a caption: plain Python, no Ray, threads or clock."""
