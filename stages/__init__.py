"""The steps of the pipeline, from audio to captions: plain Python, no Ray, threads or clock."""
