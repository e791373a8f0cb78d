"""TensorRT-LLM checkpoints: NVIDIA ModelOpt quantises, we feed it and judge what it wrote.

::

    schemes.py              what each quantization is made of, and for which GPUs
    calibration.py          the text that activations are measured on (calibration.txt), committed
    making.py               ModelOpt in a child process; making_process.py is that child
    decoding.py             the written weights as float32 again, and activations as the engine rounds them
    judging.py              structure and error of every tensor, against the source
"""
