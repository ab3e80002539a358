// The page and the table of `demo`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/demo_runs.h"

namespace sepllm {

struct DemoReport {
  std::string model;      // "models/sepllm-5m (llama, 5327616 parameters, 1024 positions)"
  std::string note;       // a remark on the model that the reader needs; empty if there is none
  std::string text;       // the text's source
  int64_t positions = 0;  // positions that the model was trained for
  int64_t stretch = 0;    // see DemoPlan
  int64_t common_tokens = 0;
  int64_t prompt_tokens = 0;
  std::string prompt;              // the prompt's text
  int64_t kv_bytes_per_token = 0;  // under full attention
  std::vector<DemoRow> rows;
  Json program;  // provenance() of the run
};

std::string demo_table(const DemoReport& report);
std::string demo_page(const DemoReport& report);
Json demo_json(const DemoReport& report);

}  // namespace sepllm
