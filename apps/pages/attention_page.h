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
  std::vector<std::string> pieces;  // text of each token drawn
  std::vector<TokenClass> classes;  // of each token drawn: initial, separator or other
  int64_t n_scored = 0;             // tokens behind the shares
  int64_t init = 0;
  int64_t window = 0;
  std::string separators;  // the rule
  Json program;            // provenance() of the run
  std::vector<HeadMap> maps;
  std::vector<ClassShares> shares;
};

std::string attention_page(const AttentionReport& report);

}  // namespace sepllm
