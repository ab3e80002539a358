#include "model/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "kernels/formats/blocks.h"
#include "kernels/formats/format.h"
#include "kernels/formats/panels.h"
#include "kernels/formats/rows.h"

namespace sepllm {
namespace {

// As many outputs as a panel has are converted at a time: pack_panel() takes so many rows, and they are a
// cache line of a transposed matrix.
constexpr int64_t kRows = kPanelOutputs;

[[noreturn]] void fail(const StoredMatrix& m, int64_t row, ErrorCode code, const std::string& message) {
  throw Error(code, message, {.file = m.file, .place = fmt::format("{}, row {}", m.name, row)});
}

// For float types: the smallest normal magnitude, and the relative error of rounding (half a unit in the last
// place).
struct FloatRange {
  double least_normal, rounding;
};
FloatRange range_of(DType type) {
  if (type == DType::kF16) return {0x1p-14, 0x1p-11};
  return {0x1p-126, type == DType::kBF16 ? 0x1p-8 : 0x1p-24};
}

// Whether a row of floats, whose largest magnitude is `largest`, lost digits when it was converted to `to`.
bool too_small_for_floats(DType type, const float* from, int64_t n, float largest, const char* to) {
  const FloatRange range = range_of(type);
  if (largest == 0 || largest >= range.least_normal) return false;
  std::vector<float> back(static_cast<size_t>(n));
  row_to_f32(type, to, n, back.data());
  const double most = largest * range.rounding;
  for (int64_t i = 0; i < n; ++i) {
    if (std::abs(static_cast<double>(from[i]) - back[static_cast<size_t>(i)]) > most) return true;
  }
  return false;
}

// The same for blocks, whose f16 scales may be too small.
bool too_small_for_blocks(DType type, const float* from, int64_t n, float largest, const char* to) {
  const BlockFormat& format = format_of(type);
  const double levels = std::max(-format.low, format.high);
  const double half_step = largest / levels / 2;  // of the row's largest block
  bool small = false;
  for_groups(type, to, n, [&](int64_t g, const Quanta& quanta) {
    const double stored = std::abs(static_cast<double>(to_float(quanta.scale)));
    if (small || stored >= range_of(DType::kF16).least_normal) return;
    double extreme = 0;  // of all that the scale belongs to
    const int64_t elements = block_elements(type), first = g * kGroupElements / elements * elements;
    for (int64_t i = first; i < std::min(n, first + elements); ++i)
      extreme = std::max(extreme, std::abs(static_cast<double>(from[i])));
    small = std::abs(stored * levels - extreme) > half_step;
  });
  return small;
}

// Where a row of the matrix lies in the file.
const char* stored_row(const StoredMatrix& m, int64_t row) {
  if (m.order) row = (*m.order)[static_cast<size_t>(row)];
  return static_cast<const char*>(m.data) + row * row_bytes(m.type, m.n_in);
}

// Converts up to kRows rows at a time. Each thread has one.
class RowConverter {
 public:
  const SmallRows& small() const { return small_; }
  int64_t first_small() const { return first_small_; }

  // Rows [first, first + n) in `type`, row_bytes(type, n_in) each, one after the other; valid until the next
  // call.
  const char* rows(const StoredMatrix& m, DType type, int64_t first, int64_t n) {
    if (m.type == type && is_block_type(type)) {
      const int64_t bytes = row_bytes(type, m.n_in);
      if (m.order) bytes_.resize(static_cast<size_t>(n * bytes));
      for (int64_t r = 0; r < n; ++r) {
        const char* stored = stored_row(m, first + r);
        if (find_bad_block(type, stored, blocks_of_row(m.type, m.n_in)) >= 0)
          fail(m, first + r, ErrorCode::kBadFile, "a block whose scale is NaN or infinite");
        if (m.order) std::copy_n(stored, bytes, bytes_.data() + r * bytes);
      }
      return m.order ? bytes_.data() : stored_row(m, first);
    }
    read(m, first, n);
    bytes_.resize(static_cast<size_t>(n * row_bytes(type, m.n_in)));
    for (int64_t r = 0; r < n; ++r) {
      write(m, first + r, type, floats_.data() + r * m.n_in, largest_[static_cast<size_t>(r)],
            bytes_.data() + r * row_bytes(type, m.n_in));
    }
    return bytes_.data();
  }

