// The most that one request may ask for. (Memory is the service's to count; these bound work and answers.)
#pragma once

#include <cstddef>
#include <cstdint>

namespace sepllm::server {

inline constexpr int64_t kMaxChoices = 16;           // n
inline constexpr size_t kMaxAnswers = 1024;          // n times the number of prompts
inline constexpr int64_t kMaxTop = 20;               // logprobs, top_logprobs
inline constexpr int64_t kMaxNewTokens = INT32_MAX;  // max_tokens
// Tokens of an answer that is not a stream, and tokens whose scores are held, over all choices: they take
// memory until they are sent.
inline constexpr int64_t kMaxWholeTokens = int64_t{1} << 22;
inline constexpr int64_t kMaxScoredTokens = int64_t{1} << 18;
inline constexpr size_t kMaxStops = 64;
inline constexpr size_t kMaxStopBytes = 1024;  // of one of them
inline constexpr size_t kMaxBiases = 1024;     // logit_bias
inline constexpr size_t kMaxMessages = 16384;
inline constexpr double kMaxTemperature = 100.0;

}  // namespace sepllm::server
