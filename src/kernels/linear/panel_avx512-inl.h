// What the kernels with AVX-512 share: lines of panels as vectors of unsigned bytes, and scales. Include
// where AVX-512 (F, BW, DQ, VL) is allowed, after hwy/base.h, immintrin.h and format.h.

namespace sepllm {
namespace {

HWY_INLINE __m512i load_line(const char* at) { return _mm512_load_si512(reinterpret_cast<const void*>(at)); }

// `low`, which has the low four bits of group `group`'s values in line j of a pair, with the bits above them.
template <typename Panel>
HWY_INLINE __m512i with_high_bits(__m512i low, const char* pair, int group, int j) {
  constexpr PanelForm kForm = Panel::kForm;
  const __m512i line = load_line(pair + 64 * kForm.high_line(group, j));
  const int up = 4 - kForm.high_shift(j);
  const __m512i there = up >= 0 ? _mm512_slli_epi16(line, static_cast<unsigned>(up))
                                : _mm512_srli_epi16(line, static_cast<unsigned>(-up));
  const __m512i mask = _mm512_set1_epi8(static_cast<char>(kForm.mask() & ~kForm.low_mask()));
  return _mm512_ternarylogic_epi32(low, there, mask, 0xF8);  // low | (there & mask)
}

// The scales of a unit's groups, of 16 outputs.
template <typename Panel>
class UnitScales {
 public:
  HWY_INLINE explicit UnitScales(const char* unit) : unit_(unit) {
    if constexpr (kForm.of_blocks()) scale_ = halves(unit);
    if constexpr (kForm.scales == PanelScales::kBlocksMinima) {
      minimum_ = negative(halves(unit + 32));
      unpack();
    }
  }
  // Of part `part` of group g < 2 of pair `pair`.
  HWY_INLINE __m512 scale(int pair, int g, int part) const {
    const int group = 2 * pair + g;
    if constexpr (kForm.scales == PanelScales::kBlocksMinima) {
      return _mm512_mul_ps(scale_, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes(six_bits_[0][group]))));
    } else if constexpr (kForm.scales == PanelScales::kBlocksHalves) {
      const char* at = unit_ + 64 + 16 * (2 * group + part);
      return _mm512_mul_ps(scale_, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes(at))));
    } else {
      return halves(unit_ + kForm.pair_at(pair) + kForm.values_bytes() + 32 * g);
    }
  }
  HWY_INLINE __m512 minimum(int pair, int g) const {
    if constexpr (kForm.scales == PanelScales::kBlocksMinima) {
      const __m128i of_group = bytes(six_bits_[1][2 * pair + g]);
      return _mm512_mul_ps(minimum_, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(of_group)));
    } else {
      return halves(unit_ + kForm.pair_at(pair) + kForm.values_bytes() + 64 + 32 * g);
    }
  }

 private:
  static constexpr PanelForm kForm = Panel::kForm;

  static HWY_INLINE __m512 halves(const char* at) {
    return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(at)));
  }
  static HWY_INLINE __m512 negative(__m512 v) { return _mm512_xor_ps(v, _mm512_set1_ps(-0.0F)); }
  static HWY_INLINE __m128i bytes(const void* at) { return _mm_load_si128(static_cast<const __m128i*>(at)); }

  // The 6-bit numbers of k_scales.h; a line holds 4 of the 12 bytes.
  HWY_INLINE void unpack() {
    const __m512i a = load_line(unit_ + 64), b = load_line(unit_ + 128), c = load_line(unit_ + 192);
    const __m512i six = _mm512_set1_epi8(63), four = _mm512_set1_epi8(15), two = _mm512_set1_epi8(48);
    const auto upper = [&](__m512i line) { return _mm512_and_si512(_mm512_srli_epi16(line, 2), two); };
    _mm512_store_si512(six_bits_[0][0], _mm512_and_si512(a, six));
    _mm512_store_si512(six_bits_[0][4], _mm512_or_si512(_mm512_and_si512(c, four), upper(a)));
    _mm512_store_si512(six_bits_[1][0], _mm512_and_si512(b, six));
    _mm512_store_si512(six_bits_[1][4],
                       _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(c, 4), four), upper(b)));
  }

  const char* unit_;
  __m512 scale_, minimum_;                  // of blocks; the minimum negative
  alignas(64) uint8_t six_bits_[2][8][16];  // scales, minima of groups
};

}  // namespace
}  // namespace sepllm
