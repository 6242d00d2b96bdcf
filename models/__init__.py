"""Checkpoints: the folder layout, the tokenizer, the prompt, and loading only what is asked for."""
