#include "model/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/error.h"
#include "kernels/formats/blocks.h"
#include "kernels/formats/panels.h"
#include "kernels/formats/rows.h"

namespace sepllm {
namespace {

// A panel's outputs at a time: the rows that pack_panel() takes, and a line of a transposed matrix.
constexpr int64_t kRows = kPanelOutputs;

[[noreturn]] void fail(const StoredMatrix& m, int64_t row, ErrorCode code, const std::string& message) {
  throw Error(code, message, {.file = m.file, .place = fmt::format("{}, row {}", m.name, row)});
}

int64_t blocks_of(int64_t n_in) { return (n_in + kBlockElements - 1) / kBlockElements; }

// Converts up to kRows rows at a time. One for each thread.
class RowConverter {
 public:
  // Rows [first, first + n) in `type`, row_bytes(type, n_in) each, one after the other; valid until the next
  // call.
  const char* rows(const StoredMatrix& m, DType type, int64_t first, int64_t n) {
    if (m.type == type && is_block_type(type)) {
      const char* stored = static_cast<const char*>(m.data) + first * row_bytes(type, m.n_in);
      for (int64_t r = 0; r < n; ++r) {
        if (find_bad_block(type, stored + r * row_bytes(type, m.n_in), blocks_of(m.n_in)) >= 0)
          fail(m, first + r, ErrorCode::kBadFile, "a block whose scale is NaN or infinite");
      }
      return stored;
    }
    read(m, first, n);
    bytes_.resize(static_cast<size_t>(n * row_bytes(type, m.n_in)));
    for (int64_t r = 0; r < n; ++r) {
      write(m, first + r, type, floats_.data() + r * m.n_in, bytes_.data() + r * row_bytes(type, m.n_in));
    }
    return bytes_.data();
  }

 private:
  // floats_ = the rows.
  void read(const StoredMatrix& m, int64_t first, int64_t n) {
    floats_.resize(static_cast<size_t>(n * m.n_in));
    if (m.transposed) return read_columns(m, first, n);
    for (int64_t r = 0; r < n; ++r) {
      const char* stored = static_cast<const char*>(m.data) + (first + r) * row_bytes(m.type, m.n_in);
      float* row = floats_.data() + r * m.n_in;
      if (!is_block_type(m.type)) {
        row_to_f32(m.type, stored, m.n_in, row);
        continue;
      }
      if (find_bad_block(m.type, stored, blocks_of(m.n_in)) >= 0)
        fail(m, first + r, ErrorCode::kBadFile, "a block whose scale is NaN or infinite");
      dequantize_blocks(m.type, stored, m.n_in, row);
    }
  }

  void read_columns(const StoredMatrix& m, int64_t first, int64_t n) {
    float line[kRows];
    for (int64_t i = 0; i < m.n_in; ++i) {
      row_to_f32(m.type, static_cast<const char*>(m.data) + (i * m.n_out + first) * dtype_size(m.type), n,
                 line);
      for (int64_t r = 0; r < n; ++r) floats_[static_cast<size_t>(r * m.n_in + i)] = line[r];
    }
  }

  static void write(const StoredMatrix& m, int64_t row, DType type, const float* from, char* to) {
    float largest = 0;
    bool finite = true;
    for (int64_t i = 0; i < m.n_in; ++i) {
      finite = finite && std::isfinite(from[i]);
      largest = std::max(largest, std::abs(from[i]));
    }
    if (!finite) fail(m, row, ErrorCode::kBadFile, "a NaN or infinite weight");
    bool fits = true;
    if (is_block_type(type)) {
      quantize_blocks(type, from, m.n_in, to);
      fits = find_bad_block(type, to, blocks_of(m.n_in)) < 0;
    } else {
      row_from_f32(type, from, m.n_in, to);
      if (type == DType::kF16) fits = std::isfinite(to_float(to_f16(largest)));
      if (type == DType::kBF16) fits = std::isfinite(to_float(to_bf16(largest)));
    }
    if (!fits) {
      fail(m, row, ErrorCode::kOutOfRange,
           fmt::format("weights up to {} are too large for {}", largest, dtype_name(type)));
    }
  }

  std::vector<float> floats_;
  std::vector<char> bytes_;
};

// fn(first row, number of rows, those rows in `type`) for all rows, kRows at a time.
template <typename Fn>
void for_rows(const StoredMatrix& m, DType type, ThreadPool& pool, const Fn& fn) {
  std::vector<RowConverter> converters(static_cast<size_t>(pool.size()));
  pool.parallel_for((m.n_out + kRows - 1) / kRows, [&](int64_t task, int worker) {
    const int64_t first = task * kRows;
    const int64_t n = std::min(kRows, m.n_out - first);
    fn(first, n, converters[static_cast<size_t>(worker)].rows(m, type, first, n));
  });
}

}  // namespace

Weight convert_matrix(const StoredMatrix& from, DType type, ThreadPool& pool, std::vector<Buffer>* owner) {
  Weight w{.type = type, .n_out = from.n_out, .n_in = from.n_in, .row_stride = from.n_in};
  if (!is_block_type(type)) {
    owner->push_back(convert_to_rows(from, type, pool));
    w.data = owner->back().data();
    return w;
  }
  Buffer panels(panels_bytes(type, from.n_out, from.n_in), "the converted weights");
  for_rows(from, type, pool, [&](int64_t first, int64_t n, const char* rows) {
    const void* list[kRows];
    for (int64_t r = 0; r < n; ++r) list[r] = rows + r * row_bytes(type, from.n_in);
    pack_panel(type, list, n, from.n_in,
               panels.as<char>() + first / kPanelOutputs * panel_bytes(type, from.n_in));
  });
  w.data = panels.data();
  owner->push_back(std::move(panels));
  return w;
}

Buffer convert_to_rows(const StoredMatrix& from, DType type, ThreadPool& pool) {
  SEPLLM_CHECK(!(from.transposed && is_block_type(from.type)));
  const int64_t bytes = row_bytes(type, from.n_in);
  Buffer out(from.n_out * bytes, "the converted weights");
  for_rows(from, type, pool, [&](int64_t first, int64_t n, const char* rows) {
    std::copy_n(rows, n * bytes, out.as<char>() + first * bytes);
  });
  return out;
}

}  // namespace sepllm
