// The page of `sepllm tune`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/tuning/tune_run.h"
#include "base/json.h"

namespace sepllm {

struct TunePage {
  std::string model;
  std::vector<std::string> texts{};
  std::string budget;  // in words
  int64_t context = 0;
  int64_t n_layers = 0;
  int64_t search_tokens = 0, report_tokens = 0;
  std::string policy_file;  // where the found policy was written
  Json policy{};            // the "sepllm" object
  Json program{};           // provenance() of the run
};

std::string tune_page(const TunePage& page, const TuneReport& report);

}  // namespace sepllm
