// The report of one or several training runs: a self-contained page, and a table for the terminal.
#pragma once

#include <string>
#include <vector>

#include "train/run_files.h"

namespace sepllm {

std::string report_page(const std::vector<RunRecord>& runs);
std::string report_table(const std::vector<RunRecord>& runs);

// Reads the run and writes its report_path(). Error as for read_run and AtomicFile.
void write_run_report(const std::string& run);

}  // namespace sepllm
