// Which program this is and on which processor it runs. Outputs carry these facts so that a figure can be
// traced.
#pragma once

#include <string>

namespace sepllm {

// "0.1.0".
std::string build_version();
// The first 12 digits of the commit, followed by "-changed" if sources differed from it; "unknown" if the
// program was built without git.
std::string build_commit();
// The processor's name as the system gives it, or "unknown".
std::string cpu_name();
// The text after `key` and a colon in a file of such lines (/proc/cpuinfo, /proc/meminfo); empty if the key
// is missing.
std::string system_value(const std::string& path, const std::string& key);

}  // namespace sepllm
