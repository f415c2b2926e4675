// The older kind of importance matrix (.dat), little-endian without a magic number: i32 number of entries; per entry
// i32 length of the name, name, i32 calls, i32 number of values, f32 values (mean square * calls); then i32 chunks,
// i32 length of the text's name, that name. Very old files end after the entries.
#pragma once

#include <string>
#include <string_view>

#include "checkpoint/imatrix.h"

namespace adze {

/// Entries in the order of the file; what they hold is not judged. Throws bad_data: counts that the bytes cannot hold,
/// cut or trailing bytes.
Imatrix parse_imatrix_dat(std::string_view bytes);

/// Several counts of one entry become one: sums are scaled to it. Throws bad_data for counts that are no whole numbers
/// below 2^31.
std::string imatrix_dat_bytes(const Imatrix& imatrix);

}  // namespace adze
