// A study as a page (report/page.h): what it found, and the pictures behind it (specification evaluation.md, 10.6 and
// 11).
#pragma once

#include "compare/study.h"
#include "report/page.h"

namespace adze {

Page study_page(const PreparedStudy& prepared, const Study& study);

}  // namespace adze
