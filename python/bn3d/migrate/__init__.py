"""From PyTorch to MindSpore and back: single layers, and the state of whole networks.

| file                | what it does                                                 |
|---------------------|--------------------------------------------------------------|
| layer.py            | `from_torch`, `to_torch`: one layer                          |
| state_dict.py       | `convert_state_dict`: a whole network to MindSpore           |
| torch_state_dict.py | `to_torch_state_dict`: a whole network to PyTorch            |
| rules.py            | names and shapes of the parameters of each kind of layer     |
| report.py           | `Conversion`, what became of each tensor; `ConversionError`  |
| files.py            | reading and writing .pt, .pth, .safetensors and .ckpt        |
| arrays.py           | single tensors of PyTorch, MindSpore and NumPy               |
| command.py          | `bn3d convert`                                               |
| pytorch.py          | the only import of PyTorch                                   |
"""
