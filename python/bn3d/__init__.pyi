from bn3d.commands.info import info as info
from bn3d.layers.batch_norm import BatchNorm3d as BatchNorm3d
from bn3d.layers.sync_batch_norm import SyncBatchNorm3d as SyncBatchNorm3d
from bn3d.migrate.layer import from_torch as from_torch
from bn3d.migrate.layer import to_torch as to_torch
from bn3d.migrate.report import Conversion as Conversion
from bn3d.migrate.report import ConversionError as ConversionError
from bn3d.migrate.state_dict import convert_state_dict as convert_state_dict
from bn3d.migrate.torch_state_dict import to_torch_state_dict as to_torch_state_dict
from bn3d.networks.check_report import CrossCheck as CrossCheck
from bn3d.networks.cross_check import cross_check as cross_check
from bn3d.networks.fold_report import FoldReport as FoldReport
from bn3d.networks.folding import fold as fold
from bn3d.networks.freezing import freeze as freeze
from bn3d.networks.freezing import unfreeze as unfreeze
from bn3d.networks.swap_report import SwapReport as SwapReport
from bn3d.networks.swapping import restore as restore
from bn3d.networks.swapping import swap as swap

__version__: str
