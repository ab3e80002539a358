// The tile product by products of bytes (linear_many_blocks.h), for vectors of any length: included by the
// files of AVX2 and AVX-512 after their `Bytes`, where their instructions are allowed.
//
// maddubs adds two products of an unsigned and a signed byte to 16 bits. Of unsigned weights of 4 to 6 bits
// several such sums fit 16 bits. Signed weights of 8 bits are multiplied as |w| * (x with the sign of w): a
// sum is at most 2 * 128 * 127, which fits, because rounded rows have no -128.

namespace sepllm {
namespace {

// What differs between the forms of panels.
template <typename Panel>
struct ByteForm {
  static constexpr PanelForm kForm = Panel::kForm;
  static constexpr bool kSigned = kForm.bits == 8;
  static constexpr bool kMinima = kForm.has_minima();
  static constexpr bool kStarts = !kSigned && kForm.zero != 0;
  static constexpr int kParts = kForm.parts();
  static_assert(!kSigned || (kParts == 1 && !kMinima));
  // Lines of a block whose sums 16 bits hold.
  static constexpr int kAtOnce = kSigned ? 1 : kForm.bits == 4 ? 8 : kForm.bits == 5 ? 4 : 2;
  static_assert(kSigned || kAtOnce * 2 * kForm.mask() * 127 < 1 << 15);
  static constexpr int kRows = Bytes::rows_at_once(kForm.bits);
  static_assert(kTileRows % kRows == 0);
  using Record = std::conditional_t<kParts == 2, HalvesRecord, RowsRecord>;
};

// Two vectors of outputs of the tile, of a panel or of both: where they are in the lines, scales and sums.
constexpr int kVectorsOfLine = 16 / Bytes::kOutputs;
constexpr int kVectorPairs = kTilePanels * kVectorsOfLine / 2;
template <int kPair>
struct Vectors {
  static constexpr int panel(int v) { return (2 * kPair + v) / kVectorsOfLine; }
  static constexpr int first(int v) { return (2 * kPair + v) % kVectorsOfLine * Bytes::kOutputs; }
};

template <int kRows>
using Dots = Bytes::Ints[2][kRows];

HWY_INLINE Bytes::Ints four_values(const int8_t* at) {
  int32_t four;
  std::memcpy(&four, at, sizeof(four));
  return Bytes::every(four);
}

// Keeps the compiler from adding in another order, for which it would keep all products until the end, in
// more registers than there are (GCC: twice as slow).
HWY_INLINE Bytes::Ints in_order(Bytes::Ints v) {
  __asm__("" : "+v"(v));
  return v;
}

// dots: the products of part kPart of a block, kRows rows from `values` on times two vectors of outputs.
template <typename Form, int kPair, int kPart>
HWY_INLINE void add_products(const int8_t (*values)[kGroupElements], const WeightsRecord* w,
                             Dots<Form::kRows>& dots) {
  constexpr int kLines = 8 / Form::kParts;
  Dots<Form::kRows> narrow;
#pragma GCC unroll 8
  for (int j = kPart * kLines; j < (kPart + 1) * kLines; ++j) {
    const bool begins = j % Form::kAtOnce == 0, ends = (j + 1) % Form::kAtOnce == 0;
    Bytes::Ints line[2];
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v)
      line[v] = Bytes::load(w->values[Vectors<kPair>::panel(v)][j] + 4 * Vectors<kPair>::first(v));
#pragma GCC unroll 8
    for (int r = 0; r < Form::kRows; ++r) {
      const Bytes::Ints four = four_values(values[r] + 4 * j);
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        const Bytes::Ints two =
            Form::kSigned ? Bytes::multiply_signed(line[v], four) : Bytes::multiply(line[v], four);
        narrow[v][r] = in_order(begins ? two : Bytes::add16(narrow[v][r], two));
        if (!ends) continue;
        const Bytes::Ints wide = Bytes::add_pairs16(narrow[v][r]);
        const bool is_first = j - kPart * kLines < Form::kAtOnce;
        dots[v][r] = in_order(is_first ? wide : Bytes::add32(dots[v][r], wide));
      }
    }
  }
}

// Adds part kPart of a block to the sums of kRows rows, which have a scale of their own.
template <typename Form, int kPair, int kPart>
HWY_INLINE void add_part(const typename Form::Record* x, int64_t row, const WeightsRecord* w, float* sums) {
  const int32_t* starts = x->starts + row;
  if constexpr (kPart == 1) starts = x->second_starts + row;
  Dots<Form::kRows> dots;
  add_products<Form, kPair, kPart>(x->values + row, w, dots);
#pragma GCC unroll 2
  for (int v = 0; v < 2; ++v) {
    const auto& outputs = w->outputs[Vectors<kPair>::panel(v)];
    const int first = Vectors<kPair>::first(v);
    const Bytes::Floats scale = Bytes::load((kPart == 0 ? outputs.scale : outputs.second) + first);
    Bytes::Floats minimum = scale;
    if constexpr (Form::kMinima) minimum = Bytes::load(outputs.second + first);
#pragma GCC unroll 8
    for (int r = 0; r < Form::kRows; ++r) {
      const Bytes::Ints dot = Form::kStarts ? Bytes::add32(dots[v][r], Bytes::every(starts[r])) : dots[v][r];
      float* at = sums + (Vectors<kPair>::panel(v) * kTileRows + row + r) * 16 + first;
      Bytes::Floats sum = Bytes::multiply_add(Bytes::multiply(scale, Bytes::to_floats(dot)),
                                              Bytes::every(x->scales[row + r]), Bytes::load(at));
      if constexpr (Form::kMinima) sum = Bytes::multiply_add(minimum, Bytes::every(x->sums[row + r]), sum);
      Bytes::store(at, sum);
    }
  }
}

// All blocks of a tile, for a pair of vectors of outputs.
template <typename Form, int kPair>
HWY_INLINE void run_byte_pair(const typename Form::Record* x, const WeightsRecord* w, int64_t n_blocks,
                              float* sums) {
  for (int64_t row = 0; row < kTileRows; row += Form::kRows) {
    for (int64_t k = 0; k < n_blocks; ++k) {
      add_part<Form, kPair, 0>(x + k, row, w + k, sums);
      if constexpr (Form::kParts == 2) add_part<Form, kPair, 1>(x + k, row, w + k, sums);
    }
  }
}

template <typename Panel>
void run_byte_tiles_of(const TileRun& run) {
  using Form = ByteForm<Panel>;
  const auto* x = static_cast<const typename Form::Record*>(run.rows);
  const char* ahead0 = run.ahead[0];
  const char* ahead1 = run.ahead[1];
  float* sums = run.sums;
  for (int64_t tile = 0; tile < run.n_tiles; ++tile, x += run.n_blocks, sums += kTileSums) {
    for (int64_t line = 0; line < run.ahead_lines; ++line, ahead0 += 64, ahead1 += 64) {
      _mm_prefetch(ahead0, _MM_HINT_T1);
      _mm_prefetch(ahead1, _MM_HINT_T1);
    }
    if (run.first) std::fill_n(sums, kTileSums, 0.0F);
    run_byte_pair<Form, 0>(x, run.weights, run.n_blocks, sums);
    if constexpr (kVectorPairs == 2) run_byte_pair<Form, 1>(x, run.weights, run.n_blocks, sums);
  }
}

void run_byte_tiles(const TileRun& run) {
  with_panel(run.type, [&](auto panel) { run_byte_tiles_of<decltype(panel)>(run); });
}

}  // namespace
}  // namespace sepllm
