"""Every name that MindSpore does not document, and only here.

| module    | what of MindSpore                                                          |
|-----------|----------------------------------------------------------------------------|
| cells     | what a `Cell` keeps of itself: children, parameters, hooks, operators      |
| device    | the kind of the device, and how many threads its kernels get               |
| execution | what it is doing right now: compiling, exporting, recomputing, recording   |
| functions | functions with a derivative of their own in PyNative mode                  |
| graphs    | what it has compiled, and how that is dropped                              |
| groups    | which communication groups there are                                       |
| names     | asks for a name, and says what is done without it                          |
| operators | attributes of custom operators that it passes on or obeys                  |
| precision | mixed precision                                                            |
| recompute | what `Cell.recompute` keeps                                                |

Names that other modules import are asked for by `names.ask`, once, with what is done where this
MindSpore has none: `tests/mindspore_private/test_names.py` takes each away in turn. Attributes of
cells are looked up where they are used.
"""
