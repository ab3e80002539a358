// What `sepllm prepare` says of lines of its input that were not as they should be.
#pragma once

#include <string>

#include "text/corpus/document_reader.h"

namespace sepllm {

// For the Error where nothing else was there: how many lines were left out, and why; empty where none was.
std::string skipped_text(const LineNotes& lines);

// Notes and warnings on standard error, each with a count and the first of its lines.
void say_of_lines(const LineNotes& lines);

}  // namespace sepllm