 private:
  // floats_ = the rows.
  void read(const StoredMatrix& m, int64_t first, int64_t n) {
    floats_.resize(static_cast<size_t>(n * m.n_in));
    largest_.assign(static_cast<size_t>(n), 0.0);
    if (m.transposed) return read_columns(m, first, n);
    for (int64_t r = 0; r < n; ++r) {
      const char* stored = stored_row(m, first + r);
      float* row = floats_.data() + r * m.n_in;
      if (!is_block_type(m.type)) {
        row_to_f32(m.type, stored, m.n_in, row);
        if (m.type == DType::kF64) largest_[static_cast<size_t>(r)] = largest_double(stored, m.n_in);
        continue;
      }
      if (find_bad_block(m.type, stored, blocks_of_row(m.type, m.n_in)) >= 0)
        fail(m, first + r, ErrorCode::kBadFile, "a block whose scale is NaN or infinite");
      dequantize_blocks(m.type, stored, m.n_in, row);
    }
  }

  void read_columns(const StoredMatrix& m, int64_t first, int64_t n) {
    float line[kRows];
    for (int64_t i = 0; i < m.n_in; ++i) {
      const char* stored = static_cast<const char*>(m.data) + (i * m.n_out + first) * dtype_size(m.type);
      row_to_f32(m.type, stored, n, line);
      for (int64_t r = 0; r < n; ++r) {
        floats_[static_cast<size_t>(r * m.n_in + i)] = line[r];
        if (m.type != DType::kF64) continue;
        double& largest = largest_[static_cast<size_t>(r)];
        largest = std::max(largest, largest_double(stored + r * dtype_size(m.type), 1));
      }
    }
  }

  static double largest_double(const char* stored, int64_t n) {
    double largest = 0;
    for (int64_t i = 0; i < n; ++i) {
      double value;
      std::memcpy(&value, stored + i * static_cast<int64_t>(sizeof value), sizeof value);
      largest = std::max(largest, std::abs(value));
    }
    return largest;
  }

  void count_small(const StoredMatrix& m, int64_t row, DType type, double largest) {
    ++small_.n_small;
    if (first_small_ >= 0 && first_small_ < row) return;
    first_small_ = row;
    small_.first = fmt::format("{}, row {}", m.name, row);
    small_.largest = largest;
    small_.type = type;
  }

  // `stored_largest` is the largest magnitude of the row before it became f32, or 0 if its type was not
  // larger.
  void write(const StoredMatrix& m, int64_t row, DType type, const float* from, double stored_largest,
             char* to) {
    float largest = 0;
    bool finite = true;
    for (int64_t i = 0; i < m.n_in; ++i) {
      finite = finite && std::isfinite(from[i]);
      largest = std::max(largest, std::abs(from[i]));
    }
    if (!finite) {
      fail(m, row, ErrorCode::kBadFile,
           m.type == DType::kF64 ? "a weight that is NaN, infinite or too large for f32"
                                 : "a NaN or infinite weight");
    }
    bool fits = true;
    if (is_block_type(type)) {
      quantize_blocks(type, from, m.n_in, to);
      fits = find_bad_block(type, to, blocks_of_row(type, m.n_in)) < 0;
    } else {
      row_from_f32(type, from, m.n_in, to);
      if (type == DType::kF16) fits = std::isfinite(to_float(to_f16(largest)));
      if (type == DType::kBF16) fits = std::isfinite(to_float(to_bf16(largest)));
    }
    if (!fits) {
      fail(m, row, ErrorCode::kOutOfRange,
           fmt::format("weights up to {} are too large for {}", largest, dtype_name(type)));
    }
    ++small_.n_rows;
    if (stored_largest != 0 && stored_largest < range_of(DType::kF32).least_normal) {
      count_small(m, row, DType::kF32, stored_largest);
    } else if (is_block_type(type) ? too_small_for_blocks(type, from, m.n_in, largest, to)
                                   : too_small_for_floats(type, from, m.n_in, largest, to)) {
      count_small(m, row, type, largest);
    }
  }

