#include "tests/support/packed.h"

#include <zlib.h>
#include <zstd.h>

#include "base/check.h"

namespace sepllm::test {

std::string gzip(std::string_view content) {
  z_stream stream{};
  constexpr int kGzip = 16;
  SEPLLM_CHECK(deflateInit2(&stream, 6, Z_DEFLATED, MAX_WBITS + kGzip, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&stream, content.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int code = deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  SEPLLM_CHECK(code == Z_STREAM_END);
  return out;
}

std::string zstd(std::string_view content) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  std::string out(ZSTD_compressBound(content.size()), '\0');
  const size_t size = ZSTD_compress2(context, out.data(), out.size(), content.data(), content.size());
  ZSTD_freeCCtx(context);
  SEPLLM_CHECK(ZSTD_isError(size) == 0);
  out.resize(size);
  return out;
}

}  // namespace sepllm::test
