"""Gates that a written artifact must pass before it is published: the tokenizer's parity and the logits' distance.

::

    corpus.py         the strings that are tokenised: corpus.jsonl, and what the model's added tokens give
    texts.py          the texts that are evaluated: built in, so that every machine measures the same
    tokens.py         the tokenizer of a folder, run in a child behind walls
    parity.py         the gate on tokenizers
    reference.py      the source's logits: a float32 forward pass of transformers' own class
    llama.py          llama.cpp in a child process, which it may abort; llama_process.py is that child
    divergence.py     mean Kullback-Leibler divergence
"""
