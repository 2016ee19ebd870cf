// What Python asks through ctypes: python/bn3d/backends/library.py.
#include "dispatch.h"
#include "processors.h"
#include "registration.h"

BN3D_EXPORT void bn3d_set_threads(int threads) { bn3d::set_threads(threads); }

BN3D_EXPORT int bn3d_usable_threads() { return bn3d::usable_threads(); }

BN3D_EXPORT const char* bn3d_instruction_set() { return bn3d::instruction_set(); }

BN3D_EXPORT const char* bn3d_version() { return BN3D_VERSION; }
