"""What the program and each command say of themselves, with examples that work."""

from __future__ import annotations

PROGRAM = "keras-robust-prune"

ABOUT = f"""\
Makes a trained Keras network smaller, without its training data.

  {PROGRAM} demo                                    see it at work
  {PROGRAM} inspect mnist                           what can be removed
  {PROGRAM} prune mnist small --tflite=small.tflite half the units of every layer
  {PROGRAM} evaluate small --data=test.npz          what was kept
"""
MORE = f"""\
'{PROGRAM} COMMAND --help' tells more about a command.

exit status: 0 done; 1 refused or failed, with one message; 3 done, but the target was missed (what was reached
is written all the same); 130 interrupted, 143 terminated
"""
PRUNE = f"""\
Writes a smaller network.

MODEL is a SavedModel folder written by tf_keras, a .keras or an .h5 file; it is not changed. OUT ends in
.keras or .h5, or is the name of a SavedModel folder. No data is needed.

  # half the units of every layer, and a file for the phone
  {PROGRAM} prune mnist small --tflite=small.tflite --quantize=int8

  # half the multiplications, widths in eights; pixels from 0 to 255; a page to read
  {PROGRAM} prune resnet.h5 small.h5 --measure=macs --input_range=0,255 --round_to=8 \\
    --data=test.npz --attacks=pgd@2 --report=small.html

  # in a script: figures by name, and a status that says whether the target was met
  {PROGRAM} prune mnist small --target=0.75 --json > figures.json || echo "status $?"

Where the target cannot be met, as with --round_to or --keep, what was reached is written and the status is 3.
"""
INSPECT = f"""\
Lists what can be removed, what a unit of it costs, and which layers are kept and why. Nothing is changed.

Of a .tflite file it lists inputs, outputs, operators, the runtime that it needs and what a GPU refuses.

  {PROGRAM} inspect mnist
  {PROGRAM} inspect mnist.tflite
"""
EVALUATE = f"""\
Measures accuracy, robustness and agreement with another network.

MODEL is a model or a .tflite file. Attacks follow gradients, which a .tflite file does not have: give the
Keras model it was made from as --reference.

  {PROGRAM} evaluate small --data=test.npz --attacks=fgsm@0.05,pgd@0.05
  {PROGRAM} evaluate small.tflite --data=test.npz --attacks=pgd@0.05 --reference=small
"""
CERTIFY = f"""\
Proves how far two networks can be from each other around inputs.

For every point within --eps of each input: how far the outputs of MODEL and SMALL can be apart, and whether
both give the same class. What is not proven is not refuted.

  {PROGRAM} certify mnist small --data=test.npz --eps=0.01
"""
EXPORT = f"""\
Writes .tflite files of a model, pruned or not, each checked against the model before any is written.

MODEL is a SavedModel folder written by tf_keras, a .keras or an .h5 file. With several quantizations
small.tflite becomes small.int8.tflite and so on. Int8 ranges are measured on inputs made from the network, or
on --calibration.

  # for the camera of a phone whose runtime is TensorFlow Lite 2.16
  {PROGRAM} export small small.tflite --quantize=int8_uint8 --max_runtime=2.16 --dense_per_tensor

  # a file that MediaPipe Tasks and Android Studio read, with the names of its classes
  {PROGRAM} export small small.tflite --quantize=int8_uint8 --labels=labels.txt

  # two files of a network that takes pixels from 0 to 255
  {PROGRAM} export resnet.h5 resnet.tflite --quantize=float16,int8 --input_range=0,255
"""
FILES = f"""\
Compares .tflite files in one table: bytes, milliseconds, accuracy, agreement, attacks and corruptions.

The files run in turns, on one and on two threads: median, 5 and 95 % of their times. Attacks that follow
gradients follow those of --surrogates, the Keras models that the files were made of, or of --reference; what
they find is judged by each file.

  {PROGRAM} files dense.tflite small.tflite small.int8.tflite
  {PROGRAM} files dense.tflite small.tflite --data=test.npz --attacks=square@0.05,pgd@0.05 --reference=dense
"""
DEMO = f"""\
Prunes a small trained classifier of digits that comes with the package: what was kept?

FOLDER gets the SavedModel that goes in, the smaller one and a .tflite file. Nothing is downloaded.

  {PROGRAM} demo
  {PROGRAM} demo three_quarters --target=0.75 --method=norm
"""
