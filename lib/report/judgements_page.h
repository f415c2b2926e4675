// What one run of adze eval found, as a page (report/page.h).
#pragma once

#include "report/judgements.h"
#include "report/page.h"

namespace adze {

/// tokenizer: of the texts, which makes exemplars readable.
Page judgements_page(const Judgements& judged, const Tokenizer& tokenizer);

}  // namespace adze
