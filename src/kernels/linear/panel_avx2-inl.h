// As panel_avx512-inl.h for AVX2, whose vectors hold half a line: 8 outputs.

namespace sepllm {
namespace {

HWY_INLINE __m256i load_half(const char* at) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(at));
}

// `low`, which has the low four bits of group `group`'s values in half h of line j, with the bits above them.
template <typename Panel>
HWY_INLINE __m256i with_high_bits(__m256i low, const char* pair, int group, int j, int h) {
  constexpr PanelForm kForm = Panel::kForm;
  const __m256i line = load_half(pair + 64 * kForm.high_line(group, j) + 32 * h);
  const int up = 4 - kForm.high_shift(j);
  const __m256i there = up >= 0 ? _mm256_slli_epi16(line, up) : _mm256_srli_epi16(line, -up);
  const __m256i mask = _mm256_set1_epi8(static_cast<char>(kForm.mask() & ~kForm.low_mask()));
  return _mm256_or_si256(low, _mm256_and_si256(there, mask));
}

// The scales of a unit's groups; h: of the first or the second 8 outputs.
template <typename Panel>
class UnitScales {
 public:
  HWY_INLINE explicit UnitScales(const char* unit) : unit_(unit) {
    if constexpr (kForm.scales == PanelScales::kBlocksMinima) unpack();
  }
  // Of part `part` of group g < 2 of pair `pair`.
  HWY_INLINE __m256 scale(int pair, int g, int part, int h) const {
    const int group = 2 * pair + g;
    if constexpr (kForm.scales == PanelScales::kBlocksMinima) {
      return _mm256_mul_ps(halves(unit_ + 16 * h), unsigned_bytes(six_bits_[0][group] + 8 * h));
    } else if constexpr (kForm.scales == PanelScales::kBlocksHalves) {
      const __m128i of_part = bytes(unit_ + 64 + 16 * (2 * group + part) + 8 * h);
      return _mm256_mul_ps(halves(unit_ + 16 * h), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(of_part)));
    } else {
      return halves(unit_ + kForm.pair_at(pair) + kForm.values_bytes() + 32 * g + 16 * h);
    }
  }
  HWY_INLINE __m256 minimum(int pair, int g, int h) const {
    if constexpr (kForm.scales == PanelScales::kBlocksMinima) {
      const __m256 of_block = _mm256_xor_ps(halves(unit_ + 32 + 16 * h), _mm256_set1_ps(-0.0F));
      return _mm256_mul_ps(of_block, unsigned_bytes(six_bits_[1][2 * pair + g] + 8 * h));
    } else {
      return halves(unit_ + kForm.pair_at(pair) + kForm.values_bytes() + 64 + 32 * g + 16 * h);
    }
  }

 private:
  static constexpr PanelForm kForm = Panel::kForm;

  static HWY_INLINE __m256 halves(const char* at) {
    return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(at)));
  }
  static HWY_INLINE __m128i bytes(const void* at) { return _mm_loadl_epi64(static_cast<const __m128i*>(at)); }
  static HWY_INLINE __m256 unsigned_bytes(const void* at) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes(at)));
  }

  // The 6-bit numbers of k_scales.h; half a line holds 2 of the 12 bytes.
  HWY_INLINE void unpack() {
    const __m256i six = _mm256_set1_epi8(63), four = _mm256_set1_epi8(15), two = _mm256_set1_epi8(48);
    const auto upper = [&](__m256i line) { return _mm256_and_si256(_mm256_srli_epi16(line, 2), two); };
    const auto put = [](uint8_t* to, __m256i v) { _mm256_store_si256(reinterpret_cast<__m256i*>(to), v); };
    for (int k = 0; k < 2; ++k) {
      const __m256i a = load_half(unit_ + 64 + 32 * k), b = load_half(unit_ + 128 + 32 * k),
                    c = load_half(unit_ + 192 + 32 * k);
      put(six_bits_[0][2 * k], _mm256_and_si256(a, six));
      put(six_bits_[0][4 + 2 * k], _mm256_or_si256(_mm256_and_si256(c, four), upper(a)));
      put(six_bits_[1][2 * k], _mm256_and_si256(b, six));
      put(six_bits_[1][4 + 2 * k],
          _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(c, 4), four), upper(b)));
    }
  }

  const char* unit_;
  alignas(32) uint8_t six_bits_[2][8][16];  // scales, minima of groups
};

}  // namespace
}  // namespace sepllm
