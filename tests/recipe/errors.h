// Helpers of the recipe tests: what a parse throws, and places by searching for a word instead of counting columns.
#pragma once

#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "base/error.h"

namespace adze::testing {

/// Runs `parse` and returns the message of the Error(bad_recipe) it throws; "" (and a failure) when it throws none.
template <typename Parse>
std::string recipe_error(Parse&& parse) {
  try {
    parse();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_recipe) << error.message();
    return error.message();
  }
  ADD_FAILURE() << "no error";
  return "";
}

inline std::string repeated(std::string_view piece, std::size_t times) {
  std::string text;
  text.reserve(piece.size() * times);
  for (std::size_t i = 0; i < times; ++i) text += piece;
  return text;
}

}  // namespace adze::testing
