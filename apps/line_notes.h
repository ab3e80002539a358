// What `sepllm prepare` reports about faulty lines of its input.
#pragma once

#include <string>

#include "text/corpus/document_reader.h"

namespace sepllm {

// For the Error if there was nothing but faulty lines: how many were left out, and why; empty if none was.
std::string skipped_text(const LineNotes& lines);

// Writes notes and warnings to standard error, each with a count and the first of its lines.
void say_of_lines(const LineNotes& lines);

}  // namespace sepllm
