"""Quantises an exported model to eight bits, and compares it with float32 and float16.

    python quantise.py FOLDER IMAGES

FOLDER is what `spvit convert --form hub` writes; IMAGES holds `calibration`, `test` and `labels` of the model's
run. onnxruntime's static quantisation (QDQ; weights by channel, activations by the calibration images' range)
writes FOLDER/onnx/model_quantized.onnx. The table goes to standard output and into FOLDER/README.md.
"""

import pathlib
import sys
import tempfile

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from safetensors.numpy import load_file

NAMES = {"float32": "model.onnx", "float16": "model_fp16.onnx", "int8": "model_quantized.onnx"}
HEADING = "## Precision\n"


class Images(CalibrationDataReader):
    def __init__(self, images, batch=32):
        self.batches = iter(np.split(images, range(batch, len(images), batch)))

    def get_next(self):
        batch = next(self.batches, None)
        return None if batch is None else {"pixel_values": batch}


def quantise(folder, images):
    with tempfile.TemporaryDirectory() as place:
        prepared = pathlib.Path(place) / "prepared.onnx"
        quant_pre_process(folder / NAMES["float32"], prepared, skip_symbolic_shape=True)
        quantize_static(prepared, folder / NAMES["int8"], Images(images), per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                        op_types_to_quantize=["MatMul", "Gemm", "Conv"])


def accuracy(path, images, labels):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    right = 0
    for begin in range(0, len(images), 256):
        batch = images[begin:begin + 256]
        logits, = session.run(None, {"pixel_values": batch})
        right += int((logits.argmax(1) == labels[begin:begin + 256]).sum())
    return right / len(images)


def main():
    hub, data = pathlib.Path(sys.argv[1]), load_file(sys.argv[2])
    folder = hub / "onnx"
    quantise(folder, data["calibration"])
    lines = ["| precision | file | bytes | accuracy |", "| --- | --- | ---: | ---: |"]
    for precision, name in NAMES.items():
        share = accuracy(folder / name, data["test"], data["labels"].astype(int))
        size = (folder / name).stat().st_size
        lines.append(f"| {precision} | {name} | {size:,} | {100 * share:.2f} % |")
    table = "\n".join(lines)
    print(table)
    text = (f"{HEADING}\nIn onnxruntime {onnxruntime.__version__}, on {len(data['test'])} test images; int8 by static "
            f"quantisation on {len(data['calibration'])} training images:\n\n{table}\n")
    card = hub / "README.md"
    before = card.read_text().split(HEADING)[0].rstrip()
    card.write_text(f"{before}\n\n{text}")


if __name__ == "__main__":
    main()
