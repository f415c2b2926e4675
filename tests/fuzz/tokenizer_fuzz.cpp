// A tokenizer.json of any bytes either loads or is refused with an Error; one that loads encodes and decodes anything.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  constexpr std::string_view kSample =
      "Hello  world, it's 1234!\r\n\n caf\xC3\xA9 e\xCC\x81 \xE6\x97\xA5 <|start|> \xFF 'LL";
  try {
    const adze::Tokenizer tokenizer = adze::Tokenizer::from_json(bytes, "fuzz");
    const auto size_of_vocabulary = static_cast<std::int64_t>(tokenizer.size());
    for (const std::string_view text : {kSample, bytes.substr(0, 4096)}) {
      const auto ids = tokenizer.encode(text, /*add_special=*/true);
      for (const std::int32_t id : ids)
        if (id < 0 || id >= size_of_vocabulary) std::abort();
      if (tokenizer.decode(ids).size() > 3 * (1 << 24)) std::abort();
    }
  } catch (const adze::Error&) {
  }
  return 0;
}
