// Says how many threads the process may start from now on.
#pragma once

namespace bn3d_test {

void allow_threads(int count);

}  // namespace bn3d_test
