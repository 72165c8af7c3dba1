"""PyTorch checkpoints and pickled NumPy dictionaries as data: nothing is unpickled, imported or called.

A pickle is a program for a stack machine. Here a machine of our own reads the program and only writes down what it
describes: ``opcodes`` takes the stream apart, ``machine`` keeps the stack, ``meanings`` knows the few names that
describe arrays, ``tensors`` reads their numbers, ``zip_file`` and ``torch_files`` know the containers, ``naming`` gives
every array its name and ``reading`` is the door.
"""
