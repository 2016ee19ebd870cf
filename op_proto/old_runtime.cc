// Lets a library built with a new compiler load on the older systems of Ascend nodes.
//
// The headers of GCC 11 and later refer to two symbols that the libstdc++ of GCC 10 (openEuler
// 22.03, Ubuntu 20.04) and the glibc before 2.32 lack. The engine would skip the library for them
// with no more than a line in its log. Defined here, and hidden by exports.map, they are ours
// alone.
#include <cstdlib>

extern "C" {
extern char __libc_single_threaded;
char __libc_single_threaded = 0;  // reference counts stay atomic
}

namespace std {
[[noreturn]] void __throw_bad_array_new_length();
[[noreturn]] void __throw_bad_array_new_length() { std::abort(); }  // no shape is that long
}  // namespace std
