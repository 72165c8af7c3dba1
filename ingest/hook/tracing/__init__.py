"""The wiring of a torch model, found by one forward pass without data: ``trace``.

``axes_of_tensors`` says by what the dimensions of tensors are numbered, ``rules`` and ``contractions`` what each
operation does to them, ``forward`` runs the model, ``reading`` makes layers of what was seen. Only ``forward`` needs
torch.
"""
