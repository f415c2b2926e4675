// The stored bytes of a matrix, coded without loss (entropy/coded_symbols.h), for files that nobody computes with
// before they are decoded. Two ways, whichever is smaller:
//
//   grid    of a QuantizedTensor, any grid: side data, byte k of all units together with the context k; then codes,
//   each with
//           the context of its step group: where the grid has an offset its zero point, else the size of the step
//   bytes   of everything else: byte k of all elements of `period` bytes together with the context k
//
// A coded payload: u32 way (0 bytes, 1 grid), u32 period (bytes) or bytes of the coded side data (grid), i32 lowest
// code, u32 alphabet of the codes, u32 checksum of the payload (low half of XXH3's 64 bits); then the coded symbols, of
// side data first. It is at most kCodedPayloadFixedBytes + 8 bytes a chunk of 65536 bytes larger than the payload.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/matrix.h"
#include "entropy/coded_symbols.h"
#include "grid/compressed_tensor.h"

namespace adze {

constexpr std::size_t kCodedPayloadFixedBytes = 20 + kCodedFixedBytes;

struct PayloadReport {
  std::uint64_t payload_bytes = 0;
  std::uint64_t coded_bytes = 0;
  CodingReport codes;  ///< nothing where bytes were coded
  CodingReport side;   ///< side data, or all bytes
};

struct CodedPayload {
  std::vector<std::byte> bytes;
  PayloadReport report;
};

/// tensor.payload(), coded.
CodedPayload encode_payload(const CompressedTensor& tensor);

/// The payload, byte for byte; tensor_from_payload (grid/format.h) makes a tensor of it. Throws bad_data for bytes that
/// encode_payload did not write for a tensor of this format and shape.
std::vector<std::byte> decode_payload(const std::string& format, Shape shape, std::span<const std::byte> coded);

}  // namespace adze
