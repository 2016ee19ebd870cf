"""From PyTorch to MindSpore and back: single layers, and the state of whole networks.

| file                | what it does                                                 |
|---------------------|--------------------------------------------------------------|
| layer.py            | `from_torch`, `to_torch`: one layer                          |
| torch_layer.py      | which modules of PyTorch are batch norms, and their tensors  |
| extras.py           | what layers have beside that: refused, or warned of          |
| state_dict.py       | `convert_state_dict`: a whole network to MindSpore           |
| torch_state_dict.py | `to_torch_state_dict`: a whole network to PyTorch            |
| rules.py            | names and shapes of the parameters of each kind of layer     |
| report.py           | `Conversion`, what became of each tensor; `ConversionError`  |
| contents.py         | the state dict in what a file holds; hints at keys, prefixes |
| formats.py          | which format a file has, by its contents                     |
| files.py            | reading and writing files of PyTorch and MindSpore           |
| arrays.py           | single tensors of PyTorch, MindSpore and NumPy               |
| command.py          | `bn3d convert`                                               |
| pytorch.py          | the only import of PyTorch                                   |
"""
