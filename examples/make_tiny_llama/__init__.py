"""Make `examples/tiny-llama`: its text, its tokenizer, its training. Run `python -m examples.make_tiny_llama`."""
