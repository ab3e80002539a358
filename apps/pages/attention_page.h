// The page of `inspect attention`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/attention_map.h"

namespace sepllm {

struct AttentionReport {
  std::string model;
  std::string source;               // the text's file
  std::vector<std::string> pieces;  // the text of each drawn token
  std::vector<TokenClass> classes;  // for each drawn token: initial, separator or other
  int64_t n_scored = 0;             // number of tokens that the shares are computed from
  int64_t init = 0;
  int64_t window = 0;
  std::string separators;  // the rule
  Json program;            // provenance() of the run
  std::vector<HeadMap> maps;
  std::vector<ClassShares> shares;
};

std::string attention_page(const AttentionReport& report);

}  // namespace sepllm
