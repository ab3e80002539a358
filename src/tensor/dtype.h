// Element types. They lie in base, since policies, which know no tensors, name the type of the cache.
#pragma once

#include "base/dtype.h"  // IWYU pragma: export
