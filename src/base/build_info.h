// Which program this is, and on which processor it runs: what outputs carry so that a figure can be traced.
#pragma once

#include <string>

namespace sepllm {

// "0.1.0".
std::string build_version();
// The commit's first 12 digits, with "-changed" where sources differed from it; "unknown" where the program
// was built without git.
std::string build_commit();
// The processor's name as the system gives it; "unknown" where it gives none.
std::string cpu_name();
// What follows `key` and a colon in a text file of such lines (/proc/cpuinfo, /proc/meminfo); empty where
// there is none.
std::string system_value(const std::string& path, const std::string& key);

}  // namespace sepllm
