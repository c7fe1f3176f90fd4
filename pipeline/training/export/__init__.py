"""Exported models: one file that predicts or generates without melray.

    config        settings of `melray export`
    output_file   the file that is written
    metadata      what is in the file besides the network
    onnx_model    torch modules to ONNX, and ONNX files
    torch_program torch modules to programs of `torch.export`, and their files
    quantization  convolutions in 8-bit integers
    runtime       runs and times exported models

The commands are `pipeline/classifier/export.py` and `pipeline/gan/export.py`.
"""
