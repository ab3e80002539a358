// What methods and filters do to texts, each byte keeping its origin.
#pragma once

#include <string_view>
#include <vector>

#include "text/template/characters.h"
#include "text/template/interpreter.h"

namespace sepllm::jinja {

// Without white space at its ends, or without these characters. `characters` may be null.
MarkedText stripped(Interpreter& run, const MarkedText& text, const Text* characters, Sides sides);
// Every `from` (at most `most` from the left, all where negative) becomes `to`, which keeps its own origin.
MarkedText replaced(Interpreter& run, const MarkedText& text, const MarkedText& from, const MarkedText& to,
                    int64_t most);
// str.split and rsplit: at a separator, or at runs of white space where it is null.
std::vector<Value> split(Interpreter& run, const MarkedText& text, const Text* separator, int64_t most,
                         bool from_right);
std::vector<Value> split_lines(Interpreter& run, const MarkedText& text, bool keep_ends);
// Up to `width` characters with `fill` on these sides; where on both, as str.center shares it out.
MarkedText justified(Interpreter& run, const MarkedText& text, int64_t width, const MarkedText& fill,
                     bool left, bool right);

// As find_text, for the next of many matches in one text: charged for what is looked at only.
size_t next_match(Interpreter& run, std::string_view text, std::string_view part, size_t from);
size_t find_last_text(std::string_view text, std::string_view part, Budget& budget);

}  // namespace sepllm::jinja
