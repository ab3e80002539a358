#include "text/steps/normalizer.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

std::string normal_form(const std::string& text, int options) {
  utf8proc_uint8_t* out = nullptr;
  const auto n = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                              static_cast<utf8proc_ssize_t>(text.size()), &out,
                              static_cast<utf8proc_option_t>(options | UTF8PROC_STABLE));
  std::string result(reinterpret_cast<const char*>(out), static_cast<size_t>(n));
  std::free(out);
  return result;
}

std::string as_text(char32_t c) {
  std::string text;
  utf8_append(text, c);
  return text;
}

TEST(UnicodeNormalizer, InertCharactersAreWhatTheNameSays) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    if (is_nfc_inert(c)) {
      ASSERT_EQ(normal_form(as_text(c), UTF8PROC_COMPOSE), as_text(c)) << static_cast<uint32_t>(c);
      ASSERT_EQ(utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class, 0);
    }
    // In no composed character, an inert one follows the first part.
    std::string parts = normal_form(as_text(c), UTF8PROC_DECOMPOSE);
    if (normal_form(parts, UTF8PROC_COMPOSE) != as_text(c)) continue;
    for (size_t at = static_cast<size_t>(utf8_decode(parts)->length); at < parts.size();) {
      const auto part = utf8_decode(std::string_view(parts).substr(at));
      ASSERT_FALSE(is_nfc_inert(part->code_point)) << static_cast<uint32_t>(c);
      at += static_cast<size_t>(part->length);
    }
  }
}

TEST(UnicodeNormalizer, EqualsTheNormalFormOfTheWholeText) {
  const std::vector<std::string> parts = {"a",      "e",      " ",      "\u0301",     "\u0323", "\u0308",
                                          "\u00E9", "\u1E69", "\u212B", "\uFB01",     "\u1112", "\u1161",
                                          "\u11AB", "\uAC00", "\u3099", "\u304B",     "\u2014", "\u4F60",
                                          "\u0958", "\u09BE", "\u09C7", "\U0001F600", "\uFF21", "\u0130"};
  const std::pair<NormalForm, int> forms[] = {{NormalForm::kNfc, UTF8PROC_COMPOSE},
                                              {NormalForm::kNfd, UTF8PROC_DECOMPOSE},
                                              {NormalForm::kNfkc, UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
                                              {NormalForm::kNfkd, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT}};
  std::mt19937 rng(5);
  RegexScratch scratch;
  for (const auto& [form, options] : forms) {
    const auto step = make_unicode_normalizer(form);
    for (int round = 0; round < 5000; ++round) {
      std::string text;
      for (size_t k = rng() % 10; k > 0; --k) text += parts[rng() % parts.size()];
      std::string out;
      const bool changed = step->apply(text, out, scratch);
      ASSERT_EQ(changed ? out : text, normal_form(text, options)) << text;
    }
  }
}

TEST(Normalizer, GrowthWithoutBoundIsAnError) {
  const Json grow = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aaaaaaaaaa"}};
  Json steps = Json::array();
  for (int k = 0; k < 20; ++k) steps.push_back(grow);
  const Json document = {{"normalizer", {{"type", "Sequence"}, {"normalizers", steps}}}};
  const Normalizer normalizer{JsonObject(document, "f")};
  NormalizerScratch scratch;
  EXPECT_THROW(normalizer.apply("aaaa", scratch), Error);
  EXPECT_EQ(normalizer.apply("bbbb", scratch), "bbbb");
}

}  // namespace
}  // namespace sepllm