  std::vector<float> floats_;
  std::vector<double> largest_;  // of each row of f64, before it became f32; else 0
  std::vector<char> bytes_;
  SmallRows small_;
  int64_t first_small_ = -1;
};

void add(const std::vector<RowConverter>& converters, SmallRows* all) {
  if (all == nullptr) return;
  const RowConverter* first = nullptr;
  for (const RowConverter& c : converters) {
    all->n_rows += c.small().n_rows;
    all->n_small += c.small().n_small;
    const bool earlier = first == nullptr || c.first_small() < first->first_small();
    if (c.first_small() >= 0 && earlier) first = &c;
  }
  if (first == nullptr || !all->first.empty()) return;
  all->first = first->small().first;
  all->largest = first->small().largest;
  all->type = first->small().type;
}

// Calls fn(first row, number of rows, these rows in `type`) for all rows, kRows at a time.
template <typename Fn>
void for_rows(const StoredMatrix& m, DType type, ThreadPool& pool, SmallRows* small, const Fn& fn) {
  std::vector<RowConverter> converters(static_cast<size_t>(pool.size()));
  pool.parallel_for((m.n_out + kRows - 1) / kRows, [&](int64_t task, int worker) {
    const int64_t first = task * kRows;
    const int64_t n = std::min(kRows, m.n_out - first);
    fn(first, n, converters[static_cast<size_t>(worker)].rows(m, type, first, n));
  });
  add(converters, small);
}

}  // namespace

void SmallRows::warn(const std::string& source) const {
  if (n_small == 0) return;
  log_warning(fmt::format(
      "{}: weights that are too small for {} in {} of {} rows (first: {}, whose largest is {:.3g}): "
      "they lose digits or become 0",
      source, dtype_name(type), n_small, n_rows, first, largest));
}

Weight convert_matrix(const StoredMatrix& from, DType type, ThreadPool& pool, std::vector<Buffer>* owner,
                      SmallRows* small) {
  Weight w{.type = type, .n_out = from.n_out, .n_in = from.n_in, .row_stride = from.n_in};
  if (!is_block_type(type)) {
    owner->push_back(convert_to_rows(from, type, pool, small));
    w.data = owner->back().data();
    return w;
  }
  Buffer panels(panels_bytes(type, from.n_out, from.n_in), "the converted weights");
  for_rows(from, type, pool, small, [&](int64_t first, int64_t n, const char* rows) {
    const void* list[kRows];
    for (int64_t r = 0; r < n; ++r) list[r] = rows + r * row_bytes(type, from.n_in);
    pack_panel(type, list, n, from.n_in,
               panels.as<char>() + first / kPanelOutputs * panel_bytes(type, from.n_in));
  });
  w.data = panels.data();
  owner->push_back(std::move(panels));
  return w;
}

Buffer convert_to_rows(const StoredMatrix& from, DType type, ThreadPool& pool, SmallRows* small) {
  SEPLLM_CHECK(!(from.transposed && (is_block_type(from.type) || from.order)));
  const int64_t bytes = row_bytes(type, from.n_in);
  Buffer out(from.n_out * bytes, "the converted weights");
  for_rows(from, type, pool, small, [&](int64_t first, int64_t n, const char* rows) {
    std::copy_n(rows, n * bytes, out.as<char>() + first * bytes);
  });
  return out;
}

}  // namespace sepllm
